import type { VmDetails, VmParts } from '../../api/host-agent.js'
import { changeDisk, changeHome, changeVtpmKeys, removeVtpm, type Work } from './change-part.js'
import { requireSpace } from './disk-space.js'
import { LUKS_PAYLOAD_OCTETS } from './luks-header.js'
import { OctetProgress } from './octet-progress.js'
import type { OnProgress } from './ports.js'
import type { VmHost } from './vm-host.js'
import { type Part, partOf, partsToDecrypt, partsToEncrypt, partsToRecrypt } from './vm-parts.js'
import type { StoredVm } from './vm-store.js'

/** Room for records, and for what a file system needs for itself. */
const OVERHEAD_OCTETS = 4 * 1024 * 1024

/** How a long operation is watched, and ended early. */
export interface Following {
  readonly onProgress?: OnProgress
  /** Before the moment in which a part is changed, that part is left as it was; parts before it stay changed. */
  readonly signal?: AbortSignal
}

export interface EncryptionOptions extends Following {
  /** How much of a copy is compared with its original: some MiB of it, or all. */
  readonly compare?: 'samples' | 'all'
}

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
  const run = (
    name: string,
    operation: string,
    options: EncryptionOptions,
    plan: (vm: StoredVm) => readonly Part[],
    change: (vm: StoredVm, part: Part, work: Work) => Promise<void>,
  ): Promise<VmDetails> =>
    host.claim(name, operation, async (claimed) => {
      const parts = plan(claimed)
      const sizes = parts.map((part) => sizeOf(claimed, part))
      await requireSpace(host.store.directory, Math.max(...sizes.map(roomFor)))
      const { onProgress = () => undefined, signal, compare = 'samples' } = options
      const total = sizes.reduce((sum, octets) => sum + octets, 0)
      const progress = new OctetProgress(onProgress, total)
      for (const part of parts) {
        signal?.throwIfAborted()
        await change(await host.store.find(name), part, { progress, signal, compare })
        progress.copied(sizeOf(claimed, part))
        const { vmId } = claimed.descriptor
        host.logger.info(
          { event: `vm.${operation}`, vmId, name, part },
          'a part of a VM was changed',
        )
      }
      const changed = await host.store.find(name)
      await host.report(changed)
      progress.end()
      return host.details(changed)
    })

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

function sizeOf({ descriptor }: StoredVm, part: Part): number {
  return descriptor.disks.find((disk) => partOf(disk) === part)?.sizeOctets ?? 0
}

function roomFor(sizeOctets: number): number {
  return sizeOctets + LUKS_PAYLOAD_OCTETS + OVERHEAD_OCTETS
}
