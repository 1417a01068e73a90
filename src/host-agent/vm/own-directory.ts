import { constants } from 'node:fs'
import { type FileHandle, lstat, open, readdir, rmdir, unlink } from 'node:fs/promises'
import { PlatformError } from '../../core/errors.js'
import { isErrno } from './errno.js'
import type { VmPaths } from './layout.js'

/** Directories of VMs, of their snapshots and changes, are not deeper than this. */
const MAX_DEPTH = 16

/** A directory that is open: whatever becomes of its name, what is in it is reached through it. */
interface OpenDirectory extends AsyncDisposable {
  names(): Promise<readonly string[]>
  /** A path to an entry, for this process and as long as the directory is open. The entry itself may be a link. */
  path(name: string): string
}

/** Removes a directory with all that is in it, or a file, where there is one. Links in it are removed and never followed. */
export async function removeTree(path: string, depth = 0): Promise<void> {
  if (depth > MAX_DEPTH)
    throw new RangeError(`expected at most ${MAX_DEPTH} directories in one another`)
  const isDirectory = await inDirectory(path, async (directory) => {
    for (const name of await directory.names()) await removeTree(directory.path(name), depth + 1)
  })
  await (isDirectory ? rmdir(path) : unlink(path)).catch((error: unknown) => {
    if (!isErrno(error, 'ENOENT')) throw error
  })
}

/** Does something in a directory, where there is one. @returns whether there was */
export async function inDirectory(
  path: string,
  work: (directory: OpenDirectory) => Promise<void>,
): Promise<boolean> {
  await using directory = await openDirectory(path)
  if (directory) await work(directory)
  return directory !== undefined
}

/**
 * Refuses a VM one of whose directories is a link, or no directory: its files would be read and written elsewhere.
 *
 * @throws PlatformError `VM_DESCRIPTOR_CORRUPT`
 */
export async function requireOwnDirectories(paths: VmPaths): Promise<void> {
  const { change } = paths
  const changing = ['new', 'new/vtpm', 'old', 'old/vtpm', 'take', 'give']
  const directories = [
    ...[paths.vtpm, paths.vtpmCertificates, paths.snapshots, paths.run, change],
    ...changing.map((name) => `${change}/${name}`),
  ]
  for (const path of directories) {
    const found = await lstat(path).catch((error: unknown) => {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
      throw error
    })
    if (found && !found.isDirectory()) {
      const what = found.isSymbolicLink() ? 'a link' : 'another file'
      throw new PlatformError(
        'VM_DESCRIPTOR_CORRUPT',
        `expected a directory ${path}, found ${what}`,
      )
    }
  }
}

/**
 * Opens a directory; undefined where there is none of this name, or a link or another file.
 *
 * Who can write where VMs lie can put a link to any directory of the host in the place of one, also after it was looked at.
 * What is erased or removed is therefore reached through directories that are open.
 */
async function openDirectory(path: string): Promise<OpenDirectory | undefined> {
  const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = constants
  let handle: FileHandle
  try {
    handle = await open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined
    throw error
  }
  const base = `/proc/self/fd/${handle.fd}`
  return {
    names: () => readdir(base),
    path: (name) => `${base}/${name}`,
    [Symbol.asyncDispose]: () => handle.close(),
  }
}
