import { isPlatformError, PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import type { Firmware } from './accelerator.js'
import { replacePrivateFile } from './files.js'
import { shapeOf } from './machine-shape.js'
import { giveState, sendState, untilLoaded } from './machine-state.js'
import { MemoryWriter, openMemory } from './memory-file.js'
import type { OctetProgress } from './octet-progress.js'
import { Qmp } from './qmp.js'
import { type Accelerator, encodeRecord, type Home, type RunRecord } from './records.js'
import { settleMachine, startMachine, wordsOf } from './run.js'
import type { FoundSnapshot } from './snapshot-files.js'
import { MEMORY_FILE, type SnapshotMemory, type SnapshotRecord } from './snapshot-record.js'
import type { VmHost } from './vm-host.js'
import type { VmKeys } from './vm-keys.js'
import type { StoredVm } from './vm-store.js'

const MIB = 1024 * 1024

/** How VMs are started on this host. */
export interface Starting {
  readonly firmware: Firmware
  readonly chooseAccelerator: () => Promise<Accelerator>
  readonly lockMemory: boolean
}

export function memoryOctetsOf({ memoryMib }: Home): number {
  return memoryMib * MIB
}

/**
 * Writes the memory of a VM that runs to the directory of a snapshot, sealed, with its devices and virtual TPM. The guest is
 * stopped when this returns, and may be when it throws.
 *
 * Step: `memory`.
 *
 * @throws PlatformError `VM_PROCESS`, or the reason of the signal
 */
export async function keepMemory(
  vm: StoredVm,
  options: {
    readonly root: string
    readonly plan: Pick<SnapshotRecord, 'snapshotId'>
    readonly homeKey: Secret
    readonly memoryOctets: number
    readonly machine: RunRecord
    readonly progress: OctetProgress
    readonly signal: AbortSignal | undefined
  },
): Promise<SnapshotMemory> {
  const { root, plan, homeKey, memoryOctets, machine, progress, signal } = options
  const { paths, descriptor } = vm
  progress.begin('memory')
  await using qmp = await Qmp.connect(paths.qmpSocket)
  const shape = await shapeOf(qmp, machine)
  const owner = { homeKey, vmId: descriptor.vmId, snapshotId: plan.snapshotId }
  await using file = await MemoryWriter.create(`${root}/${MEMORY_FILE}`, owner)
  let done = 0
  await sendState(qmp, paths, {
    take: async (octets) => {
      await file.write(octets)
      done += octets.length
      progress.copying(Math.min(done, memoryOctets))
    },
    stopAfterOctets: memoryOctets,
    failed: (what, cause) => new PlatformError('VM_PROCESS', what, { cause }),
    signal,
  })
  progress.copied(memoryOctets)
  return { octets: await file.finish(), ...shape }
}

/**
 * Reads all of the memory of a snapshot, before anything is changed for it.
 *
 * Step: `check memory`.
 *
 * @throws PlatformError `VM_SNAPSHOT_MEMORY` where this host runs VMs in another way; `VM_SNAPSHOT_CORRUPT`; the reason of the
 *   signal
 */
export async function checkMemory(
  found: FoundSnapshot,
  options: {
    readonly homeKey: Secret
    readonly accelerator: Accelerator
    readonly progress: OctetProgress
    readonly signal: AbortSignal | undefined
  },
): Promise<void> {
  const { homeKey, accelerator, progress, signal } = options
  const { memory } = found.sealed.snapshot
  if (!memory) return
  if (memory.accelerator !== accelerator) {
    const expected = `expected a host where VMs run under ${memory.accelerator}`
    throw unloadable(found, `${expected}, found ${accelerator}`)
  }
  progress.begin('check memory')
  let done = 0
  for await (const piece of piecesOf(found, homeKey)) {
    signal?.throwIfAborted()
    done += piece.length
    progress.copying(done)
  }
  progress.copied(memory.octets)
}

/**
 * Runs a VM that was put back to a snapshot from the memory that is in it. Its guest goes on where it was; nothing of it runs
 * before all of the memory was read and verified.
 *
 * Steps: `start`, `load`, `run`.
 *
 * @throws PlatformError `VM_SNAPSHOT_CORRUPT`, `VM_SNAPSHOT_MEMORY` when QEMU does not take it, what a start throws: the VM is
 *   stopped then, with the disks of the snapshot
 */
export async function runFromMemory(
  host: VmHost,
  vm: StoredVm,
  home: Home,
  found: FoundSnapshot,
  options: {
    readonly keys: VmKeys
    readonly starting: Starting
    readonly progress: OctetProgress
  },
): Promise<void> {
  const { keys, starting, progress } = options
  const { firmware, lockMemory } = starting
  const { snapshot } = found.sealed
  const { memory, snapshotId } = snapshot
  if (!memory) throw new TypeError('the snapshot has no memory')
  const { paths, descriptor } = vm
  const { vmId } = descriptor
  progress.begin('start')
  const record = await startMachine(
    { vmId, paths, home },
    {
      ...{ programs: host.programs, firmware, lockMemory, keys, incoming: memory },
      accelerator: memory.accelerator,
      onStep: () => undefined,
    },
  )
  try {
    const failed = (what: string, cause?: unknown) => unloadable(found, what, cause)
    await using qmp = await Qmp.connect(paths.qmpSocket)
    await qmp.execute('migrate-incoming', { uri: `unix:${paths.liveSocket}` })
    progress.begin('load')
    await giveState(paths, counted(piecesOf(found, keys.of('home')), progress), failed)
    await untilLoaded(qmp, failed)
    const running: RunRecord = { ...record, resumedFrom: snapshotId }
    await replacePrivateFile(paths.run, 'run.json', encodeRecord(running))
    progress.begin('run')
    await qmp.execute('cont')
  } catch (error) {
    const words = await wordsOf(paths.qemuLog)
    await settleMachine(paths, descriptor.vtpm, { wasSeen: true })
    if (!isPlatformError(error, 'VM_SNAPSHOT_MEMORY')) throw error
    throw new PlatformError(error.code, `${error.message}: ${words}`, { cause: error })
  }
  host.watch(vm, record)
}

async function* counted(
  pieces: AsyncIterable<Uint8Array>,
  progress: OctetProgress,
): AsyncGenerator<Uint8Array> {
  let done = 0
  for await (const piece of pieces) {
    yield piece
    done += piece.length
    progress.copying(done)
  }
  progress.copied(done)
}

/** @throws PlatformError `VM_SNAPSHOT_CORRUPT` */
async function* piecesOf(
  { root, sealed: { snapshot } }: FoundSnapshot,
  homeKey: Secret,
): AsyncGenerator<Uint8Array> {
  const { vmId, snapshotId, name, memory } = snapshot
  try {
    const owner = { homeKey, vmId, snapshotId }
    yield* openMemory(`${root}/${MEMORY_FILE}`, memory?.octets ?? 0, owner)
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause
    const message = `the memory in snapshot ${name}: ${cause.message}`
    throw new PlatformError('VM_SNAPSHOT_CORRUPT', message, { cause })
  }
}

function unloadable(found: FoundSnapshot, what: string, cause?: unknown): PlatformError {
  const message = `the memory in snapshot ${found.sealed.snapshot.name} cannot be loaded: ${what}`
  return new PlatformError('VM_SNAPSHOT_MEMORY', message, { cause })
}
