import type { VmDetails, VmParts } from '../../api/host-agent.js'
import { changeDisk, changeHome, changeVtpmKeys, removeVtpm } from './change-part.js'
import { changeParts, type EncryptionOptions, type PartsOperation } from './part-by-part.js'
import type { VmHost } from './vm-host.js'
import { type Part, partsToDecrypt, partsToEncrypt, partsToRecrypt } from './vm-parts.js'

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
  /** New data keys, and with them new wrapped keys: a deep recrypt. */
  recrypt(name: string, parts: VmParts, options?: EncryptionOptions): Promise<VmDetails>
  /** What the guest has sealed to its virtual TPM is lost. @throws PlatformError `VM_PLAIN` where there is none */
  removeVtpm(name: string): Promise<VmDetails>
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

    recrypt: (name, parts, options = {}) =>
      run(
        name,
        'recrypt',
        options,
        ({ descriptor }) => partsToRecrypt(descriptor, parts),
        (vm, part, work) => {
          if (part === 'home') return changeHome(host, vm, vm.descriptor.provider, work)
          if (part === 'vtpm') return changeVtpmKeys(host, vm, work)
          return changeDisk(host, vm, diskOf(part), 'encrypted', work)
        },
      ),

    removeVtpm: (name) =>
      run(
        name,
        'remove-vtpm',
        {},
        ({ descriptor }) => partsToRecrypt(descriptor, { vtpm: true }),
        (vm, _part, work) => removeVtpm(host, vm, work),
      ),
  }
}

function diskOf(part: Part): string {
  return part.slice('disk-'.length)
}
