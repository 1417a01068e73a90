import type { KeyView, VmDetails } from '../../api/host-agent.js'
import type { Assurance } from '../../api/key-provider.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import { diskFileOf, readDiskFile } from './disk-file.js'
import { lockReasonOf } from './lock.js'
import type { Home } from './records.js'
import { isRunning } from './running.js'
import { snapshotNames } from './snapshot-files.js'
import { detailsOf } from './vm-details.js'
import { factsOf, type VmFacts } from './vm-facts.js'
import type { VmHost } from './vm-host.js'
import type { KeyObject, VmKeys } from './vm-keys.js'
import { findDisk, homeKey } from './vm-parts.js'

const MAX_READ_OCTETS = 1024 * 1024

/** What VMs are and have, read. */
export interface VmViews {
  /** What is known without keys: no memory, processors or certificates. */
  list(): Promise<readonly VmDetails[]>
  /** Directories of VMs that `list` leaves out since nothing says what they are, and why. */
  listUnreadable(): Promise<readonly { readonly vmId: string; readonly message: string }[]>
  /**
   * A VM whose keys cannot be had now is shown as far as it is known without them.
   *
   * @throws PlatformError `VM_HOME_CORRUPT`
   */
  show(name: string): Promise<VmDetails>
  /**
   * Plain octets of a disk of a stopped VM, at most 1 MiB.
   *
   * @throws PlatformError `VM_DISK_NOT_FOUND`, `VM_RUNNING`, `VM_KEY_WRONG`, `VM_DISK_CORRUPT`, `REQUEST_INVALID`
   */
  readDisk(
    name: string,
    disk: string,
    offset: number,
    length: number,
    assurance?: Assurance,
  ): Promise<Uint8Array>
  /** What can be seen of a VM without its keys, by name or id; undefined where there is none. */
  facts(vm: string): Promise<VmFacts | undefined>
  /** As `facts`, of the VM that a task brought to this host from another. */
  factsOfBrought(taskId: string): Promise<VmFacts | undefined>
  /** `version` is that of the data key, not of the key that wraps it. */
  listKeys(): Promise<readonly KeyView[]>
}

export function createVmViews(host: VmHost): VmViews {
  const { store, programs } = host

  const facts: VmViews['facts'] = async (ref) => {
    await store.prepare()
    try {
      return await host.onVm(ref, async (vm) =>
        factsOf(vm, await store.readKeys(vm), {
          isRunning: await isRunning(vm.paths),
          ...(await snapshotNames(vm.paths)),
        }),
      )
    } catch (error) {
      if (isPlatformError(error, 'VM_NOT_FOUND')) return undefined
      throw error
    }
  }

  return {
    facts,

    factsOfBrought: async (taskId) => {
      await store.prepare()
      for (const vm of await store.list()) {
        const isBrought = (await store.readBrought(vm))?.taskId === taskId
        if (isBrought && !vm.exported) return facts(vm.descriptor.vmId)
      }
      return undefined
    },

    list: async () => {
      await store.prepare()
      return Promise.all((await store.list()).map((vm) => detailsOf(vm)))
    },

    listUnreadable: async () => {
      await store.prepare()
      return (await store.listUnreadable()).map(({ vmId, error }) => ({
        ...{ vmId, message: messageOf(error) },
      }))
    },

    show: (name) =>
      host.onVm(name, (vm) =>
        host
          .withKeys(vm, homeKey(vm.descriptor), (home) => detailsOf(vm, home))
          .catch((error: unknown) => {
            if (lockReasonOf(error) === undefined) throw error
            return detailsOf(vm)
          }),
      ),

    readDisk: (name, diskName, offset, length, assurance = host.assurance) =>
      host.onFreeVm(name, async (vm) => {
        checkRange(offset, length)
        const stored = findDisk(vm.descriptor, diskName)
        await host.requireStopped(vm)
        const object: KeyObject = `disk-${diskName}`
        const objects = stored.plain ? homeKey(vm.descriptor) : [...homeKey(vm.descriptor), object]
        const read = async (home: Home, opened: VmKeys) => {
          const disk = home.disks.find((candidate) => candidate.name === diskName)
          if (!disk || offset + length > disk.sizeOctets) {
            throw new PlatformError(
              'REQUEST_INVALID',
              `expected octets within the ${disk?.sizeOctets} of disk ${diskName}`,
            )
          }
          const key = stored.plain ? undefined : opened.of(object)
          return readDiskFile(programs, diskFileOf(vm.paths, disk), key, offset, length)
        }
        return host.withKeys(vm, objects, read, assurance)
      }),

    listKeys: async () => {
      await store.prepare()
      const views = (await store.list()).map(async (vm): Promise<readonly KeyView[]> => {
        const { vmId } = vm.descriptor
        return (await store.readKeys(vm)).map(({ object, purpose, provider, generation }) => ({
          ...{ vmId, object, purpose, provider, version: generation },
        }))
      })
      return (await Promise.all(views)).flat()
    },
  }
}

function checkRange(offset: number, length: number): void {
  const isRange = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0
  if (!isRange || length < 1 || length > MAX_READ_OCTETS) {
    throw new PlatformError('REQUEST_INVALID', `expected 1 to ${MAX_READ_OCTETS} octets`)
  }
}
