import { constants, type Stats } from 'node:fs'
import { lstat, open, readdir, readFile, realpath, stat } from 'node:fs/promises'
import { basename, dirname, isAbsolute } from 'node:path'
import { messageOf, PlatformError } from '../../core/errors.js'

/** Others than the owner may write. */
const WRITABLE_BY_OTHERS = 0o022

/**
 * The path of a file or directory that may be taken into a VM, without links in it: below one of the directories, where
 * nobody but root or the agent can have put it, or can replace it meanwhile.
 *
 * Does not look at the file itself; see `checkImportFile`.
 *
 * @param directories that imports are allowed from
 * @throws PlatformError `VM_IMPORT_PATH`, `VM_IMPORT_FILE`
 */
export async function resolveImport(path: string, directories: readonly string[]): Promise<string> {
  const name = basename(path)
  if (!isAbsolute(path) || path.includes('\0') || name === '' || name === '..' || name === '.') {
    throw new PlatformError('VM_IMPORT_PATH', `expected an absolute path, found ${path}`)
  }
  const parent = await realpath(dirname(path)).catch((cause: unknown) => {
    throw new PlatformError('VM_IMPORT_PATH', `${path}: ${messageOf(cause)}`, { cause })
  })
  for (const allowed of directories) {
    const root = await realpath(allowed).catch(() => undefined)
    if (root === undefined || !(parent === root || parent.startsWith(`${root}/`))) continue
    for (let folder = parent; ; folder = dirname(folder)) {
      requireOurs(folder, await lstat(folder))
      if (folder === root) return `${parent}/${name}`
    }
  }
  const listed = directories.join(', ') || 'none is configured'
  throw new PlatformError(
    'VM_IMPORT_PATH',
    `expected a path below a directory that disks are taken from (${listed}), found ${path}`,
  )
}

/**
 * Whether a file may be taken: a regular file of root or the agent, which others cannot write to, with one name.
 *
 * @param path of `resolveImport`
 * @returns what identifies the file, so that it is seen when another takes its place
 * @throws PlatformError `VM_IMPORT_FILE`, `VM_DISK_IN_USE`
 */
export async function checkImportFile(path: string): Promise<Stats> {
  const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants
  const file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch((cause: unknown) => {
    throw new PlatformError('VM_IMPORT_FILE', `${path}: ${messageOf(cause)}`, { cause })
  })
  let found: Stats
  try {
    found = await file.stat()
  } finally {
    await file.close()
  }
  if (!found.isFile()) throw new PlatformError('VM_IMPORT_FILE', `${path} is no regular file`)
  requireOurs(path, found)
  if (found.nlink !== 1) {
    throw new PlatformError('VM_IMPORT_FILE', `expected ${path} to have one name, found more`)
  }
  await requireUnused(path, found)
  return found
}

/** Whether both are the same file. */
export function isSameFile(one: Stats, other: Stats): boolean {
  return one.dev === other.dev && one.ino === other.ino
}

function requireOurs(path: string, { uid, mode }: Stats): void {
  if (uid !== 0 && uid !== process.geteuid?.()) {
    throw new PlatformError('VM_IMPORT_FILE', `expected ${path} to be of root, found user ${uid}`)
  }
  if ((mode & WRITABLE_BY_OTHERS) !== 0) {
    const found = (mode & 0o777).toString(8)
    throw new PlatformError('VM_IMPORT_FILE', `${path} can be written by others (mode ${found})`)
  }
}

/** Looks at every descriptor of every process that can be seen, and at loop devices. Mappings without one are not found. */
async function requireUnused(path: string, file: Stats): Promise<void> {
  const inUse = (by: string) => new PlatformError('VM_DISK_IN_USE', `${path} is open in ${by}`)
  for (const pid of await numbered('/proc')) {
    for (const descriptor of await numbered(`/proc/${pid}/fd`)) {
      const open = await stat(`/proc/${pid}/fd/${descriptor}`).catch(() => undefined)
      if (open?.isFile() && isSameFile(open, file)) throw inUse(`process ${pid}`)
    }
  }
  const devices = await readdir('/sys/block').catch(() => [])
  for (const device of devices.filter((name) => name.startsWith('loop'))) {
    const backing = await readFile(`/sys/block/${device}/loop/backing_file`, 'utf8').catch(
      () => undefined,
    )
    const found = backing && (await stat(backing.trimEnd()).catch(() => undefined))
    if (found && isSameFile(found, file)) throw inUse(device)
  }
}

async function numbered(directory: string): Promise<readonly string[]> {
  // a process that has ended has none
  const names = await readdir(directory).catch(() => [])
  return names.filter((name) => /^[0-9]+$/.test(name))
}
