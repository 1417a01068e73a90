import { randomBytes } from 'node:crypto'
import type { Transaction } from 'kysely'
import { PlatformError } from '../core/errors.js'
import { newUuid } from '../core/random.js'
import { Secret } from '../core/secret.js'
import { resealRecords, type SealedColumn } from './reseal.js'
import { type RootKey, rootKeyOf } from './root-key.js'
import { makeSeal, openSeal, type Sealer, type StoredSeal } from './root-key-seal.js'
import type { Store } from './store.js'
import type { FoundationTables } from './tables.js'

const KEY_OCTETS = 32

type Tx = Transaction<FoundationTables>
/** Writes the audit record of a change, in its transaction. */
type Record = (tx: Tx) => Promise<unknown>

/** A root key as it is stored: never without a seal. */
export interface StoredRootKey {
  readonly name: string
  readonly generation: number
  readonly createdAtMs: number
  readonly seals: readonly StoredSeal[]
}

/** The root key of a service with its seals, oldest first; nothing where it has none yet. */
export async function readRootKey(store: Store, name: string): Promise<StoredRootKey | undefined> {
  const tables = store.tables<FoundationTables>()
  const key = await tables
    .selectFrom('root_keys')
    .selectAll()
    .where('name', '=', name)
    .executeTakeFirst()
  if (!key) return undefined
  const seals = await tables
    .selectFrom('root_key_seals')
    .selectAll()
    .where('root_key', '=', name)
    .orderBy('created_at_ms')
    .orderBy('kind')
    .orderBy('seal_id')
    .execute()
  return {
    name,
    generation: key.generation,
    createdAtMs: key.created_at_ms,
    seals: seals.map((row) => ({
      sealId: row.seal_id,
      kind: row.kind,
      parameters: row.parameters,
      sealed: new Uint8Array(row.sealed),
      createdAtMs: row.created_at_ms,
    })),
  }
}

/**
 * Makes the root key of a service, 32 random octets, and stores it under a seal of each sealer.
 *
 * @throws PlatformError `CONFLICT` where the service has one; what a sealer throws
 */
export async function createRootKey(
  store: Store,
  name: string,
  sealers: readonly Sealer[],
  nowMs: number,
): Promise<RootKey> {
  const rootKey = rootKeyOf(new Secret(randomBytes(KEY_OCTETS)))
  try {
    const seals = await makeSeals(name, rootKey, sealers)
    await store.transaction(async (tx: Tx) => {
      const inserted = await tx
        .insertInto('root_keys')
        .values({ name, generation: rootKey.generation, created_at_ms: nowMs })
        .onConflict((conflict) => conflict.column('name').doNothing())
        .executeTakeFirst()
      if ((inserted.numInsertedOrUpdatedRows ?? 0n) === 0n) {
        throw new PlatformError('CONFLICT', `expected no root key ${name}, found one`)
      }
      await insertSeals(tx, name, seals, nowMs)
    })
  } catch (error) {
    rootKey[Symbol.dispose]()
    throw error
  }
  return rootKey
}

/**
 * Opens the root key of a service by the seals of one kind.
 *
 * @throws PlatformError `NOT_FOUND` where there is no root key, `SEAL_NONE` where it has no seal of this kind; what
 *   the oldest of its seals was refused with, where none opens
 */
export async function unsealRootKey(store: Store, name: string, sealer: Sealer): Promise<RootKey> {
  const record = await requireRootKey(store, name)
  const seals = record.seals.filter(({ kind }) => kind === sealer.kind)
  const refusals: unknown[] = []
  for (const seal of seals) {
    try {
      return rootKeyOf(await openSeal(record, seal, sealer), record.generation)
    } catch (error) {
      refusals.push(error)
    }
  }
  if (refusals.length > 0) throw refusals[0]
  throw new PlatformError('SEAL_NONE', `root key ${name} has no seal of kind ${sealer.kind}`)
}

/**
 * Gives a root key one more seal, or one in place of all that it has of this kind.
 *
 * @returns the id of the new seal
 * @throws PlatformError `CONFLICT` where the key was changed in the meantime
 */
export async function addSeal(
  store: Store,
  change: {
    readonly name: string
    readonly rootKey: RootKey
    readonly sealer: Sealer
    readonly replace: boolean
    readonly nowMs: number
    readonly record: (tx: Tx, sealId: string) => Promise<unknown>
  },
): Promise<string> {
  const { name, rootKey, sealer, nowMs } = change
  const seal = await makeSeal(name, rootKey, sealer)
  return store.transaction(async (tx: Tx) => {
    await requireGeneration(tx, name, rootKey)
    if (change.replace) {
      await tx
        .deleteFrom('root_key_seals')
        .where('root_key', '=', name)
        .where('kind', '=', sealer.kind)
        .execute()
    }
    const [sealId = ''] = await insertSeals(tx, name, [seal], nowMs)
    await change.record(tx, sealId)
    return sealId
  })
}

/** @throws PlatformError `NOT_FOUND`; `SEAL_LAST` where the key would have none left */
export async function removeSeal(
  store: Store,
  change: { readonly name: string; readonly sealId: string; readonly record: Record },
): Promise<void> {
  const { name, sealId } = change
  await store.transaction(async (tx: Tx) => {
    const rows = await tx
      .selectFrom('root_key_seals')
      .select('seal_id')
      .where('root_key', '=', name)
      .execute()
    if (!rows.some((row) => row.seal_id === sealId)) {
      throw new PlatformError('NOT_FOUND', `root key ${name} has no seal ${sealId}`)
    }
    if (rows.length === 1) {
      throw new PlatformError('SEAL_LAST', `${sealId} is the only seal of root key ${name}`)
    }
    await tx.deleteFrom('root_key_seals').where('seal_id', '=', sealId).execute()
    await change.record(tx)
  })
}

/**
 * Replaces a root key: new key, new seals, and everything that was sealed under the old one sealed under the new, in
 * one transaction. The old key stays the caller's to dispose of.
 *
 * Nobody else may seal anything under the old key from the beginning of this call on: it would be lost.
 *
 * @returns the new key, and how many records were sealed again
 * @throws PlatformError `ROOT_KEY_OPEN` where a record does not open; then, as after every other error, nothing changed
 */
export async function rotateRootKey(
  store: Store,
  change: {
    readonly name: string
    readonly old: RootKey
    readonly sealers: readonly Sealer[]
    readonly columns: readonly SealedColumn[]
    readonly nowMs: number
    readonly record: (tx: Tx, resealed: number) => Promise<unknown>
  },
): Promise<{ readonly rootKey: RootKey; readonly resealed: number }> {
  const { name, old, nowMs } = change
  const rootKey = rootKeyOf(new Secret(randomBytes(KEY_OCTETS)), old.generation + 1)
  try {
    const seals = await makeSeals(name, rootKey, change.sealers)
    const resealed = await store.transaction(async (tx: Tx) => {
      await requireGeneration(tx, name, old)
      const count = await resealRecords(tx, change.columns, old, rootKey)
      await tx.deleteFrom('root_key_seals').where('root_key', '=', name).execute()
      await insertSeals(tx, name, seals, nowMs)
      await tx
        .updateTable('root_keys')
        .set({ generation: rootKey.generation, created_at_ms: nowMs })
        .where('name', '=', name)
        .execute()
      await change.record(tx, count)
      return count
    })
    return { rootKey, resealed }
  } catch (error) {
    rootKey[Symbol.dispose]()
    throw error
  }
}

async function requireRootKey(store: Store, name: string): Promise<StoredRootKey> {
  const record = await readRootKey(store, name)
  if (record) return record
  throw new PlatformError('NOT_FOUND', `no root key ${name}`)
}

async function requireGeneration(tx: Tx, name: string, rootKey: RootKey): Promise<void> {
  const row = await tx
    .selectFrom('root_keys')
    .select('generation')
    .where('name', '=', name)
    .executeTakeFirst()
  if (row?.generation === rootKey.generation) return
  throw new PlatformError(
    'CONFLICT',
    `expected root key ${name} in generation ${rootKey.generation}, found ${row?.generation}`,
  )
}

type NewSeal = Awaited<ReturnType<typeof makeSeal>>

async function makeSeals(
  name: string,
  rootKey: RootKey,
  sealers: readonly Sealer[],
): Promise<readonly NewSeal[]> {
  if (sealers.length === 0) throw new PlatformError('SEAL_LAST', `root key ${name} needs a seal`)
  const seals: NewSeal[] = []
  for (const sealer of sealers) seals.push(await makeSeal(name, rootKey, sealer))
  return seals
}

async function insertSeals(
  tx: Tx,
  name: string,
  seals: readonly NewSeal[],
  nowMs: number,
): Promise<readonly string[]> {
  const rows = seals.map((seal) => ({
    ...seal,
    seal_id: newUuid(),
    root_key: name,
    created_at_ms: nowMs,
  }))
  await tx.insertInto('root_key_seals').values(rows).execute()
  return rows.map((row) => row.seal_id)
}
