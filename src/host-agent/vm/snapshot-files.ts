import { constants, copyFile, readdir, rename, rm } from 'node:fs/promises'
import { isPlatformError, PlatformError } from '../../core/errors.js'
import { isUuid } from '../../core/names.js'
import { copyFileSparse, openRegular } from './copy-file.js'
import { eraseDisk } from './disk.js'
import { requireSpace } from './disk-space.js'
import { isErrno } from './errno.js'
import { syncPath, writePrivateFile } from './files.js'
import { CREATING, DELETING, type VmPaths } from './layout.js'
import { inDirectory, removeTree } from './own-directory.js'
import type { Programs } from './programs.js'
import { findRunning } from './run.js'
import { readSnapshot, type SealedSnapshot, type SnapshotRecord } from './snapshot-record.js'

const OVERHEAD_OCTETS = 1024 * 1024
const PROBE_OCTETS = 64 * 1024
const CANNOT_SHARE = ['ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL', 'ENOTTY', 'EXDEV']

export interface FoundSnapshot {
  readonly root: string
  readonly sealed: SealedSnapshot
}

/** Snapshots of a VM, the oldest first. @throws PlatformError `VM_SNAPSHOT_CORRUPT` for one that cannot be read */
export async function listSnapshots(paths: VmPaths): Promise<readonly FoundSnapshot[]> {
  const ids = (await entriesOf(paths)).filter(isUuid)
  const found = await Promise.all(
    ids.map(async (id) => {
      const root = `${paths.snapshots}/${id}`
      const sealed = await readSnapshot(`${root}/snapshot.json`).catch((cause: unknown) => {
        if (!isPlatformError(cause)) throw cause
        throw new PlatformError('VM_SNAPSHOT_CORRUPT', cause.message, { cause })
      })
      if (sealed.snapshot.snapshotId !== id) {
        const message = `snapshot.json is of snapshot ${sealed.snapshot.snapshotId}`
        throw new PlatformError('VM_SNAPSHOT_CORRUPT', message)
      }
      return { root, sealed }
    }),
  )
  return found.sort((a, b) => (a.sealed.snapshot.createdAt < b.sealed.snapshot.createdAt ? -1 : 1))
}

/** What snapshots can be called, their names and ids: all of a VM, and of them the one that it runs from the memory of. */
export async function snapshotNames(
  paths: VmPaths,
): Promise<{ readonly snapshots: string[]; readonly resumedFrom?: string[] }> {
  const found = (await listSnapshots(paths)).map(({ sealed }) => sealed.snapshot)
  const namesOf = ({ name, snapshotId }: SnapshotRecord) => [name, snapshotId]
  const running = await findRunning(paths)
  const from = found.find(({ snapshotId }) => snapshotId === running?.resumedFrom)
  return { snapshots: found.flatMap(namesOf), ...(from ? { resumedFrom: namesOf(from) } : {}) }
}

/** How many snapshots there are, with what may be one. */
export async function countSnapshots(paths: VmPaths): Promise<number> {
  return (await entriesOf(paths)).filter(isUuid).length
}

/** Removes what an agent left that ended while it made or removed a snapshot. */
export async function removeUnfinishedSnapshots(
  programs: Programs,
  paths: VmPaths,
): Promise<number> {
  const left = (await entriesOf(paths)).filter((name) =>
    [CREATING, DELETING].some((prefix) => name.startsWith(prefix)),
  )
  for (const name of left) await removeSnapshotDirectory(programs, `${paths.snapshots}/${name}`)
  return left.length
}

/** From now on there is no such snapshot; then its key slots are erased and its files removed. */
export async function removeSnapshot(
  programs: Programs,
  paths: VmPaths,
  snapshotId: string,
  onStep: (step: string) => void,
): Promise<void> {
  const gone = `${paths.snapshots}/${DELETING}${snapshotId}`
  onStep('drop')
  await rename(`${paths.snapshots}/${snapshotId}`, gone)
  await syncPath(paths.snapshots)
  onStep('erase')
  await removeSnapshotDirectory(programs, gone)
}

/** Erases the key slots of the volumes in a directory of a snapshot, and removes it. */
export async function removeSnapshotDirectory(programs: Programs, root: string): Promise<void> {
  await inDirectory(root, async (directory) => {
    for (const name of await directory.names()) {
      if (name.endsWith('.luks')) await eraseDisk(programs, directory.path(name))
    }
  })
  await removeTree(root)
}

/** Whether the file system of a directory can share blocks among files. */
export async function canShareBlocks(directory: string): Promise<boolean> {
  const [probe, shared] = [`${directory}/probe`, `${directory}/probe-shared`]
  try {
    // larger than what a file system keeps in its own records
    await writePrivateFile(probe, new Uint8Array(PROBE_OCTETS).fill(1))
    await shareFile({ path: probe, octets: PROBE_OCTETS }, shared)
    return true
  } catch (error) {
    if (isErrno(error, ...CANNOT_SHARE)) return false
    throw error
  } finally {
    for (const path of [probe, shared]) await rm(path, { force: true })
  }
}

/**
 * Copies a file as cheaply as its file system can: shared until one of the two is written, else octet by octet with holes
 * where there are zeros, when there is room for it. The copy is on the disk.
 *
 * @param from must not change meanwhile
 * @throws PlatformError `VM_DISK_FULL`; RangeError for a file of another size; the reason of the signal
 */
export async function copyCheaply(
  from: { readonly path: string; readonly octets: number; readonly roomOctets: number },
  to: string,
  options: {
    readonly directory: string
    readonly onCopied: (octets: number) => void
    readonly signal: AbortSignal | undefined
  },
): Promise<void> {
  options.signal?.throwIfAborted()
  try {
    await shareFile(from, to)
    await syncPath(to)
    options.onCopied(from.octets)
  } catch (error) {
    if (!isErrno(error, ...CANNOT_SHARE)) throw error
    await rm(to, { force: true })
    await requireSpace(options.directory, from.roomOctets + OVERHEAD_OCTETS)
    const { onCopied, signal } = options
    await copyFileSparse(from.path, to, from.octets, { onCopied, ...(signal ? { signal } : {}) })
  }
}

async function entriesOf({ snapshots }: VmPaths): Promise<readonly string[]> {
  try {
    return await readdir(snapshots)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  }
}

/** @throws RangeError for anything but a regular file of this size; the error of a file system that cannot share */
async function shareFile(
  { path, octets }: { readonly path: string; readonly octets: number },
  to: string,
): Promise<void> {
  const { COPYFILE_EXCL, COPYFILE_FICLONE_FORCE } = constants
  await using file = await openRegular(path, octets)
  await copyFile(`/proc/self/fd/${file.fd}`, to, COPYFILE_EXCL | COPYFILE_FICLONE_FORCE)
}
