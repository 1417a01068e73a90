import type { Transaction } from 'kysely'
import { lengthPrefixed, utf8 } from '../../core/bytes.js'
import { loadOrCreateServiceKey, type RootKey, type Store } from '../../store/index.js'
import {
  exportSigningKey,
  generateSigningKey,
  importJwks,
  importSigningKey,
  type PublishedJwks,
  publicJwks,
  type SignatureAlgorithm,
  type SigningKey,
  type VerificationKeys,
} from '../../tokens/index.js'
import type { AttestationTransaction, StoredSigningKey } from '../ports.js'
import { type AttestationTx, transactionOf } from './store.js'
import type { AttestationTables } from './tables.js'

type Tx = Transaction<AttestationTables>

/**
 * How long a retired key is still published: the longest life of a token, twice the largest difference of clocks, and
 * the time for which a relying party may keep a key set.
 */
const OVERLAP_MS = (300 + 2 * 60 + 60) * 1000
/** What signing keys are sealed for. */
export const SIGNING_KEY_PURPOSE = 'signing-key'
const SERVICE = 'attestation'

/** The keys that tokens are signed with: one active, those before it published until their last token ended. */
export interface SigningKeys {
  active(): SigningKey
  jwks(): PublishedJwks
  verificationKeys(): VerificationKeys
  list(): readonly StoredSigningKey[]
  /** Reads what other processes of the site have changed, and forgets keys whose time is over. */
  refresh(nowMs: number): Promise<void>
  /**
   * Makes a new key, retires the active one. The new key signs at once: a relying party that meets an unknown `kid`
   * asks for the key set again.
   *
   * @param record runs in the same transaction
   */
  rotate(
    algorithm: SignatureAlgorithm,
    nowMs: number,
    record: (tx: AttestationTransaction, kid: string) => Promise<void>,
  ): Promise<StoredSigningKey>
}

interface Held {
  readonly stored: StoredSigningKey
  readonly key: SigningKey
}

/** Opens the keys; makes the first one, or takes over the one of a site that had no more than one. */
export async function openSigningKeys(
  store: Store,
  rootKey: RootKey,
  issuer: string,
  nowMs: number,
): Promise<SigningKeys> {
  let held: readonly Held[] = []
  let verification: VerificationKeys = new Map()

  const take = async (keys: readonly Held[]): Promise<void> => {
    held = keys
    verification = await importJwks(publicJwks(keys.map(({ key }) => key)))
  }
  const active = (): Held => {
    const found = held.find(({ stored }) => stored.retiredAtMs === undefined)
    if (!found) throw new TypeError('no signing key is active')
    return found
  }
  const refresh = async (atMs: number): Promise<void> => {
    const rows = await store.transaction(async (tx: Tx) => {
      await tx
        .deleteFrom('attestation_signing_keys')
        .where('retired_at_ms', '<', atMs - OVERLAP_MS)
        .execute()
      return tx
        .selectFrom('attestation_signing_keys')
        .selectAll()
        .orderBy('created_at_ms')
        .execute()
    })
    const known = new Map(held.map((entry) => [entry.key.kid, entry]))
    const keys: Held[] = []
    for (const row of rows) {
      const stored: StoredSigningKey = {
        kid: row.kid,
        algorithm: row.algorithm as SignatureAlgorithm,
        createdAtMs: row.created_at_ms,
        ...(row.retired_at_ms === null ? {} : { retiredAtMs: row.retired_at_ms }),
      }
      const before = known.get(row.kid)
      using secret = before ? undefined : open(rootKey, row.kid, new Uint8Array(row.sealed))
      const key = before?.key ?? (await secret?.use(importSigningKey))
      if (key) keys.push({ stored, key })
    }
    await take(keys)
  }

  await adoptFirst(store, rootKey, nowMs)
  await refresh(nowMs)
  return {
    active: () => active().key,
    jwks: () => publicJwks(held.map(({ key }) => key)),
    verificationKeys: () => verification,
    list: () => held.map(({ stored }) => stored),
    refresh,
    async rotate(algorithm, atMs, record) {
      const key = await generateSigningKey(algorithm)
      const stored: StoredSigningKey = { kid: key.kid, algorithm, createdAtMs: atMs }
      const sealed = await seal(rootKey, key)
      await store.transaction(async (tx: AttestationTx) => {
        await tx
          .updateTable('attestation_signing_keys')
          .set({ retired_at_ms: atMs })
          .where('retired_at_ms', 'is', null)
          .execute()
        await insert(tx, stored, sealed)
        await record(transactionOf(tx, issuer), stored.kid)
      })
      await refresh(atMs)
      return stored
    },
  }
}

/** A site has one active key from its first start on. */
async function adoptFirst(store: Store, rootKey: RootKey, nowMs: number): Promise<void> {
  const pkcs8 = await loadOrCreateServiceKey(store, rootKey, SERVICE, 'signing', async () =>
    exportSigningKey(await generateSigningKey()),
  )
  try {
    const key = await pkcs8.use(importSigningKey)
    const sealed = await seal(rootKey, key)
    await store.transaction(async (tx: Tx) => {
      const any = await tx.selectFrom('attestation_signing_keys').select('kid').executeTakeFirst()
      if (any) return
      await insert(tx, { kid: key.kid, algorithm: key.alg, createdAtMs: nowMs }, sealed)
    })
  } finally {
    pkcs8.dispose()
  }
}

async function insert(
  tx: Pick<Tx, 'insertInto'>,
  key: StoredSigningKey,
  sealed: Uint8Array,
): Promise<void> {
  await tx
    .insertInto('attestation_signing_keys')
    .values({
      kid: key.kid,
      algorithm: key.algorithm,
      sealed,
      created_at_ms: key.createdAtMs,
      active_from_ms: key.createdAtMs,
      retired_at_ms: null,
    })
    .execute()
}

async function seal(rootKey: RootKey, key: SigningKey): Promise<Uint8Array> {
  const pkcs8 = await exportSigningKey(key)
  try {
    return rootKey.seal(SIGNING_KEY_PURPOSE, signingKeyContext(key.kid), pkcs8)
  } finally {
    pkcs8.fill(0)
  }
}

function open(rootKey: RootKey, kid: string, sealed: Uint8Array) {
  return rootKey.open(SIGNING_KEY_PURPOSE, signingKeyContext(kid), sealed)
}

export function signingKeyContext(kid: string): Uint8Array {
  return lengthPrefixed(utf8(SERVICE), utf8(kid))
}
