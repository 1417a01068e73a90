import { createCipheriv, randomBytes, scryptSync } from 'node:crypto'
import Database from 'better-sqlite3'
import { Kysely, Migrator, SqliteDialect } from 'kysely'
import { expect, test } from 'vitest'
import { lengthPrefixed, toBase64url, toHex, utf8 } from '../../../src/core/bytes.js'
import { Secret } from '../../../src/core/secret.js'
import { passphraseSealer } from '../../../src/seals/index.js'
import { openStore, readRootKey, rootKeyOf, unsealRootKey } from '../../../src/store/index.js'
import { migrations } from '../../../src/store/migrations/index.js'
import { temporaryFolder } from './support.js'

const PASSPHRASE = 'correct horse battery staple'
const ROOT = Uint8Array.from({ length: 32 }, (_, at) => at)

test('a root key of a database from before there were kinds of seal opens with its passphrase', async () => {
  using folder = temporaryFolder()
  const file = folder.file('sigillo.db')
  await storeBefore('0011', file)

  await using store = await openStore({ file })
  expect(await readRootKey(store, 'attestation')).toMatchObject({
    generation: 1,
    seals: [{ kind: 'passphrase', createdAtMs: 5 }],
  })
  using rootKey = await unsealRootKey(
    store,
    'attestation',
    passphraseSealer(new Secret(utf8(PASSPHRASE))),
  )
  const sealed = rootKeyOf(new Secret(ROOT.slice())).seal('p', utf8('c'), Uint8Array.of(4, 5))
  expect(rootKey.open('p', utf8('c'), sealed).use(toHex)).toBe('0405')
})

/** A database of the steps before this one, with a root key in the form of that time, made without our code. */
async function storeBefore(step: string, file: string): Promise<void> {
  const sqlite = new Database(file)
  const db = new Kysely<unknown>({ dialect: new SqliteDialect({ database: sqlite }) })
  const earlier = Object.entries(migrations).filter(([name]) => name < step)
  const migrator = new Migrator({
    db,
    provider: { getMigrations: async () => Object.fromEntries(earlier) },
  })
  expect((await migrator.migrateToLatest()).error).toBeUndefined()

  const salt = randomBytes(16)
  const parameters = `{"N":131072,"kind":"passphrase","p":1,"r":8,"salt":"${toBase64url(salt)}"}`
  const cost = { N: 131_072, r: 8, p: 1, maxmem: 2 ** 28 }
  const iv = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', scryptSync(PASSPHRASE, salt, 32, cost), iv)
  cipher.setAAD(lengthPrefixed(utf8('sigillo root key v1'), utf8('attestation'), utf8(parameters)))
  const sealed = Buffer.concat([iv, cipher.update(ROOT), cipher.final(), cipher.getAuthTag()])
  sqlite
    .prepare('insert into root_keys (name, created_at_ms, parameters, sealed) values (?, 5, ?, ?)')
    .run('attestation', parameters, sealed)
  await db.destroy()
}
