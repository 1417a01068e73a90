import type { Kysely } from 'kysely'
import { PRIVILEGES, type Privilege } from '../../api/privileges.js'
import { type Caller, noteCheck, type OperatorCaller } from '../../http/index.js'
import type { FoundationTables } from '../../store/index.js'
import { operatorPermissions } from '../domain/operator-rights.js'
import { type Permission, type Rights, rightsOf } from '../domain/rights.js'
import { builtInRole } from '../domain/roles.js'
import { scopeOf } from './scope-columns.js'
import type { PeopleTables } from './tables.js'

type Db = Kysely<PeopleTables & FoundationTables>

/**
 * What a caller may do, read in the transaction in which it is done: a permission that was revoked, an account that was
 * disabled, a token that ended since the caller was let through count for nothing here.
 */
export async function readRights<T extends PeopleTables & FoundationTables>(
  tx: Kysely<T>,
  caller: Caller,
  nowMs: number,
): Promise<Rights> {
  noteCheck(caller)
  return rightsOf(await permissionsOf(tx as unknown as Db, caller, nowMs))
}

/** As `readRights`, for the door: a request that was let through has not asked yet what its caller may do. */
export async function permissionsOf(
  db: Db,
  caller: Caller,
  nowMs: number,
): Promise<readonly Permission[]> {
  switch (caller.kind) {
    case 'operator':
      return (await isInForce(db, caller, nowMs)) ? operatorPermissions(caller) : []
    case 'user':
    case 'service-account': {
      const token = await db
        .selectFrom('people_tokens as t')
        .innerJoin('people_accounts as a', 'a.account_id', 't.account_id')
        .select('t.token_id')
        .where('t.token_id', '=', caller.tokenId)
        .where('t.account_id', '=', caller.accountId)
        .where('t.expires_at_ms', '>', nowMs)
        .where('a.state', '=', 'active')
        .executeTakeFirst()
      if (!token) return []
      return grantedTo(db, caller.kind, [caller.accountId], '')
    }
    case 'oidc':
      if (caller.expiresAtMs <= nowMs || caller.groups.length === 0) return []
      return grantedTo(db, 'oidc-group', caller.groups, caller.issuer)
  }
}

async function isInForce(db: Db, { operatorId }: OperatorCaller, nowMs: number): Promise<boolean> {
  const row = await db
    .selectFrom('operators')
    .select(['revoked_at_ms', 'expires_at_ms'])
    .where('operator_id', '=', operatorId)
    .executeTakeFirst()
  return row?.revoked_at_ms === null && (row.expires_at_ms === null || row.expires_at_ms > nowMs)
}

/** The permissions of accounts or groups, with the privileges that their roles have now. */
export async function grantedTo<T extends PeopleTables>(
  transaction: Kysely<T>,
  kind: PeopleTables['people_permissions']['principal_kind'],
  principals: readonly string[],
  issuer: string,
): Promise<readonly Permission[]> {
  const db = transaction as unknown as Db
  const rows = await db
    .selectFrom('people_permissions as p')
    .leftJoin('people_roles as r', 'r.name', 'p.role')
    .select(['p.role', 'p.scope_kind', 'p.scope', 'r.privileges'])
    .where('p.principal_kind', '=', kind)
    .where('p.issuer', '=', issuer)
    .where('p.principal', 'in', principals)
    .execute()
  return rows.map(({ role, scope_kind, scope, privileges }) => ({
    role,
    privileges: builtInRole(role) ?? parsePrivileges(privileges ?? '[]'),
    scope: scopeOf(scope_kind, scope),
  }))
}

export const EVERY_PRIVILEGE = Object.keys(PRIVILEGES) as readonly Privilege[]

/** Privileges of a role; a name that this program does not know counts for nothing. */
export function parsePrivileges(text: string): readonly Privilege[] {
  return (JSON.parse(text) as readonly string[]).filter((name): name is Privilege =>
    Object.hasOwn(PRIVILEGES, name),
  )
}
