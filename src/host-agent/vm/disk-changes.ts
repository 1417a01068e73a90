import type { DiskCreate, VmDetails } from '../../api/host-agent.js'
import { PlatformError } from '../../core/errors.js'
import { fileName } from './change-part.js'
import { changeVm, wrapNewKeys } from './change-vm.js'
import { checkDiskFile, diskFileOf, isEncrypted } from './disk-file.js'
import { requireSpace } from './disk-space.js'
import { createPrivateFile } from './files.js'
import { LUKS_PAYLOAD_OCTETS } from './luks-header.js'
import { makeNewDisk, planDisk, roomForNew } from './new-disk.js'
import type { Following } from './part-by-part.js'
import { Progress } from './progress.js'
import type { Home } from './records.js'
import { plugIfRunning, resizeIfRunning, unplugIfRunning } from './running-disks.js'
import { detailsOf } from './vm-details.js'
import type { VmHost } from './vm-host.js'
import { type KeyObject, makeKeys, type VmKeys } from './vm-keys.js'
import { findDisk, homeKey, partOf } from './vm-parts.js'
import { checkDiskSpec, requireWholeSectors } from './vm-spec.js'
import type { StoredVm } from './vm-store.js'

export const MAX_DISKS = 16
const OVERHEAD_OCTETS = 4 * 1024 * 1024
const ADD_STEPS = 7
const MAY_RUN = { mayRun: true } as const

/**
 * Disks of VMs, which may run: each change is whole or undone whenever the process ends. A guest that runs sees each at once.
 *
 * Every method throws `VM_NOT_FOUND`, `VM_BUSY`, `VM_PROCESS`, `VM_DISK_FULL`, and errors of the key provider.
 */
export interface VmDisks {
  /**
   * Without a word on it, a disk is encrypted as the home of the VM is.
   *
   * @throws PlatformError `VM_DISK_EXISTS`, `VM_HOME_PLAIN`, `VM_IMAGE`, `REQUEST_INVALID`
   */
  addDisk(name: string, disk: DiskCreate, following?: Following): Promise<VmDetails>
  /**
   * The new end of an encrypted disk reads as noise, that of a plain one as zeros.
   *
   * @throws PlatformError `VM_DISK_NOT_FOUND`, `VM_DISK_CORRUPT`; `REQUEST_INVALID` for a size that is not larger
   */
  growDisk(name: string, disk: string, sizeOctets: number): Promise<VmDetails>
  /** Deletes the disk; key slots are erased first. @throws PlatformError `VM_DISK_NOT_FOUND` */
  removeDisk(name: string, disk: string): Promise<VmDetails>
}

export function createVmDisks(host: VmHost): VmDisks {
  const { programs, store } = host
  const changed = async (vm: StoredVm, event: string, disk: string): Promise<VmDetails> => {
    const { vmId, name } = vm.descriptor
    host.logger.info({ event, vmId, name, disk }, 'disks of a VM were changed')
    const now = await store.find(name)
    await host.reports.tell(now)
    return detailsOf(now)
  }
  /** Opens the home, and gives what seals it again. */
  const withHome = <T>(
    vm: StoredVm,
    use: (home: Home, seal: { readonly homeKey: VmKeys | undefined }) => Promise<T>,
  ): Promise<T> =>
    host.withKeys(vm, homeKey(vm.descriptor), (home, opened) =>
      use(home, { homeKey: vm.descriptor.provider === undefined ? undefined : opened }),
    )

  return {
    addDisk: (name, request, { onProgress = () => undefined, signal } = {}) =>
      host.claim(
        name,
        'add-disk',
        async (vm) => {
          const { descriptor } = vm
          const { provider } = descriptor
          const spec = checkDiskSpec(request, provider)
          if (descriptor.disks.some((disk) => disk.name === spec.name)) {
            throw new PlatformError('VM_DISK_EXISTS', `VM ${name} has a disk ${spec.name}`)
          }
          if (descriptor.disks.length >= MAX_DISKS) {
            throw new PlatformError(
              'REQUEST_INVALID',
              `expected at most ${MAX_DISKS} disks in a VM`,
            )
          }
          const progress = new Progress(onProgress, ADD_STEPS)
          const begin = (step: string) => progress.begin(`${spec.name}: ${step}`)
          const objects: readonly KeyObject[] = spec.plain ? [] : [partOf(spec)]
          using keys = makeKeys(objects)
          await withHome(vm, (home, { homeKey }) =>
            changeVm(host, vm, { onStep: begin, signal }, async (staged) => {
              begin('keys')
              const planned = await planDisk(staged, spec)
              await using _image = planned.image
              await requireSpace(store.directory, roomForNew([planned]) + OVERHEAD_OCTETS)
              const newKeys =
                provider === undefined
                  ? []
                  : await wrapNewKeys(host, vm, staged, { provider, objects, keys })
              const key = spec.plain ? undefined : keys.of(partOf(spec))
              const within = (percent: number) => progress.within(percent)
              await makeNewDisk(programs, planned, key, { begin, within, signal })
              await plugIfRunning(vm.paths, spec.name, { file: planned.file, key })
              const { sizeOctets, volumeId } = planned.file
              const disk = {
                ...{ name: spec.name, sizeOctets },
                ...(volumeId === undefined ? {} : { volumeId }),
              }
              return {
                home: { ...home, disks: [...home.disks, disk] },
                homeKey: homeKey?.of('home'),
                newKeys,
                goneKeys: [],
                files: { put: [fileName(disk)] },
              }
            }),
          )
          progress.end()
          return changed(vm, 'vm.disk-added', spec.name)
        },
        MAY_RUN,
      ),

    growDisk: (name, diskName, sizeOctets) =>
      host.claim(
        name,
        'grow-disk',
        async (vm) => {
          const before = findDisk(vm.descriptor, diskName)
          requireWholeSectors(diskName, sizeOctets)
          if (sizeOctets <= before.sizeOctets) {
            const message = `expected more than the ${before.sizeOctets} octets of disk ${diskName}`
            throw new PlatformError('REQUEST_INVALID', message)
          }
          await withHome(vm, (home, { homeKey }) =>
            changeVm(host, vm, { onStep: () => undefined }, async (staged) => {
              const disk = diskOf(home, diskName)
              const file = diskFileOf(vm.paths, disk)
              await checkDiskFile(file)
              const octets = sizeOctets + (isEncrypted(file) ? LUKS_PAYLOAD_OCTETS : 0)
              await requireLength(`${staged.root}/length`, octets)
              const grown = { ...disk, sizeOctets }
              return {
                home: { ...home, disks: home.disks.map((one) => (one === disk ? grown : one)) },
                ...{ homeKey: homeKey?.of('home'), newKeys: [], goneKeys: [] },
                files: { resize: [{ file: fileName(disk), octets }] },
              }
            }),
          )
          await resizeIfRunning(vm.paths, diskName, sizeOctets)
          return changed(vm, 'vm.disk-grown', diskName)
        },
        MAY_RUN,
      ),

    removeDisk: (name, diskName) =>
      host.claim(
        name,
        'remove-disk',
        async (vm) => {
          const { plain } = findDisk(vm.descriptor, diskName)
          await withHome(vm, (home, { homeKey }) =>
            changeVm(host, vm, { onStep: () => undefined }, async () => {
              const disk = diskOf(home, diskName)
              await unplugIfRunning(vm.paths, diskName)
              return {
                home: { ...home, disks: home.disks.filter((one) => one !== disk) },
                ...{ homeKey: homeKey?.of('home'), newKeys: [] },
                goneKeys: plain ? [] : [partOf(disk)],
                files: { drop: [fileName(disk)] },
              }
            }),
          )
          return changed(vm, 'vm.disk-removed', diskName)
        },
        MAY_RUN,
      ),
  }
}

function diskOf(home: Home, name: string): Home['disks'][number] {
  const disk = home.disks.find((candidate) => candidate.name === name)
  if (!disk) throw new TypeError('home and descriptor agree about disks')
  return disk
}

/** Whether the file system takes files of this length is seen before the change is committed, not after. */
async function requireLength(path: string, octets: number): Promise<void> {
  await using file = await createPrivateFile(path)
  await file.truncate(octets)
}
