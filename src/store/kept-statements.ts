import type Database from 'better-sqlite3'

/** More than all statements of the program; what is made of lists of values could go on without end. */
const MAX_STATEMENTS = 500

/** The database with every statement prepared once: SQLite prepares it again itself where the schema has changed. */
export function keepStatements(
  sqlite: Database.Database,
): Pick<Database.Database, 'prepare' | 'close'> {
  const kept = new Map<string, Database.Statement>()
  return {
    prepare(sql: string): Database.Statement {
      const known = kept.get(sql)
      if (known) return known
      if (kept.size >= MAX_STATEMENTS) kept.clear()
      const statement = sqlite.prepare(sql)
      kept.set(sql, statement)
      return statement
    },
    close() {
      kept.clear()
      return sqlite.close()
    },
  } as Pick<Database.Database, 'prepare' | 'close'>
}
