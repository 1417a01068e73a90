import type { Kysely } from 'kysely'
import type { Privilege } from '../../api/privileges.js'
import type { Caller, PrivilegeNeeds } from '../../http/index.js'
import { type FoundationTables, findOperator, type Store } from '../../store/index.js'
import { rightsOf, SITE } from '../domain/rights.js'
import { permissionsOf } from './read-rights.js'
import type { PeopleTables } from './tables.js'

const OPERATOR_TOKEN = /^sgl_op_[A-Za-z0-9_-]{43}$/

/** The caller who has this token: an operator at the services of the token alone, others at all of them. */
export async function findCaller(
  store: Store,
  query: { readonly token: string; readonly service: string; readonly nowMs: number },
): Promise<Caller | undefined> {
  if (!OPERATOR_TOKEN.test(query.token)) return undefined
  const operator = await findOperator(store, query)
  return operator && { kind: 'operator', ...operator }
}

/** The first of the needed privileges that the caller does not have. */
export async function missingPrivilege(
  db: Kysely<PeopleTables & FoundationTables>,
  caller: Caller,
  { on, privileges }: PrivilegeNeeds,
  nowMs: number,
): Promise<Privilege | undefined> {
  const rights = rightsOf(await permissionsOf(db, caller, nowMs))
  const has = (privilege: Privilege) =>
    on === 'site' ? rights.may(privilege, SITE) : rights.mayAnywhere(privilege)
  return privileges.find((privilege) => !has(privilege))
}
