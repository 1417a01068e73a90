import { createHash } from 'node:crypto'
import { toBase64url } from '../core/bytes.js'
import { isoTime } from '../core/clock.js'
import { PlatformError } from '../core/errors.js'
import { newUuid, randomOctets } from '../core/random.js'
import { isUniqueViolation } from './errors.js'
import type { Store } from './store.js'
import type { FoundationTables } from './tables.js'

export interface StoredOperator {
  readonly operatorId: string
  readonly name: string
  readonly role: 'administrator' | 'auditor'
  readonly services: readonly string[]
}

/** An operator as administrators see it: also one who was revoked or whose token has ended. */
export interface ListedOperator extends StoredOperator {
  readonly createdAtMs: number
  readonly expiresAtMs?: number
  readonly revokedAtMs?: number
}

/**
 * Makes an operator with a new token: 256 random bits, of which the SHA-256 alone is kept.
 *
 * @throws PlatformError `CONFLICT` where the name is taken
 */
export async function createOperator(
  store: Store,
  operator: {
    readonly name: string
    readonly role: 'administrator' | 'auditor'
    readonly services: readonly string[]
    readonly nowMs: number
    readonly expiresAtMs?: number
  },
): Promise<{ readonly operatorId: string; readonly token: string }> {
  const operatorId = newUuid()
  const token = `sgl_op_${toBase64url(randomOctets(32))}`
  try {
    await store
      .tables<FoundationTables>()
      .insertInto('operators')
      .values({
        operator_id: operatorId,
        name: operator.name,
        role: operator.role,
        services: JSON.stringify(operator.services),
        token_hash: hashOf(token),
        created_at_ms: operator.nowMs,
        expires_at_ms: operator.expiresAtMs ?? null,
        revoked_at_ms: null,
      })
      .execute()
  } catch (error) {
    if (!isUniqueViolation(error)) throw error
    throw new PlatformError('CONFLICT', `expected a new name, found operator ${operator.name}`)
  }
  return { operatorId, token }
}

/** The operator who has this token for this service (or for any, without one), unless it was revoked or has ended. */
export async function findOperator(
  store: Store,
  query: {
    readonly token: string
    readonly service?: string | undefined
    readonly nowMs: number
  },
): Promise<StoredOperator | undefined> {
  const row = await store
    .tables<FoundationTables>()
    .selectFrom('operators')
    .selectAll()
    .where('token_hash', '=', hashOf(query.token))
    .executeTakeFirst()
  if (!row || row.revoked_at_ms !== null) return undefined
  if (row.expires_at_ms !== null && row.expires_at_ms <= query.nowMs) return undefined
  const operator = storedOperator(row)
  const { service } = query
  return service === undefined || operator.services.includes(service) ? operator : undefined
}

/** All operators by name. */
export async function listOperators(store: Store): Promise<readonly ListedOperator[]> {
  const rows = await store
    .tables<FoundationTables>()
    .selectFrom('operators')
    .selectAll()
    .orderBy('name')
    .execute()
  return rows.map((row) => ({
    ...storedOperator(row),
    createdAtMs: row.created_at_ms,
    ...(row.expires_at_ms === null ? {} : { expiresAtMs: row.expires_at_ms }),
    ...(row.revoked_at_ms === null ? {} : { revokedAtMs: row.revoked_at_ms }),
  }))
}

/** Ends the token of an operator; throws `NOT_FOUND` where there is none of this name. */
export async function revokeOperator(store: Store, name: string, nowMs: number): Promise<void> {
  const result = await store
    .tables<FoundationTables>()
    .updateTable('operators')
    .set({ revoked_at_ms: nowMs })
    .where('name', '=', name)
    .where('revoked_at_ms', 'is', null)
    .executeTakeFirst()
  if (result.numUpdatedRows === 0n) {
    throw new PlatformError('NOT_FOUND', `no operator ${name} at ${isoTime(nowMs)}`)
  }
}

function storedOperator(row: FoundationTables['operators']): StoredOperator {
  const services = JSON.parse(row.services) as readonly string[]
  return { operatorId: row.operator_id, name: row.name, role: row.role, services }
}

function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('hex')
}
