import { closeSync, constants, fchmodSync, fstatSync, mkdirSync, openSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import Database from 'better-sqlite3'
import { messageOf, PlatformError } from '../core/errors.js'

/** SQLite before this loses committed writes of two connections in WAL mode (the WAL-reset bug, fixed March 2026). */
const OLDEST_SQLITE = [3, 51, 3] as const
const BUSY_TIMEOUT_MS = 10_000
const GROUP_OR_OTHERS_WRITE = 0o022

/**
 * Opens an SQLite file for writing, made for its owner alone where it is not there yet, and checks it.
 *
 * Every commit is on the disk before it is acknowledged (WAL, `synchronous=FULL`), as far as the disk keeps its word.
 *
 * @param file path, or `:memory:`
 * @throws PlatformError `STORE_VERSION`, `FILE_MODE` where others may write in the folder, `STORE_IO` for everything else
 */
export function openSqlite(file: string): Database.Database {
  try {
    if (file !== ':memory:') createPrivately(file)
    const sqlite = new Database(file, { timeout: BUSY_TIMEOUT_MS })
    try {
      prepare(sqlite)
      return sqlite
    } catch (error) {
      sqlite.close()
      throw error
    }
  } catch (error) {
    if (error instanceof PlatformError) throw error
    throw new PlatformError('STORE_IO', `cannot open ${file}: ${messageOf(error)}`, {
      cause: error,
    })
  }
}

/** Throws `STORE_VERSION` for a version of SQLite that is known to lose data. */
export function requireSqliteVersion(version: string): void {
  const found = version.split('.').map(Number)
  for (const [index, part] of OLDEST_SQLITE.entries()) {
    const other = found[index] ?? 0
    if (other > part) return
    if (other < part) {
      const oldest = OLDEST_SQLITE.join('.')
      throw new PlatformError(
        'STORE_VERSION',
        `expected SQLite ${oldest} or newer, found ${version}`,
      )
    }
  }
}

function prepare(sqlite: Database.Database): void {
  requireSqliteVersion(String(sqlite.prepare('select sqlite_version()').pluck().get()))
  sqlite.pragma('journal_mode = WAL')
  sqlite.pragma('synchronous = FULL')
  sqlite.pragma('foreign_keys = ON')
  sqlite.pragma('trusted_schema = OFF')
  sqlite.pragma('secure_delete = ON')
  sqlite.pragma('mmap_size = 0')
  const check = sqlite.pragma('quick_check(1)', { simple: true })
  if (check !== 'ok') throw new PlatformError('STORE_IO', `the database is damaged: ${check}`)
}

/**
 * Makes folder and file with their final modes before SQLite sees them; an existing file is tightened.
 *
 * A folder in which others may write is refused: they could put another file in the place of this one.
 */
function createPrivately(file: string): void {
  const folder = dirname(file)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const { mode } = statSync(folder)
  if ((mode & GROUP_OR_OTHERS_WRITE) !== 0) {
    const found = (mode & 0o7777).toString(8).padStart(4, '0')
    throw new PlatformError('FILE_MODE', `expected ${folder} to have mode 0700, found ${found}`)
  }
  const { O_RDWR, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants
  const descriptor = openSync(file, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600)
  try {
    if (!fstatSync(descriptor).isFile()) {
      throw new PlatformError('STORE_IO', `expected ${file} to be a regular file`)
    }
    fchmodSync(descriptor, 0o600)
  } finally {
    closeSync(descriptor)
  }
}
