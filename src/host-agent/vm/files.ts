import { constants } from 'node:fs'
import { type FileHandle, lstat, mkdir, open, rename, rm } from 'node:fs/promises'
import { isErrno } from './errno.js'

const PRIVATE_FILE = 0o600
const PRIVATE_DIRECTORY = 0o700
const ZEROS = new Uint8Array(64 * 1024)

/** Makes a directory that only its owner may enter. It must not exist. */
export async function makePrivateDirectory(path: string): Promise<void> {
  await mkdir(path, { mode: PRIVATE_DIRECTORY })
}

/** A new file, private from its first moment. It must not exist, not even as a link. The caller closes the handle. */
export function createPrivateFile(path: string): Promise<FileHandle> {
  const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants
  return open(path, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR, PRIVATE_FILE)
}

/** Writes a new private file and brings it to the disk. */
export async function writePrivateFile(path: string, content: Uint8Array | string): Promise<void> {
  const file = await createPrivateFile(path)
  try {
    await file.writeFile(content)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Puts a private file in the place of the one that may be there: readers and crashes see the old or the new one. */
export async function replacePrivateFile(
  directory: string,
  name: string,
  content: Uint8Array | string,
): Promise<void> {
  const next = `${directory}/${name}.new`
  await rm(next, { force: true })
  try {
    await writePrivateFile(next, content)
    await rename(next, `${directory}/${name}`)
  } catch (error) {
    await rm(next, { force: true })
    throw error
  }
  await syncPath(directory)
}

/**
 * Content of a regular file of at most `maxOctets`, or undefined where there is none.
 *
 * Follows no link in the last part of the path, and never waits for a writer.
 */
export async function readPrivateFile(
  path: string,
  maxOctets: number,
): Promise<Uint8Array | undefined> {
  const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants
  let file: FileHandle
  try {
    file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
  try {
    const stat = await file.stat()
    if (!stat.isFile() || stat.size > maxOctets) {
      throw new RangeError(`expected a regular file of at most ${maxOctets} octets`)
    }
    return new Uint8Array(await file.readFile())
  } finally {
    await file.close()
  }
}

/** Whether something has this name, be it a link that leads nowhere. What cannot be looked at is an error, not nothing. */
export async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    // a file where a directory of the path should be: nothing is below it
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return false
    throw error
  }
}

/** Brings a file or the entries of a directory to the disk. */
export async function syncPath(path: string): Promise<void> {
  const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants
  const file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/**
 * Overwrites the first octets of a file, in place. What a file system or drive keeps elsewhere is not reached; on a
 * full file system holes of the file stay holes.
 *
 * Nothing is done to what is no regular file, such as a link: it is nothing that was written here.
 */
export async function overwriteWithZeros(path: string, maxOctets: number): Promise<void> {
  const file = await openToErase(path)
  if (!file) return
  try {
    await overwriteFile(file, maxOctets)
  } finally {
    await file.close()
  }
}

/** A regular file, to be overwritten; undefined for anything else. @throws the error of the operating system: `ENOENT` */
export async function openToErase(path: string): Promise<FileHandle | undefined> {
  const { O_NOFOLLOW, O_NONBLOCK, O_RDWR } = constants
  let file: FileHandle
  try {
    file = await open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK)
  } catch (error) {
    if (isErrno(error, 'ELOOP', 'EISDIR', 'ENXIO')) return undefined
    throw error
  }
  if ((await file.stat()).isFile()) return file
  await file.close()
  return undefined
}

/** As `overwriteWithZeros`, of an open file. */
export async function overwriteFile(file: FileHandle, maxOctets: number): Promise<void> {
  const end = Math.min((await file.stat()).size, maxOctets)
  for (let offset = 0; offset < end; offset += ZEROS.length) {
    await file
      .write(ZEROS, 0, Math.min(ZEROS.length, end - offset), offset)
      .catch((error: unknown) => {
        if (!isErrno(error, 'ENOSPC', 'EDQUOT')) throw error
      })
  }
  await file.sync()
}
