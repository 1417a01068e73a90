import type { Kysely } from 'kysely'
import type { Privilege } from '../../api/privileges.js'
import type { Caller, PrivilegeNeeds } from '../../http/index.js'
import { type FoundationTables, findOperator, type Store } from '../../store/index.js'
import { rightsOf, SITE } from '../domain/rights.js'
import { isAccountToken, tokenHash } from '../domain/tokens.js'
import type { OidcProvider } from './oidc.js'
import { permissionsOf } from './read-rights.js'
import type { PeopleTables } from './tables.js'

const OPERATOR_TOKEN = /^sgl_op_[A-Za-z0-9_-]{43}$/
const SIGNED_TOKEN = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/
const PEOPLE = 'people'

/**
 * The caller who has this token: an operator at the services of the token and at that of people, others at all of them.
 *
 * @throws TokenError for a token of the outside provider that does not verify; `UNAVAILABLE` where its keys are not to be had
 */
export async function findCaller(
  store: Store,
  query: { readonly token: string; readonly service: string; readonly nowMs: number },
  oidc?: OidcProvider,
): Promise<Caller | undefined> {
  const { token, service, nowMs } = query
  if (OPERATOR_TOKEN.test(token)) {
    const wanted = service === PEOPLE ? undefined : service
    const operator = await findOperator(store, { token, service: wanted, nowMs })
    return operator && { kind: 'operator', ...operator }
  }
  if (isAccountToken(token)) return findAccount(store.tables(), token, nowMs)
  return oidc && SIGNED_TOKEN.test(token) ? oidc.callerOf(token) : undefined
}

async function findAccount(
  db: Kysely<PeopleTables>,
  token: string,
  nowMs: number,
): Promise<Caller | undefined> {
  const row = await db
    .selectFrom('people_tokens as t')
    .innerJoin('people_accounts as a', 'a.account_id', 't.account_id')
    .select(['t.token_id', 'a.account_id', 'a.kind', 'a.name'])
    .where('t.token_hash', '=', tokenHash(token))
    .where('t.expires_at_ms', '>', nowMs)
    .where('a.state', '=', 'active')
    .executeTakeFirst()
  return (
    row && {
      ...{ kind: row.kind, accountId: row.account_id, name: row.name },
      tokenId: row.token_id,
    }
  )
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
