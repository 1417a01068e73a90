import { createHash } from 'node:crypto'
import { mkdir, rename } from 'node:fs/promises'
import type { VmDetails } from '../../api/host-agent.js'
import type { SnapshotView } from '../../api/vm-snapshots.js'
import { toHex } from '../../core/bytes.js'
import { isoTime } from '../../core/clock.js'
import { isPlatformError, PlatformError } from '../../core/errors.js'
import { isName } from '../../core/names.js'
import { newUuid } from '../../core/random.js'
import type { Secret } from '../../core/secret.js'
import { checkDiskFile, diskFileOf } from './disk-file.js'
import { explainFull } from './disk-space.js'
import { exportedName } from './export-manifest.js'
import { makePrivateDirectory, readPrivateFile, syncPath, writePrivateFile } from './files.js'
import { CREATING } from './layout.js'
import { OctetProgress } from './octet-progress.js'
import type { Following } from './part-by-part.js'
import type { Home } from './records.js'
import { revertVm } from './revert-vm.js'
import {
  copyCheaply,
  type FoundSnapshot,
  listSnapshots,
  removeSnapshot,
  removeSnapshotDirectory,
  removeUnfinishedSnapshots,
} from './snapshot-files.js'
import { type SnapshotRecord, sealSnapshot } from './snapshot-record.js'
import { detailsOf } from './vm-details.js'
import { allocatedOctets, snapshotFiles } from './vm-files.js'
import type { VmHost } from './vm-host.js'
import type { KeyObject, VmKeys } from './vm-keys.js'
import { homeKey } from './vm-parts.js'
import type { StoredVm } from './vm-store.js'
import { checkVtpm } from './vtpm-record.js'

const MAX_SNAPSHOTS = 32
/** Of files that are hashed: all but disks. */
const MAX_SMALL_OCTETS = 64 * 1024 * 1024

/**
 * Snapshots of stopped VMs: all parts as they are, encrypted under the keys that the VM has, so that its wrapped keys are
 * those of its snapshots too, and are wrapped anew with it.
 *
 * Every method throws `VM_NOT_FOUND`, `VM_BUSY`, `VM_EXPORTED`.
 */
export interface VmSnapshots {
  /** The oldest first. @throws PlatformError `VM_SNAPSHOT_CORRUPT` */
  listSnapshots(vm: string): Promise<readonly SnapshotView[]>
  /** @throws PlatformError `VM_RUNNING`, `VM_SNAPSHOT_EXISTS`, `VM_DISK_FULL`, `VTPM_STATE_…`, of the key provider */
  createSnapshot(
    vm: string,
    request: { readonly name: string; readonly description?: string | undefined },
    following?: Following,
  ): Promise<VmDetails>
  /**
   * Makes the VM what it was; what it is now is lost. The snapshot stays. The state of the virtual TPM that comes back is
   * from then on the one to start from.
   *
   * @throws PlatformError `VM_RUNNING`, `VM_SNAPSHOT_NOT_FOUND`, `VM_SNAPSHOT_CORRUPT`, `VM_DISK_FULL`, of the key provider; of the
   *   control plane when it cannot be told of the state, though all else was done: it can be asked for again
   */
  revertSnapshot(vm: string, snapshot: string, following?: Following): Promise<VmDetails>
  /** Key slots are erased first. The VM may run. @throws PlatformError `VM_SNAPSHOT_NOT_FOUND` */
  removeSnapshot(vm: string, snapshot: string, following?: Following): Promise<VmDetails>
}

export function createVmSnapshots(host: VmHost): VmSnapshots {
  const { store, programs, logger } = host
  const event = (vm: StoredVm, type: string, { snapshotId }: { readonly snapshotId: string }) => {
    const { vmId, name } = vm.descriptor
    logger.info({ event: `vm.snapshot-${type}`, vmId, name, snapshotId }, `a snapshot was ${type}`)
  }

  return {
    listSnapshots: (name) =>
      host.onVm(name, async (vm) =>
        Promise.all((await listSnapshots(vm.paths)).map((snapshot) => viewOf(snapshot))),
      ),

    createSnapshot: (name, { name: wanted, description }, following = {}) =>
      host.claim(
        name,
        'create-snapshot',
        async (vm) => {
          const { paths, descriptor } = vm
          if (!isName(wanted)) throw new PlatformError('REQUEST_INVALID', `${wanted} is no name`)
          await removeUnfinishedSnapshots(programs, paths)
          const existing = await listSnapshots(paths)
          if (existing.some(({ sealed }) => sealed.snapshot.name === wanted)) {
            throw new PlatformError('VM_SNAPSHOT_EXISTS', `VM ${name} has a snapshot ${wanted}`)
          }
          if (existing.length >= MAX_SNAPSHOTS) {
            const message = `expected at most ${MAX_SNAPSHOTS} snapshots of a VM`
            throw new PlatformError('REQUEST_INVALID', message)
          }
          await host.withKeys(vm, keysFor(vm), async (home, opened) => {
            const keys = await store.readKeys(vm)
            const { vmId } = descriptor
            const snapshot = await makeSnapshot(host, vm, { home, opened, following }, (parts) => ({
              ...{ format: 1, snapshotId: newUuid(), vmId, name: wanted },
              ...(description === undefined ? {} : { description }),
              createdAt: isoTime(host.clock.nowMs()),
              generation: keys.find(({ object }) => object === 'home')?.generation ?? 0,
              parts,
            }))
            event(vm, 'created', snapshot)
          })
          await host.reports.tell(vm)
          return detailsOf(vm)
        },
        { withSnapshots: true },
      ),

    revertSnapshot: (name, wanted, { onProgress = () => undefined, signal } = {}) =>
      host.claim(
        name,
        'revert-snapshot',
        async (vm) => {
          const found = await findSnapshot(vm, wanted)
          const { snapshot } = found.sealed
          await host.withKeys(vm, keysFor(vm), async (_, opened) => {
            const progress = new OctetProgress(onProgress, sizeOf(snapshot.parts))
            await revertVm(host, vm, found, { opened, progress, signal })
            event(vm, 'reverted', snapshot)
            // where the control plane knows of later states, this one is the newest from now on
            if (vm.descriptor.vtpm) await acceptOlderState(host, vm, opened.of('vtpm'))
            progress.end()
          })
          const reverted = await store.find(name)
          await host.reports.tell(reverted)
          return detailsOf(reverted)
        },
        { withSnapshots: true },
      ),

    removeSnapshot: (name, wanted, { onProgress = () => undefined } = {}) =>
      host.onFreeVm(name, async (vm) => {
        const { snapshot } = (await findSnapshot(vm, wanted)).sealed
        const onStep = (step: string) => onProgress(step, 0)
        await removeSnapshot(programs, vm.paths, snapshot.snapshotId, onStep)
        event(vm, 'removed', snapshot)
        await host.reports.tell(vm)
        onProgress('done', 100)
        return detailsOf(vm)
      }),
  }
}

async function acceptOlderState(host: VmHost, vm: StoredVm, dek: Secret): Promise<void> {
  await host.vtpmStates.accept(vm, dek).catch((error: unknown) => {
    if (!isPlatformError(error, 'VTPM_STATE_INTACT')) throw error
  })
}

/** @throws PlatformError `VM_SNAPSHOT_NOT_FOUND` */
async function findSnapshot(vm: StoredVm, wanted: string): Promise<FoundSnapshot> {
  const all = await listSnapshots(vm.paths)
  const found = all.find(
    ({ sealed: { snapshot } }) => snapshot.name === wanted || snapshot.snapshotId === wanted,
  )
  if (found) return found
  const message = `VM ${vm.descriptor.name} has no snapshot ${wanted}`
  throw new PlatformError('VM_SNAPSHOT_NOT_FOUND', message)
}

/** Makes a snapshot in a directory of its own, which gets its name when all of it is on the disk. */
async function makeSnapshot(
  host: VmHost,
  vm: StoredVm,
  options: { readonly home: Home; readonly opened: VmKeys; readonly following: Following },
  recordOf: (parts: SnapshotRecord['parts']) => SnapshotRecord,
): Promise<SnapshotRecord> {
  const { paths, descriptor } = vm
  const { home, opened, following } = options
  const { onProgress = () => undefined, signal } = following
  const files = await snapshotFiles(paths.root, descriptor)
  const progress = new OctetProgress(onProgress, sizeOf(files))
  progress.begin('check')
  for (const disk of home.disks) await checkDiskFile(diskFileOf(paths, disk))
  if (home.vtpm) await checkVtpm(paths, opened.of('vtpm'))
  await mkdir(paths.snapshots, { recursive: true, mode: 0o700 })
  const snapshot = recordOf(
    await Promise.all(
      files.map(async ({ file, octets }) => ({
        ...{ file, octets },
        ...(isDisk(file) ? {} : { sha256: await digestOf(`${paths.root}/${file}`) }),
      })),
    ),
  )
  const root = `${paths.snapshots}/${CREATING}${snapshot.snapshotId}`
  try {
    await makePrivateDirectory(root)
    for (const { file, octets } of files) {
      progress.begin(`copy ${file}`)
      const path = `${paths.root}/${file}`
      const from = { path, octets, roomOctets: await allocatedOctets(path) }
      await copyCheaply(from, `${root}/${exportedName(file)}`, {
        directory: host.store.directory,
        onCopied: (done) => progress.copying(done),
        signal,
      })
      progress.copied(octets)
    }
    signal?.throwIfAborted()
    progress.begin('commit')
    const key = homeKeyOf(vm, opened)
    await writePrivateFile(`${root}/snapshot.json`, sealSnapshot(snapshot, key))
    await syncPath(root)
    await rename(root, `${paths.snapshots}/${snapshot.snapshotId}`)
    await syncPath(paths.snapshots)
    await syncPath(paths.root)
    progress.end()
    return snapshot
  } catch (error) {
    const reason = await explainFull(host.store.directory, error)
    await removeSnapshotDirectory(host.programs, root)
    throw reason
  }
}

async function viewOf({ root, sealed: { snapshot } }: FoundSnapshot): Promise<SnapshotView> {
  const { snapshotId, name, description, createdAt, parts } = snapshot
  const sizes = parts.map(({ file }) => allocatedOctets(`${root}/${exportedName(file)}`))
  return {
    ...{ snapshotId, name, createdAt },
    ...(description === undefined ? {} : { description }),
    allocatedOctets: (await Promise.all(sizes)).reduce((sum, octets) => sum + octets, 0),
  }
}

function keysFor({ descriptor }: StoredVm): readonly KeyObject[] {
  return [...homeKey(descriptor), ...(descriptor.vtpm ? (['vtpm'] as const) : [])]
}

function homeKeyOf({ descriptor }: StoredVm, opened: VmKeys): Secret | undefined {
  return descriptor.provider === undefined ? undefined : opened.of('home')
}

function isDisk(file: string): boolean {
  return file.startsWith('disk-')
}

function sizeOf(files: readonly { readonly octets: number }[]): number {
  return files.reduce((sum, { octets }) => sum + octets, 0)
}

async function digestOf(path: string): Promise<string> {
  const octets = await readPrivateFile(path, MAX_SMALL_OCTETS)
  if (!octets) throw new PlatformError('VM_DESCRIPTOR_CORRUPT', `expected ${path}`)
  return toHex(createHash('sha256').update(octets).digest())
}
