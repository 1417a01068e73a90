import type { VmDetails, VmParts } from '../../api/host-agent.js'
import { PlatformError } from '../../core/errors.js'
import { changeDisk, changeHome, changeProvider, changeVtpmKeys } from './change-part.js'
import {
  changeParts,
  doSteps,
  type EncryptionOptions,
  type PartsOperation,
} from './part-by-part.js'
import type { VmHost } from './vm-host.js'
import { type Part, partsToDecrypt, partsToEncrypt, partsToRecrypt } from './vm-parts.js'
import type { StoredVm } from './vm-store.js'

/**
 * Encryption, decryption and new keys of VMs that exist and are stopped, part by part. Each part is changed wholly or
 * not at all, whenever the process ends; parts that were done stay done, and every state between is one that is allowed.
 *
 * Every method throws `VM_NOT_FOUND`, `VM_RUNNING`, `VM_BUSY`, `VM_DISK_FULL`, `VM_DISK_CORRUPT`, `VM_KEY_WRONG`,
 * `VM_COPY_DIFFERS`, `VM_PROCESS`, the reason of the signal, errors of the key provider, and what the rules for its
 * parts throw.
 */
export interface VmEncryption {
  encrypt(
    name: string,
    request: VmParts & {
      readonly provider?: string | undefined
      /** For a VM that has no provider, where none is named. */
      readonly defaultProvider?: string | undefined
    },
    options?: EncryptionOptions,
  ): Promise<VmDetails>
  decrypt(name: string, parts: VmParts, options?: EncryptionOptions): Promise<VmDetails>
  /**
   * New data keys, and with them new wrapped keys: a deep recrypt. With another provider, all keys are wrapped by that first.
   *
   * @throws PlatformError `REQUEST_INVALID` for another provider and some parts alone
   */
  recrypt(
    name: string,
    request: VmParts & { readonly provider?: string | undefined },
    options?: EncryptionOptions,
  ): Promise<VmDetails>
}

export function createVmEncryption(host: VmHost): VmEncryption {
  const run: PartsOperation = (...of) => changeParts(host, ...of)
  return {
    encrypt: (name, { provider, defaultProvider, ...parts }, options = {}) =>
      run(
        name,
        'encrypt',
        options,
        ({ descriptor }) => partsToEncrypt(descriptor, parts, provider, defaultProvider),
        (vm, part, work) =>
          part === 'home'
            ? changeHome(host, vm, provider ?? defaultProvider, work)
            : changeDisk(host, vm, diskOf(part), 'encrypted', work),
      ),

    decrypt: (name, parts, options = {}) =>
      run(
        name,
        'decrypt',
        options,
        ({ descriptor }) => partsToDecrypt(descriptor, parts),
        (vm, part, work) =>
          part === 'home'
            ? changeHome(host, vm, undefined, work)
            : changeDisk(host, vm, diskOf(part), 'plain', work),
      ),

    recrypt: (name, { provider, ...parts }, options = {}) =>
      host.claim(name, 'recrypt', (claimed) => {
        const steps: readonly { readonly part: Part; readonly provider?: string }[] = [
          ...(otherProvider(claimed, parts, provider) ?? []),
          ...partsToRecrypt(claimed.descriptor, parts).map((part) => ({ part })),
        ]
        const request = { operation: 'recrypt', options, steps }
        return doSteps(host, claimed, request, (vm, step, work) => {
          if (step.provider !== undefined) return changeProvider(host, vm, step.provider, work)
          if (step.part === 'home') return changeHome(host, vm, vm.descriptor.provider, work)
          if (step.part === 'vtpm') return changeVtpmKeys(host, vm, work)
          return changeDisk(host, vm, diskOf(step.part), 'encrypted', work)
        })
      }),
  }
}

/**
 * The step that has the keys which a VM has wrapped by another provider; new ones are wrapped by that then. A VM has one provider, so
 * this is about all of its parts.
 */
function otherProvider(
  { descriptor }: StoredVm,
  { home, vtpm, disks = [] }: VmParts,
  provider: string | undefined,
): readonly { readonly part: Part; readonly provider: string }[] | undefined {
  if (provider === undefined || provider === descriptor.provider) return undefined
  if (home || vtpm || disks.length > 0) {
    const message = `expected all parts of VM ${descriptor.name} to get keys of ${provider}`
    throw new PlatformError('REQUEST_INVALID', message)
  }
  return descriptor.provider === undefined ? undefined : [{ part: 'home', provider }]
}

function diskOf(part: Part): string {
  return part.slice('disk-'.length)
}
