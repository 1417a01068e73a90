import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Kysely, type Transaction } from 'kysely'
import {
  type AuditEntry,
  appendAudit,
  type FoundationTables,
  openStore,
  type Store,
} from '../../../src/store/index.js'
import { openSqlite } from '../../../src/store/open-sqlite.js'
import { StoreDialect } from '../../../src/store/sqlite-dialect.js'

export type Tx = Transaction<FoundationTables>

export const NOW_MS = 1_800_000_000_000

export interface Folder extends Disposable {
  readonly path: string
  file(name: string): string
}

/** A new folder, mode 0700, that is gone afterwards. */
export function temporaryFolder(): Folder {
  const path = mkdtempSync(join(tmpdir(), 'sigillo-store-'))
  return {
    path,
    file: (name) => join(path, name),
    [Symbol.dispose]: () => rmSync(path, { recursive: true }),
  }
}

export interface TestStore extends AsyncDisposable {
  readonly store: Store
  readonly file: string
}

/** A store on a real file in a folder of its own. */
export async function openTestStore(): Promise<TestStore> {
  const folder = temporaryFolder()
  const file = folder.file('sigillo.db')
  const store = await openStore({ file })
  return {
    store,
    file,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]()
      folder[Symbol.dispose]()
    },
  }
}

export function auditEntry(number: number, change: Partial<AuditEntry> = {}): AuditEntry {
  return {
    chain: 'attestation',
    atMs: NOW_MS + number,
    actor: 'operator:admin',
    action: 'host.revoke',
    subject: `host:host-${number}`,
    outcome: 'done',
    detail: { number, reason: 'lost' },
    ...change,
  }
}

export function append(
  store: Store,
  entry: AuditEntry,
): Promise<{ readonly seq: number; readonly hash: string }> {
  return store.transaction((tx: Tx) => appendAudit(tx, entry))
}

/** The file as it is: no migration is run. */
export function openRaw(file: string): AsyncDisposable & { readonly db: Kysely<unknown> } {
  const db = new Kysely<unknown>({ dialect: new StoreDialect(openSqlite(file)) })
  return { db, [Symbol.asyncDispose]: () => db.destroy() }
}
