import { link, mkdir, rm } from 'node:fs/promises'
import { fromBase64url } from '../../core/bytes.js'
import { isoTime } from '../../core/clock.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { newUuid } from '../../core/random.js'
import type { Firmware } from './accelerator.js'
import { linkSnapshots } from './carried-snapshots.js'
import { checkDiskFile, diskFileOf } from './disk-file.js'
import { isErrno } from './errno.js'
import { handOverTicket } from './export-manifest.js'
import { makePrivateDirectory, replacePrivateFile, syncPath, writePrivateFile } from './files.js'
import { pathsOf, type VmPaths } from './layout.js'
import { type LiveChannel, live } from './live-channel.js'
import type { OpenedOffer } from './live-handshake.js'
import type { SealedOffer } from './live-offer.js'
import { giveState, untilLoaded } from './machine-state.js'
import type { OnProgress } from './ports.js'
import { Qmp } from './qmp.js'
import {
  type Accelerator,
  type BroughtMark,
  Descriptor,
  type ExportedMark,
  encodeRecord,
  type Home,
  type RunRecord,
  readRecord,
} from './records.js'
import { removeVmDirectory } from './remove-vm.js'
import { settleMachine, startMachine } from './run.js'
import type { VmHost } from './vm-host.js'
import { homeGeneration } from './vm-keys.js'
import type { StoredVm } from './vm-store.js'

/**
 * Takes a VM that runs on another host. Its keys were unwrapped here, so that only an attested host that the provider serves
 * can have it; its volumes stay where they are, on storage that both hosts have, under a second name in the directory of the
 * VM here.
 *
 * The guest runs when the control plane says that the VM is of this host. Before that nothing of it stays when something
 * fails; after it, the VM is one of this host, stopped if its guest could not be run.
 *
 * Steps: `prepare`, `copy`, `load`, `take`, `run`.
 *
 * @throws PlatformError `VM_LIVE`, `VM_HAND_OVER`, `VM_EXISTS`, `VM_SNAPSHOT_CORRUPT`, what a start throws
 */
export async function receiveVm(
  host: VmHost,
  opened: OpenedOffer,
  options: {
    readonly channel: LiveChannel
    readonly firmware: Firmware
    readonly accelerator: Accelerator
    readonly lockMemory: boolean
    readonly onProgress: OnProgress
    /** Who comes again for the same is told by it that it was done. */
    readonly taskId: string | undefined
  },
): Promise<void> {
  const { channel, firmware, accelerator, lockMemory, onProgress, taskId } = options
  const { sealed, descriptor, records, keys } = opened
  const { offer } = sealed
  const { vmId, exportId } = offer
  const { shape } = offer
  if (accelerator !== shape.accelerator) {
    throw live(`expected a host where VMs run under ${shape.accelerator}, found ${accelerator}`)
  }
  onProgress('prepare', 2)
  const paths = pathsOf(`${host.store.directory}/${vmId}`)
  const vm: StoredVm = { descriptor, paths }
  await makePrivateDirectory(paths.root).catch((cause: unknown) => {
    if (!isErrno(cause, 'EEXIST')) throw cause
    throw new PlatformError('VM_EXISTS', `VM ${descriptor.name} is here`, { cause })
  })
  let isTaken = false
  try {
    await writeFiles(paths, sealed, taskId)
    const home = await host.store.readHome(vm, keys, records)
    await linkVolumes(paths, offer.directory, home)
    const owner = { descriptor, generation: homeGeneration(records), homeKey: keys.of('home') }
    await linkSnapshots(pathsOf(offer.directory), paths, offer.snapshots, owner)
    const record = await startMachine(
      { vmId, paths, home },
      {
        ...{ programs: host.programs, firmware, accelerator, lockMemory, keys },
        incoming: shape,
        onStep: () => undefined,
      },
    )
    await using qmp = await Qmp.connect(paths.qmpSocket)
    // It takes the locks of the disks when it runs the guest, not before: the other host may have to go on with them
    await qmp.execute('migrate-set-capabilities', {
      capabilities: [{ capability: 'late-block-activate', state: true }],
    })
    await qmp.execute('migrate-incoming', { uri: `unix:${paths.liveSocket}` })
    await channel.send('prepared')
    onProgress('copy', 5)
    await giveState(paths, stateOf(channel), live)
    onProgress('load', 90)
    await untilLoaded(qmp, live)
    await channel.send('loaded')
    await channel.receive('go')
    onProgress('take', 95)
    const ticket = handOverTicket(exportId, vmId, keys.of('home'))
    await host.inventory.take(await host.reports.describe(vm), { exportId, ticket })
    isTaken = true
    await finish(paths, record)
    onProgress('run', 97)
    await qmp.execute('cont')
    host.watch(vm, record)
    await channel.send('running').catch(() => undefined)
  } catch (error) {
    await settleMachine(paths, descriptor.vtpm, { wasSeen: true })
    if (isTaken) await rm(paths.receiving, { force: true })
    else await removeVmDirectory(host.programs, paths.root)
    throw error
  }
}

/** All small files of the VM, with a mark that it is not one of this host yet. */
async function writeFiles(
  paths: VmPaths,
  { offer }: SealedOffer,
  taskId: string | undefined,
): Promise<void> {
  const { exportId } = offer
  await writePrivateFile(paths.receiving, exportId)
  const mark: BroughtMark = { format: 1, exportId, ...(taskId === undefined ? {} : { taskId }) }
  await writePrivateFile(paths.brought, encodeRecord(mark))
  await makePrivateDirectory(paths.vtpm)
  await mkdir(paths.vtpmCertificates, { mode: 0o700 })
  for (const { file, content } of offer.files) {
    await writePrivateFile(`${paths.root}/${file}`, fromBase64url(content))
  }
  await syncPath(paths.root)
}

/**
 * Gives the disks, and the volume with the variables of the firmware, a second name. As long as they have two, no key slot is erased when one of them goes.
 *
 * @throws PlatformError `VM_LIVE` where the storage is not the same
 */
async function linkVolumes(paths: VmPaths, directory: string, home: Home): Promise<void> {
  const linkFile = async (path: string): Promise<void> => {
    const name = path.slice(paths.root.length)
    await link(`${directory}${name}`, path).catch((cause: unknown) => {
      if (!isErrno(cause, 'ENOENT', 'EXDEV', 'EPERM', 'EMLINK', 'ENOTDIR')) throw cause
      throw live(`${name} is not on storage that both hosts have: ${messageOf(cause)}`, cause)
    })
  }
  if (home.nvram) await linkFile(paths.nvram)
  for (const disk of home.disks) {
    const file = diskFileOf(paths, disk)
    await linkFile(file.path)
    await checkDiskFile(file)
  }
}

/** What the other host sends of the state, until it says that this was all. */
async function* stateOf(channel: LiveChannel): AsyncGenerator<Uint8Array> {
  for (;;) {
    const { kind, content } = await channel.receive('data', 'end')
    if (kind === 'end') return
    yield content
  }
}

/** From now on there is the VM here, with the programs that run it. */
async function finish(paths: VmPaths, record: RunRecord): Promise<void> {
  await replacePrivateFile(paths.run, 'run.json', encodeRecord(record))
  await rm(paths.receiving)
  await syncPath(paths.root)
}

/**
 * What is left of a VM that was being received when an agent ended. Who has it, the control plane knows: it is locked until
 * it is taken back here, or deleted.
 */
export async function settleReceived(host: VmHost, root: string): Promise<void> {
  const paths = pathsOf(root)
  const descriptor = await readRecord(paths.descriptor, Descriptor, 'vm.json').catch(
    () => undefined,
  )
  await settleMachine(paths, false, { wasSeen: false })
  if (!descriptor) return removeVmDirectory(host.programs, root)
  const exportedAt = isoTime(host.clock.nowMs())
  const mark: ExportedMark = { format: 1, exportId: newUuid(), exportedAt }
  await replacePrivateFile(root, 'exported.json', encodeRecord(mark))
  await rm(paths.receiving)
  await syncPath(root)
}
