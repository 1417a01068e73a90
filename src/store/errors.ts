import { PlatformError } from '../core/errors.js'

/** Whether a statement failed because a row with the same key is there. */
export function isUniqueViolation(error: unknown): boolean {
  const code = sqliteCode(error)
  return code === 'SQLITE_CONSTRAINT_UNIQUE' || code === 'SQLITE_CONSTRAINT_PRIMARYKEY'
}

/** Codes that say that the disk, the file or the machine, not the statement, was at fault. */
const INPUT_OUTPUT =
  /^SQLITE_(IOERR|FULL|CORRUPT|NOTADB|CANTOPEN|READONLY|PERM|BUSY|LOCKED|PROTOCOL|NOMEM)/

/** A failure of the database as our own error, without its SQL; everything else as it is. */
export function storeError(error: unknown): unknown {
  const code = sqliteCode(error)
  if (code === undefined || !INPUT_OUTPUT.test(code)) return error
  return new PlatformError('STORE_IO', `the database cannot be used: ${code}`, { cause: error })
}

function sqliteCode(error: unknown): string | undefined {
  const { code } = (error ?? {}) as { readonly code?: unknown }
  return typeof code === 'string' && code.startsWith('SQLITE_') ? code : undefined
}
