import { createHash } from 'node:crypto'
import { mkdir, rename } from 'node:fs/promises'
import { toHex } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { checkDiskFile, diskFileOf } from './disk-file.js'
import { explainFull, requireSpace } from './disk-space.js'
import { exportedName } from './export-manifest.js'
import { makePrivateDirectory, readPrivateFile, syncPath, writePrivateFile } from './files.js'
import { CREATING } from './layout.js'
import { resumeMachine, resumeStopped } from './machine-state.js'
import { OctetProgress } from './octet-progress.js'
import type { Following } from './part-by-part.js'
import { Qmp } from './qmp.js'
import type { Home, RunRecord } from './records.js'
import { canShareBlocks, copyCheaply, removeSnapshotDirectory } from './snapshot-files.js'
import { keepMemory, memoryOctetsOf } from './snapshot-memory.js'
import {
  MEMORY_FILE,
  type SnapshotMemory,
  type SnapshotRecord,
  sealSnapshot,
} from './snapshot-record.js'
import { allocatedOctets, snapshotFiles } from './vm-files.js'
import type { VmHost } from './vm-host.js'
import type { VmKeys } from './vm-keys.js'
import { homeKeyOf } from './vm-parts.js'
import type { StoredVm } from './vm-store.js'
import { checkVtpm } from './vtpm-record.js'

/** Of files that are hashed: all but disks. */
const MAX_SMALL_OCTETS = 64 * 1024 * 1024
const OVERHEAD_OCTETS = 4 * 1024 * 1024

/** What is known of a snapshot before it is made. */
export type SnapshotPlan = Pick<
  SnapshotRecord,
  'snapshotId' | 'name' | 'description' | 'createdAt' | 'generation'
>

/**
 * Makes a snapshot in a directory of its own, which gets its name when all of it is on the disk. The guest of a VM that runs
 * is stopped while disks and small files are copied, and goes on whatever becomes of the snapshot.
 *
 * Steps: `check`, of a VM that runs `memory` or `stop`, `copy <file>` for each, of a VM that runs `resume`, `commit`.
 *
 * @param options.machine of a VM that runs
 * @param options.withMemory of a VM that runs and is encrypted
 * @throws PlatformError `VM_DISK_FULL`, `VM_DISK_CORRUPT`, `VTPM_STATE_…`, `VM_PROCESS`, or the reason of the signal
 */
export async function makeSnapshot(
  host: VmHost,
  vm: StoredVm,
  plan: SnapshotPlan,
  options: {
    readonly home: Home
    readonly opened: VmKeys
    readonly machine: RunRecord | undefined
    readonly withMemory: boolean
    readonly following: Following
  },
): Promise<SnapshotRecord> {
  const { paths, descriptor } = vm
  const { home, opened, machine, withMemory } = options
  const { onProgress = () => undefined, signal } = options.following
  const { directory } = host.store
  const files = await snapshotFiles(paths.root, descriptor)
  const memoryOctets = withMemory ? memoryOctetsOf(home) : 0
  const progress = new OctetProgress(onProgress, memoryOctets + sizeOf(files))
  progress.begin('check')
  for (const disk of home.disks) await checkDiskFile(diskFileOf(paths, disk))
  if (home.vtpm) await checkVtpm(paths, opened.of('vtpm'))
  await mkdir(paths.snapshots, { recursive: true, mode: 0o700 })
  const root = `${paths.snapshots}/${CREATING}${plan.snapshotId}`
  const copyAll = () => copyParts(vm, root, { directory, progress, signal })
  try {
    await makePrivateDirectory(root)
    const forCopies = (await canShareBlocks(root)) ? 0 : await roomOf(paths.root, files)
    await requireSpace(directory, forCopies + memoryOctets + OVERHEAD_OCTETS)
    const kept = machine
      ? await atOneMoment(host, vm, progress, copyAll, async () => {
          if (!withMemory) return stopGuest(vm, progress)
          const into = { root, plan, homeKey: opened.of('home'), memoryOctets }
          return keepMemory(vm, { ...into, machine, progress, signal })
        })
      : { parts: await copyAll() }
    signal?.throwIfAborted()
    progress.begin('commit')
    if (withMemory) await syncPath(`${root}/${MEMORY_FILE}`)
    const snapshot: SnapshotRecord = { format: 1, vmId: descriptor.vmId, ...plan, ...kept }
    const sealed = sealSnapshot(snapshot, homeKeyOf(descriptor, opened))
    await writePrivateFile(`${root}/snapshot.json`, sealed)
    await syncPath(root)
    await rename(root, `${paths.snapshots}/${plan.snapshotId}`)
    await syncPath(paths.snapshots)
    await syncPath(paths.root)
    progress.end()
    return snapshot
  } catch (error) {
    const reason = await explainFull(directory, error)
    await removeSnapshotDirectory(host.programs, root)
    throw reason
  }
}

/** Stops the guest, keeps what is to be kept of that moment, and lets it go on. */
async function atOneMoment(
  host: VmHost,
  vm: StoredVm,
  progress: OctetProgress,
  copyAll: () => Promise<SnapshotRecord['parts']>,
  stop: () => Promise<SnapshotMemory | undefined>,
): Promise<Pick<SnapshotRecord, 'parts' | 'running' | 'memory'>> {
  try {
    const memory = await stop()
    const parts = await copyAll()
    progress.begin('resume')
    await resumeMachine(vm.paths)
    return { parts, running: true, ...(memory ? { memory } : {}) }
  } catch (error) {
    await resumeStopped(vm, host.logger)
    throw error
  }
}

/** What the guest wrote is in the files of its disks then. */
async function stopGuest(vm: StoredVm, progress: OctetProgress): Promise<undefined> {
  progress.begin('stop')
  await using qmp = await Qmp.connect(vm.paths.qmpSocket)
  await qmp.execute('stop')
}

async function copyParts(
  { paths, descriptor }: StoredVm,
  root: string,
  options: {
    readonly directory: string
    readonly progress: OctetProgress
    readonly signal: AbortSignal | undefined
  },
): Promise<SnapshotRecord['parts']> {
  const { directory, progress, signal } = options
  const parts: SnapshotRecord['parts'] = []
  // once more: the state of a virtual TPM has another size than before
  for (const { file, octets } of await snapshotFiles(paths.root, descriptor)) {
    progress.begin(`copy ${file}`)
    const path = `${paths.root}/${file}`
    const copy = `${root}/${exportedName(file)}`
    const from = { path, octets, roomOctets: await allocatedOctets(path) }
    await copyCheaply(from, copy, {
      directory,
      onCopied: (done) => progress.copying(done),
      signal,
    })
    progress.copied(octets)
    parts.push({ file, octets, ...(isDisk(file) ? {} : { sha256: await digestOf(copy) }) })
  }
  return parts
}

async function roomOf(root: string, files: readonly { readonly file: string }[]): Promise<number> {
  const rooms = await Promise.all(files.map(({ file }) => allocatedOctets(`${root}/${file}`)))
  return rooms.reduce((sum, octets) => sum + octets, 0)
}

export function sizeOf(files: readonly { readonly octets: number }[]): number {
  return files.reduce((sum, { octets }) => sum + octets, 0)
}

function isDisk(file: string): boolean {
  return file.startsWith('disk-')
}

async function digestOf(path: string): Promise<string> {
  const octets = await readPrivateFile(path, MAX_SMALL_OCTETS)
  if (!octets) throw new PlatformError('VM_DESCRIPTOR_CORRUPT', `expected ${path}`)
  return toHex(createHash('sha256').update(octets).digest())
}
