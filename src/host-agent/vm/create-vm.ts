import { readFile, rename, statfs } from 'node:fs/promises'
import { isoTime } from '../../core/clock.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import { newUuid } from '../../core/random.js'
import type { Firmware } from './accelerator.js'
import { type Disk, fillDisk, formatDisk, verifyDisk } from './disk.js'
import { isErrno } from './errno.js'
import { makePrivateDirectory, syncPath, writePrivateFile } from './files.js'
import { sealHome } from './home.js'
import { openImage, type SourceImage } from './image.js'
import { CREATING, pathsOf } from './layout.js'
import { LUKS_PAYLOAD_OCTETS } from './luks-header.js'
import type { KeyClient, OnProgress, VtpmCertifier } from './ports.js'
import type { Programs } from './programs.js'
import { Progress } from './progress.js'
import { type Descriptor, encodeRecord, type Home } from './records.js'
import { removeVmDirectory } from './remove-vm.js'
import { keyObjects, makeKeys, wrapKeys } from './vm-keys.js'
import type { DiskSpec, VmSpec } from './vm-spec.js'
import { makeVtpm } from './vtpm.js'

/** Room for everything of a VM that is not a disk. */
const OVERHEAD_OCTETS = 4 * 1024 * 1024
/** With less room than this left, whatever failed is taken to have failed for that. */
const FULL_OCTETS = 64 * 1024

export interface CreateDeps {
  readonly directory: string
  readonly programs: Programs
  readonly firmware: Firmware
  readonly keys: KeyClient
  readonly certifier: VtpmCertifier
  readonly now: () => number
}

interface PlannedDisk extends Disk {
  readonly name: string
  readonly image?: SourceImage
}

/**
 * Makes all files of a VM in a directory of its own, and gives that its final name when they are on the disk. Until
 * then there is no VM; on failure nothing of it remains.
 *
 * Keys are made here and wrapped before anything is written under them. Steps: `check`, `keys`, `home`, for each disk
 * `<disk>: format`, `<disk>: fill` if from an image, `<disk>: verify`, then `vtpm`, `commit`.
 *
 * @throws PlatformError `VM_IMAGE`, `VM_DISK_FULL`, `VM_PROCESS`, `VTPM_…`, or of the key provider
 */
export async function createVm(
  deps: CreateDeps,
  spec: VmSpec,
  onProgress: OnProgress,
): Promise<Descriptor> {
  const fills = spec.disks.filter(({ from }) => from !== undefined).length
  const steps = 4 + spec.disks.length * 2 + fills + (spec.vtpm ? 1 : 0)
  const progress = new Progress(onProgress, steps)
  const vmId = newUuid()
  const root = `${deps.directory}/${CREATING}${vmId}`
  const disks: PlannedDisk[] = []
  try {
    progress.begin('check')
    for (const disk of spec.disks) disks.push(await planDisk(root, disk))
    await checkSpace(deps.directory, disks)
    await makePrivateDirectory(root)
    const descriptor = await writeVm(deps, { spec, vmId, root, disks }, progress)
    progress.begin('commit')
    await syncPath(root)
    await rename(root, `${deps.directory}/${vmId}`)
    await syncPath(deps.directory)
    return descriptor
  } catch (error) {
    const isFull = await findFull(deps.directory, error)
    await removeVmDirectory(deps.programs, root)
    if (!isFull) throw error
    const message = `the disk is full: ${messageOf(error)}`
    throw new PlatformError('VM_DISK_FULL', message, { cause: error })
  } finally {
    for (const { image } of disks) await image?.[Symbol.asyncDispose]()
  }
}

async function planDisk(root: string, spec: DiskSpec): Promise<PlannedDisk> {
  const { name, from } = spec
  const image = from === undefined ? undefined : await openImage(from)
  const imageOctets = image?.virtualOctets ?? 0
  const sizeOctets = spec.sizeOctets ?? imageOctets
  if (imageOctets > sizeOctets) {
    await image?.[Symbol.asyncDispose]()
    throw new PlatformError(
      'VM_IMAGE',
      `expected an image of at most ${sizeOctets} octets for disk ${name}, found ${imageOctets}`,
    )
  }
  const path = pathsOf(root).disk(name)
  return { name, path, sizeOctets, volumeId: newUuid(), ...(image ? { image } : {}) }
}

/** An image is copied whole, with its zeros: encrypted they are no zeros. The rest of a disk takes room as it is used. */
async function checkSpace(directory: string, disks: readonly PlannedDisk[]): Promise<void> {
  const needed = disks.reduce(
    (sum, { image }) => sum + LUKS_PAYLOAD_OCTETS + (image?.virtualOctets ?? 0),
    OVERHEAD_OCTETS,
  )
  const available = await availableOctets(directory)
  if (available < needed) {
    throw new PlatformError(
      'VM_DISK_FULL',
      `expected ${needed} free octets in ${directory}, found ${available}`,
    )
  }
}

async function writeVm(
  deps: CreateDeps,
  plan: {
    readonly spec: VmSpec
    readonly vmId: string
    readonly root: string
    readonly disks: readonly PlannedDisk[]
  },
  progress: Progress,
): Promise<Descriptor> {
  const { spec, vmId, disks } = plan
  const { name, provider, memoryMib, cpus, vtpm } = spec
  const { programs } = deps
  const paths = pathsOf(plan.root)
  const objects = keyObjects(
    disks.map((disk) => disk.name),
    vtpm,
  )
  using keys = makeKeys(objects)
  progress.begin('keys')
  const records = await wrapKeys(deps.keys, { vmId, provider, objects, keys })
  await writePrivateFile(paths.keys, encodeRecord({ format: 1, keys: records }))

  progress.begin('home')
  const home: Home = {
    ...{ name, provider, memoryMib, cpus, vtpm },
    disks: disks.map((disk) => ({
      name: disk.name,
      sizeOctets: disk.sizeOctets,
      volumeId: disk.volumeId,
    })),
  }
  await writePrivateFile(paths.home, sealHome(home, vmId, 1, keys.of('home')))
  await writePrivateFile(paths.nvram, await readFile(deps.firmware.variables))
  const descriptor: Descriptor = {
    ...{ format: 1, vmId, name, provider, createdAt: isoTime(deps.now()), vtpm },
    disks: disks.map((disk) => ({ name: disk.name, sizeOctets: disk.sizeOctets })),
  }
  await writePrivateFile(paths.descriptor, encodeRecord(descriptor))

  for (const disk of disks) {
    const dek = keys.of(`disk-${disk.name}`)
    progress.begin(`${disk.name}: format`)
    await formatDisk(programs, disk, dek)
    if (disk.image) {
      progress.begin(`${disk.name}: fill`)
      await fillDisk(programs, disk, dek, disk.image, (percent) => progress.within(percent))
    }
    progress.begin(`${disk.name}: verify`)
    await verifyDisk(programs, disk, dek)
  }
  if (vtpm) {
    progress.begin('vtpm')
    const { certifier, now } = deps
    await makeVtpm({ programs, paths, vmId, dek: keys.of('vtpm'), certifier, now })
  }
  return descriptor
}

async function findFull(directory: string, error: unknown): Promise<boolean> {
  if (isPlatformError(error, 'VM_DISK_FULL')) return false
  if (isErrno(error, 'ENOSPC', 'EDQUOT')) return true
  return isPlatformError(error, 'VM_PROCESS') && (await availableOctets(directory)) < FULL_OCTETS
}

async function availableOctets(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory)
  return bavail * bsize
}
