import { constants } from 'node:fs'
import { link, lstat, mkdir, open, readdir, rename, rmdir, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type Static, Type } from 'typebox'
import { Exactly } from '../../api/common.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { eraseDisk } from './disk.js'
import { BUNDLE_RECORD, DETACHED, readBundle } from './disk-bundle.js'
import { isErrno } from './errno.js'
import {
  isThere,
  makePrivateDirectory,
  overwriteWithZeros,
  readPrivateFile,
  replacePrivateFile,
  syncPath,
} from './files.js'
import { isSameFile } from './import-file.js'
import { pathsOf, type VmPaths } from './layout.js'
import { inDirectory, removeTree, requireOwnDirectories } from './own-directory.js'
import type { Programs } from './programs.js'
import { encodeRecord, parseRecord } from './records.js'

const MAX_COMMIT_OCTETS = 64 * 1024
const COMMIT = 'commit.json'
/** Records are overwritten when they are dropped; disks have key slots to erase, or nothing. */
const RECORD_OCTETS = 1024 * 1024

/** Relative to the directory of the VM. Nothing else can be named, whatever a commit says. */
const VmFile = Type.String({
  pattern:
    '^(vm\\.json|keys\\.json|home\\.(enc|json)|vtpm\\.json|vtpm-backup\\.permall|nvram\\.(fd|luks)|vtpm(/tpm2-00\\.permall|/certs/[a-z-]{1,20}\\.pem)?|disk-[a-z0-9._-]{1,58}\\.(luks|raw))$',
})

const DiskFileName = Type.String({ pattern: '^disk-[a-z0-9._-]{1,58}\\.(luks|raw)$' })

const Commit = Exactly({
  format: Type.Literal(1),
  /** Files that take the place of those of their names, or are new. */
  put: Type.Array(VmFile, { maxItems: 64 }),
  /** Files that are no longer of the VM. */
  drop: Type.Array(VmFile, { maxItems: 64 }),
  /** Files that become as long as this. */
  resize: Type.Array(Exactly({ file: VmFile, octets: Type.Integer({ minimum: 1 }) }), {
    maxItems: 16,
  }),
  /**
   * Files from outside that become files of the VM. Each has a second name in `change/take` already; the first one, which
   * goes, is told by that. With `bundle` the record beside it goes, too.
   */
  take: Type.Optional(
    Type.Array(
      Exactly({
        file: DiskFileName,
        from: Type.String({ pattern: '^/[^\\0]*$', maxLength: 4096 }),
        bundle: Type.Boolean(),
      }),
      { maxItems: 1 },
    ),
  ),
  /** A disk that leaves the VM, into the directory of detached disks; `change/give` has its record. */
  give: Type.Optional(
    Type.Array(
      Exactly({
        file: DiskFileName,
        bundle: Type.String({ pattern: '^[a-z0-9][a-z0-9._-]{0,200}$' }),
      }),
      { maxItems: 1 },
    ),
  ),
})
type Commit = Static<typeof Commit>
type Take = NonNullable<Commit['take']>[number]
type Give = NonNullable<Commit['give']>[number]

/** What a change does to the files of a VM, by their names in its directory. */
export type FileChange = Partial<Omit<Commit, 'format'>>

/**
 * Begins a change of several files of a VM that must happen as one. New files are made at the returned paths; the VM
 * is as it was until `commitChange`. There is one change of a VM at a time.
 */
export async function stageChange(paths: VmPaths): Promise<VmPaths> {
  const staged = pathsOf(`${paths.change}/new`)
  await makePrivateDirectory(paths.change)
  await makePrivateDirectory(staged.root)
  await makePrivateDirectory(staged.vtpm)
  return staged
}

/**
 * Makes the staged files those of the VM, takes disks in and gives them away. From one moment on, when `commit.json` has its name, the change is done,
 * whatever becomes of this process: `settleChange` completes it. The files must be on the disk already.
 *
 * @param onStep called before each of the steps `commit`, `place`, `erase`
 */
export async function commitChange(
  programs: Programs,
  paths: VmPaths,
  change: FileChange,
  onStep: (step: string) => void,
): Promise<void> {
  onStep('commit')
  const { put = [], drop = [], resize = [], take = [], give = [] } = change
  const staged = pathsOf(`${paths.change}/new`)
  for (const path of [staged.vtpm, staged.root, paths.change, paths.root]) await syncPath(path)
  const commit: Commit = { format: 1, put, drop, resize, take, give }
  await replacePrivateFile(paths.change, COMMIT, encodeRecord(commit))
  await complete(programs, paths, commit, onStep)
}

/**
 * Ends a change that was begun and not ended: completes it if it was committed, else undoes it, with the keys of what
 * was made erased.
 *
 * @throws PlatformError `VM_CHANGE_CORRUPT`, `VM_DESCRIPTOR_CORRUPT`
 */
export async function settleChange(
  programs: Programs,
  paths: VmPaths,
): Promise<'none' | 'completed' | 'undone'> {
  await requireOwnDirectories(paths)
  const commit = await readCommit(paths)
  if (commit) {
    await complete(programs, paths, commit)
    return 'completed'
  }
  const isStaged = (await names(paths.change)) !== undefined
  if (!isStaged) return 'none'
  await discard(programs, paths, 'new')
  await discard(programs, paths, 'old')
  await removeChange(paths)
  return 'undone'
}

/** Every step may be taken again after it was taken. */
async function complete(
  programs: Programs,
  paths: VmPaths,
  commit: Commit,
  onStep: (step: string) => void = () => undefined,
): Promise<void> {
  onStep('place')
  const { root, change } = paths
  await mkdir(`${change}/old/vtpm`, { recursive: true, mode: 0o700 })
  for (const file of commit.put) {
    const next = `${change}/new/${file}`
    // where it is gone it took its place already, and what is there now is the new one
    if (!(await isThere(next))) continue
    await mkdir(dirname(`${change}/old/${file}`), { recursive: true, mode: 0o700 })
    // a second name, so that the file is there at every moment
    await link(`${root}/${file}`, `${change}/old/${file}`).catch(unless('ENOENT', 'EEXIST'))
    await rename(next, `${root}/${file}`)
  }
  for (const file of commit.drop) {
    await rename(`${root}/${file}`, `${change}/old/${file}`).catch(unless('ENOENT'))
  }
  for (const { file, octets } of commit.resize) {
    await grow(`${root}/${file}`, octets)
  }
  for (const one of commit.take ?? []) await takeIn(paths, one)
  for (const one of commit.give ?? []) await giveAway(paths, one)
  for (const file of [...commit.put, ...commit.drop]) {
    await syncPath(dirname(`${root}/${file}`)).catch(unless('ENOENT'))
  }
  onStep('erase')
  await discard(programs, paths, 'old')
  await removeChange(paths)
}

/** @throws PlatformError `VM_CHANGE_CORRUPT` for anything but a regular file that is not longer yet */
async function grow(path: string, octets: number): Promise<void> {
  const { O_NOFOLLOW, O_NONBLOCK, O_RDWR } = constants
  const refuse = (cause?: unknown) => {
    const message = `expected a file ${path} of at most ${octets} octets`
    return new PlatformError('VM_CHANGE_CORRUPT', message, { cause })
  }
  const file = await open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK).catch((cause: unknown) => {
    throw refuse(cause)
  })
  await using handle = file
  const found = await handle.stat()
  if (!found.isFile() || found.size > octets) throw refuse()
  await handle.truncate(octets)
  await handle.sync()
}

async function takeIn(paths: VmPaths, { file, from, bundle }: Take): Promise<void> {
  const { root, change } = paths
  await rename(`${change}/take/${file}`, `${root}/${file}`).catch(unless('ENOENT'))
  await syncPath(root)
  const [taken, left] = await Promise.all(
    [`${root}/${file}`, from].map((path) =>
      lstat(path).catch((error: unknown) => {
        unless('ENOENT', 'ENOTDIR')(error)
        return undefined
      }),
    ),
  )
  // whatever else has that name by now is left alone
  if (taken && left && isSameFile(taken, left)) await unlink(from)
  const directory = dirname(from)
  if (bundle && !(await isThere(from)) && (await readBundle(directory).catch(() => undefined))) {
    await overwriteWithZeros(`${directory}/${BUNDLE_RECORD}`, RECORD_OCTETS)
    await unlink(`${directory}/${BUNDLE_RECORD}`)
    await rmdir(directory).catch(unless('ENOTEMPTY'))
  }
  await syncPath(directory).catch(unless('ENOENT', 'ENOTDIR'))
}

async function giveAway(paths: VmPaths, { file, bundle }: Give): Promise<void> {
  const { root, change } = paths
  const directory = `${dirname(root)}/${DETACHED}`
  if (!(await isThere(`${change}/give`))) return
  const name = file.endsWith('.luks') ? 'disk.luks' : 'disk.raw'
  await rename(`${root}/${file}`, `${change}/give/${name}`).catch(unless('ENOENT'))
  await syncPath(`${change}/give`)
  await mkdir(directory, { recursive: true, mode: 0o700 })
  await rename(`${change}/give`, `${directory}/${bundle}`)
  for (const path of [root, directory, dirname(directory)]) await syncPath(path)
}

/** Erases key slots and records below a directory of a change. Octets of plain disks are left to the file system. */
async function discard(
  programs: Programs,
  { change }: VmPaths,
  name: 'new' | 'old',
): Promise<void> {
  await inDirectory(change, ({ path }) => eraseAll(programs, path(name)))
}

async function eraseAll(programs: Programs, directory: string): Promise<void> {
  await inDirectory(directory, async ({ names, path }) => {
    for (const name of await names()) {
      if (name === 'vtpm') await eraseAll(programs, path(name))
      // certificates are public
      else if (name === 'certs') continue
      else if (name.endsWith('.luks')) await eraseDisk(programs, path(name))
      else if (!name.endsWith('.raw')) await overwriteWithZeros(path(name), RECORD_OCTETS)
    }
  })
}

async function removeChange(paths: VmPaths): Promise<void> {
  await removeTree(paths.change)
  await syncPath(paths.root)
}

async function readCommit(paths: VmPaths): Promise<Commit | undefined> {
  const path = `${paths.change}/${COMMIT}`
  const octets = await readPrivateFile(path, MAX_COMMIT_OCTETS).catch((cause: unknown) => {
    throw new PlatformError('VM_CHANGE_CORRUPT', `${path}: ${messageOf(cause)}`, { cause })
  })
  return octets && parseRecord(Commit, octets, 'VM_CHANGE_CORRUPT', path)
}

async function names(directory: string): Promise<readonly string[] | undefined> {
  try {
    return await readdir(directory)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

function unless(...codes: readonly string[]) {
  return (error: unknown): void => {
    if (!isErrno(error, ...codes)) throw error
  }
}
