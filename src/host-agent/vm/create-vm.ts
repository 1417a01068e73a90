import { rename } from 'node:fs/promises'
import { isoTime } from '../../core/clock.js'
import { newUuid } from '../../core/random.js'
import type { Secret } from '../../core/secret.js'
import type { Firmware } from './accelerator.js'
import { isEncrypted } from './disk-file.js'
import { explainFull, requireSpace } from './disk-space.js'
import { makePrivateDirectory, syncPath, writePrivateFile } from './files.js'
import { sealHome } from './home.js'
import { CREATING, pathsOf, type VmPaths } from './layout.js'
import { makeNewDisk, type PlannedDisk, planDisk, roomForNew } from './new-disk.js'
import { newNvram, nvramOctets, writeNvram } from './nvram.js'
import type { Following } from './part-by-part.js'
import type { KeyClient, VtpmCertifier } from './ports.js'
import type { Programs } from './programs.js'
import { Progress } from './progress.js'
import { type Descriptor, descriptorOf, encodeRecord, type Home } from './records.js'
import { removeVmDirectory } from './remove-vm.js'
import type { Slots } from './slots.js'
import { keyObjects, makeKeys, wrapKeys } from './vm-keys.js'
import type { VmSpec } from './vm-spec.js'
import { makeVtpm } from './vtpm.js'

/** Room for everything of a VM that is not a disk. */
const OVERHEAD_OCTETS = 4 * 1024 * 1024

export interface CreateDeps {
  readonly directory: string
  readonly programs: Programs
  readonly firmware: Firmware
  readonly keys: KeyClient
  readonly certifier: VtpmCertifier
  readonly vtpmSlots: Slots
  readonly now: () => number
  /** Notes that keys of a VM that is not made after all are not needed. */
  readonly dropKeys: (vmId: string, root: string) => Promise<void>
}

/** What a VM that is made of a machine which exists brings with it. */
export interface VmOrigin {
  /** File with the variables of its firmware; else they are those of a new machine. */
  readonly nvram: string | undefined
  /** Writes and records the state of its virtual TPM; else that is a new one. */
  readonly vtpm: ((paths: VmPaths, dek: Secret) => Promise<void>) | undefined
  /** Other files for the directory of the VM, by name. */
  readonly files: Readonly<Record<string, string>>
}

/**
 * Makes all files of a VM in a directory of its own, and gives that its final name when they are on the disk. Until
 * then there is no VM; on failure nothing of it remains.
 *
 * Keys are made here and wrapped before anything is written under them. Steps: `check`, `keys`, `home`, for each disk
 * `<disk>: format`, `<disk>: fill` if from an image, `<disk>: verify`, then `vtpm`, `commit`.
 *
 * @throws PlatformError `VM_IMAGE`, `VM_DISK_FULL`, `VM_PROCESS`, `VTPM_…`, of the key provider, or the reason of the
 *   signal
 */
export async function createVm(
  deps: CreateDeps,
  spec: VmSpec,
  options: Following & {
    /** No VM has it; else a new one. */
    readonly vmId?: string | undefined
    /** Of a VM that is made of a machine which exists. */
    readonly origin?: VmOrigin | undefined
  },
): Promise<Descriptor> {
  const { onProgress = () => undefined, signal, vmId = newUuid(), origin } = options
  const fills = spec.disks.filter(({ from }) => from !== undefined).length
  const steps = 4 + spec.disks.length * 2 + fills + (spec.vtpm ? 1 : 0)
  const progress = new Progress(onProgress, steps)
  const root = `${deps.directory}/${CREATING}${vmId}`
  const disks: PlannedDisk[] = []
  try {
    progress.begin('check')
    for (const disk of spec.disks) disks.push(await planDisk(pathsOf(root), disk))
    await requireSpace(deps.directory, roomForNew(disks) + OVERHEAD_OCTETS)
    await makePrivateDirectory(root)
    const descriptor = await writeVm(deps, { spec, vmId, root, disks, origin, signal }, progress)
    signal?.throwIfAborted()
    progress.begin('commit')
    await syncPath(root)
    await rename(root, `${deps.directory}/${vmId}`)
    await syncPath(deps.directory)
    return descriptor
  } catch (error) {
    const reason = await explainFull(deps.directory, error)
    await deps.dropKeys(vmId, root)
    await removeVmDirectory(deps.programs, root)
    throw reason
  } finally {
    for (const { image } of disks) await image?.[Symbol.asyncDispose]()
  }
}

async function writeVm(
  deps: CreateDeps,
  plan: {
    readonly spec: VmSpec
    readonly vmId: string
    readonly root: string
    readonly disks: readonly PlannedDisk[]
    readonly origin: VmOrigin | undefined
    readonly signal: AbortSignal | undefined
  },
  progress: Progress,
): Promise<Descriptor> {
  const { spec, vmId, disks, origin, signal } = plan
  const { name, provider, memoryMib, cpus, vtpm } = spec
  const { programs } = deps
  const paths = pathsOf(plan.root)
  const encrypted = disks.filter(({ file }) => isEncrypted(file))
  const objects =
    provider === undefined
      ? []
      : keyObjects(
          encrypted.map((disk) => disk.name),
          vtpm,
        )
  using keys = makeKeys(objects)
  progress.begin('keys')
  const records =
    provider === undefined ? [] : await wrapKeys(deps.keys, { vmId, provider, objects, keys })
  await writePrivateFile(paths.keys, encodeRecord({ format: 1, keys: records }))

  progress.begin('home')
  const variables = origin?.nvram ?? deps.firmware.variables
  const homeKey = provider === undefined ? undefined : keys.of('home')
  using nvram = newNvram({ vmId, paths }, await nvramOctets(variables), homeKey)
  const home: Home = {
    ...{ name, memoryMib, cpus, vtpm },
    ...(provider === undefined ? {} : { provider }),
    ...nvram.home,
    disks: disks.map(({ name, file: { sizeOctets, volumeId } }) => ({
      ...{ name, sizeOctets },
      ...(volumeId === undefined ? {} : { volumeId }),
    })),
  }
  if (homeKey) await writePrivateFile(paths.home, sealHome(home, vmId, 1, homeKey))
  else await writePrivateFile(paths.plainHome, encodeRecord(home))
  await writeNvram(programs, variables, nvram)
  for (const [name, content] of Object.entries(origin?.files ?? {})) {
    await writePrivateFile(`${paths.root}/${name}`, content)
  }
  const descriptor = descriptorOf(home, { vmId, createdAt: isoTime(deps.now()) })
  await writePrivateFile(paths.descriptor, encodeRecord(descriptor))

  for (const disk of disks) {
    const key = isEncrypted(disk.file) ? keys.of(`disk-${disk.name}`) : undefined
    await makeNewDisk(programs, disk, key, {
      begin: (step) => progress.begin(`${disk.name}: ${step}`),
      within: (percent) => progress.within(percent),
      signal,
    })
  }
  if (vtpm && origin?.vtpm) {
    progress.begin('vtpm')
    await origin.vtpm(paths, keys.of('vtpm'))
  } else if (vtpm) {
    progress.begin('vtpm')
    const { certifier, vtpmSlots: slots, now } = deps
    await makePrivateDirectory(paths.vtpm)
    const jobDirectory = `${paths.root}/job`
    await makeVtpm({
      ...{ programs, paths, jobDirectory, vmId, certifier, slots, now },
      dek: keys.of('vtpm'),
    })
  }
  return descriptor
}
