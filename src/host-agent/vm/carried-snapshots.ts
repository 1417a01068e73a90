import { link, lstat } from 'node:fs/promises'
import { messageOf, PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import { checkSnapshot } from './check-snapshot.js'
import { isErrno } from './errno.js'
import { exportedName } from './export-manifest.js'
import { makePrivateDirectory, syncPath } from './files.js'
import type { VmPaths } from './layout.js'
import type { Descriptor } from './records.js'
import { listSnapshots } from './snapshot-files.js'
import { MEMORY_FILE, type SnapshotRecord } from './snapshot-record.js'

/** Whose snapshots they are, and with which keys. */
interface Owner {
  readonly descriptor: Descriptor
  /** Of the home key. */
  readonly generation: number
  readonly homeKey: Secret
}

/** Files of snapshots, by their names in the directory of their VM. */
export function filesOfSnapshots(snapshots: readonly SnapshotRecord[]): readonly string[] {
  return snapshots.flatMap((snapshot) =>
    namesOf(snapshot).map((name) => `snapshots/${snapshot.snapshotId}/${name}`),
  )
}

/**
 * Files of the snapshots that go with a VM, with their sizes. Each is one of this VM and has all of its parts; what is in them is
 * not looked at.
 *
 * @throws PlatformError `VM_SNAPSHOT_CORRUPT`
 */
export async function filesToCarry(
  paths: VmPaths,
  owner: Owner,
): Promise<readonly { readonly file: string; readonly octets: number }[]> {
  const snapshots = await checkedSnapshots(paths, owner)
  return Promise.all(
    filesOfSnapshots(snapshots).map(async (file) => {
      const stat = await lstat(`${paths.root}/${file}`).catch((cause: unknown) => {
        throw corrupt(messageOf(cause), cause)
      })
      if (!stat.isFile()) throw corrupt(`${file} is no regular file`)
      return { file, octets: stat.size }
    }),
  )
}

/**
 * Gives the files of snapshots a second name in the directory of a VM. As long as they have two, no key slot is erased when one
 * of them goes.
 *
 * @param from directory of the VM, on the same file system
 * @param wanted the snapshots that there are, by id
 * @throws PlatformError `VM_SNAPSHOT_CORRUPT`, also when others are there; errors of the operating system
 */
export async function linkSnapshots(
  from: VmPaths,
  to: VmPaths,
  wanted: readonly string[],
  owner: Owner,
): Promise<void> {
  if (wanted.length === 0) return
  const snapshots = await checkedSnapshots(from, owner)
  const found = snapshots.map(({ snapshotId }) => snapshotId)
  if ([...found].sort().join() !== [...wanted].sort().join()) {
    throw corrupt(`expected ${wanted.length} snapshots, found ${found.length} or others`)
  }
  await makePrivateDirectory(to.snapshots)
  for (const id of found) await makePrivateDirectory(`${to.snapshots}/${id}`)
  for (const file of filesOfSnapshots(snapshots)) {
    await link(`${from.root}/${file}`, `${to.root}/${file}`).catch((cause: unknown) => {
      if (!isErrno(cause, 'ENOENT', 'ENOTDIR')) throw cause
      throw corrupt(messageOf(cause), cause)
    })
  }
  for (const id of found) await syncPath(`${to.snapshots}/${id}`)
  await syncPath(to.snapshots)
}

async function checkedSnapshots(
  paths: VmPaths,
  { descriptor, generation, homeKey }: Owner,
): Promise<readonly SnapshotRecord[]> {
  const found = await listSnapshots(paths)
  for (const { sealed } of found) checkSnapshot(sealed, descriptor, generation, homeKey)
  return found.map(({ sealed }) => sealed.snapshot)
}

function namesOf({ parts, memory }: SnapshotRecord): readonly string[] {
  return [
    'snapshot.json',
    ...parts.map(({ file }) => exportedName(file)),
    ...(memory ? [MEMORY_FILE] : []),
  ]
}

function corrupt(what: string, cause?: unknown): PlatformError {
  return new PlatformError('VM_SNAPSHOT_CORRUPT', `the snapshots of the VM: ${what}`, { cause })
}
