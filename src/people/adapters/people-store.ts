import type { Transaction } from 'kysely'
import { PlatformError } from '../../core/errors.js'
import {
  appendAudit,
  type FoundationTables,
  isUniqueViolation,
  type Store,
} from '../../store/index.js'
import { operatorPermissions } from '../domain/operator-rights.js'
import { type Place, rightsOf, SITE } from '../domain/rights.js'
import type {
  PeopleStore,
  PeopleTransaction,
  StoredAccount,
  StoredOperatorState,
  StoredPermission,
} from '../ports.js'
import { EVERY_PRIVILEGE, grantedTo, parsePrivileges, readRights } from './read-rights.js'
import { scopeColumns, scopeOf } from './scope-columns.js'
import type { PeopleTables } from './tables.js'

type Tx = Transaction<PeopleTables & FoundationTables>

/** The name of the audit chain about people. */
export const AUDIT_CHAIN = 'people'

/** @param placeOfVm where a VM is: the control plane knows, within the same transaction */
export function peopleStore(
  store: Store,
  placeOfVm: (tx: Tx, vmId: string) => Promise<Place>,
): PeopleStore {
  return {
    transaction: (work) => store.transaction((tx: Tx) => work(transactionOf(tx, placeOfVm))),
  }
}

function transactionOf(
  tx: Tx,
  placeOfVm: (tx: Tx, vmId: string) => Promise<Place>,
): PeopleTransaction {
  const permissionsOfAccount = ({ kind, accountId }: StoredAccount) =>
    grantedTo(tx, kind, [accountId], '')
  const listOperators = async (nowMs: number) => {
    const rows = await tx.selectFrom('operators').selectAll().orderBy('name').execute()
    return rows.map((row) => operatorState(row, nowMs))
  }
  return {
    rightsOf: ({ caller, nowMs }) => readRights(tx, caller, nowMs),
    permissionsOfAccount,
    placeOfVm: (vmId) => placeOfVm(tx, vmId),
    listOperators,
    ...accountQueries(tx),
    ...roleQueries(tx),
    ...permissionQueries(tx),
    ...attemptQueries(tx),

    async heldOnSite(nowMs) {
      const users = await tx
        .selectFrom('people_accounts')
        .selectAll()
        .where('kind', '=', 'user')
        .where('state', '=', 'active')
        .execute()
      const granted = await Promise.all(
        users.map((row) => permissionsOfAccount(storedAccount(row))),
      )
      const operators = (await listOperators(nowMs)).filter(({ active }) => active)
      const rights = rightsOf([
        ...granted.flat(),
        ...operators.flatMap(({ operator }) => operatorPermissions(operator)),
      ])
      return new Set(EVERY_PRIVILEGE.filter((privilege) => rights.may(privilege, SITE)))
    },

    async endOperator(operatorId, nowMs) {
      await tx
        .updateTable('operators')
        .set({ revoked_at_ms: nowMs })
        .where('operator_id', '=', operatorId)
        .execute()
    },

    async audit(entry) {
      await appendAudit(tx, { chain: AUDIT_CHAIN, ...entry })
    },
  }
}

function accountQueries(tx: Tx) {
  return {
    async findAccount(kind, name) {
      const row = await tx
        .selectFrom('people_accounts')
        .selectAll()
        .where('kind', '=', kind)
        .where('name', '=', name)
        .executeTakeFirst()
      return row && storedAccount(row)
    },

    async listAccounts() {
      const rows = await tx
        .selectFrom('people_accounts')
        .selectAll()
        .orderBy('kind')
        .orderBy('name')
        .execute()
      return rows.map(storedAccount)
    },

    async insertAccount(account) {
      try {
        await tx.insertInto('people_accounts').values(accountRow(account)).execute()
      } catch (error) {
        if (!isUniqueViolation(error)) throw error
        const { kind, name } = account
        throw new PlatformError('CONFLICT', `expected a new name, found ${kind} ${name}`)
      }
    },

    async saveAccount(account) {
      await tx
        .updateTable('people_accounts')
        .set(accountRow(account))
        .where('account_id', '=', account.accountId)
        .execute()
    },

    async removeAccount(accountId) {
      await tx.deleteFrom('people_tokens').where('account_id', '=', accountId).execute()
      await tx
        .deleteFrom('people_permissions')
        .where('principal_kind', 'in', ['user', 'service-account'])
        .where('principal', '=', accountId)
        .execute()
      await tx.deleteFrom('people_accounts').where('account_id', '=', accountId).execute()
    },

    async insertToken(token) {
      await tx
        .insertInto('people_tokens')
        .values({
          token_id: token.tokenId,
          account_id: token.accountId,
          token_hash: token.tokenHash,
          note: token.note,
          created_at_ms: token.createdAtMs,
          expires_at_ms: token.expiresAtMs,
        })
        .execute()
    },

    async listTokens(accountId, nowMs) {
      const rows = await tx
        .selectFrom('people_tokens')
        .selectAll()
        .where('account_id', '=', accountId)
        .where('expires_at_ms', '>', nowMs)
        .orderBy('created_at_ms')
        .orderBy('token_id')
        .execute()
      return rows.map((row) => ({
        tokenId: row.token_id,
        accountId: row.account_id,
        note: row.note,
        createdAtMs: row.created_at_ms,
        expiresAtMs: row.expires_at_ms,
      }))
    },

    async removeToken(accountId, tokenId) {
      const { numDeletedRows } = await tx
        .deleteFrom('people_tokens')
        .where('account_id', '=', accountId)
        .where('token_id', '=', tokenId)
        .executeTakeFirst()
      return numDeletedRows > 0n
    },

    async removeTokens(accountId) {
      await tx.deleteFrom('people_tokens').where('account_id', '=', accountId).execute()
    },

    async removeEndedTokens(nowMs) {
      await tx.deleteFrom('people_tokens').where('expires_at_ms', '<=', nowMs).execute()
    },
  } satisfies Partial<PeopleTransaction>
}

function roleQueries(tx: Tx) {
  return {
    async listRoles() {
      const rows = await tx.selectFrom('people_roles').selectAll().orderBy('name').execute()
      return rows.map(({ name, privileges }) => ({ name, privileges: parsePrivileges(privileges) }))
    },

    async findRole(name) {
      const row = await tx
        .selectFrom('people_roles')
        .selectAll()
        .where('name', '=', name)
        .executeTakeFirst()
      return row && { name, privileges: parsePrivileges(row.privileges) }
    },

    async saveRole({ name, privileges }, nowMs) {
      const text = JSON.stringify(privileges)
      await tx
        .insertInto('people_roles')
        .values({ name, privileges: text, created_at_ms: nowMs })
        .onConflict((conflict) => conflict.column('name').doUpdateSet({ privileges: text }))
        .execute()
    },

    async removeRole(name) {
      await tx.deleteFrom('people_roles').where('name', '=', name).execute()
    },
  } satisfies Partial<PeopleTransaction>
}

function permissionQueries(tx: Tx) {
  return {
    async listPermissions() {
      const rows = await tx
        .selectFrom('people_permissions as p')
        .leftJoin('people_accounts as a', 'a.account_id', 'p.principal')
        .selectAll('p')
        .select('a.name as account_name')
        .orderBy('p.granted_at_ms')
        .orderBy('p.permission_id')
        .execute()
      return rows.map(
        (row): StoredPermission => ({
          permissionId: row.permission_id,
          principalKind: row.principal_kind,
          principal: { kind: row.principal_kind, name: row.account_name ?? row.principal },
          issuer: row.issuer,
          role: row.role,
          scope: scopeOf(row.scope_kind, row.scope),
          grantedAtMs: row.granted_at_ms,
          grantedBy: row.granted_by,
        }),
      )
    },

    async insertPermission(permission) {
      try {
        await tx
          .insertInto('people_permissions')
          .values({
            permission_id: permission.permissionId,
            principal_kind: permission.principalKind,
            principal: permission.principal,
            issuer: permission.issuer,
            role: permission.role,
            ...scopeColumns(permission.scope),
            granted_at_ms: permission.grantedAtMs,
            granted_by: permission.grantedBy,
          })
          .execute()
      } catch (error) {
        if (!isUniqueViolation(error)) throw error
        throw new PlatformError('CONFLICT', `role ${permission.role} is granted there already`)
      }
    },

    async removePermission(permissionId) {
      await tx.deleteFrom('people_permissions').where('permission_id', '=', permissionId).execute()
    },
  } satisfies Partial<PeopleTransaction>
}

function attemptQueries(tx: Tx) {
  return {
    async findAttempts(nameHash) {
      const row = await tx
        .selectFrom('people_login_attempts')
        .selectAll()
        .where('name_hash', '=', nameHash)
        .executeTakeFirst()
      return (
        row && {
          wrong: row.wrong,
          notBeforeMs: row.not_before_ms,
          forgottenAtMs: row.forgotten_at_ms,
        }
      )
    },

    async saveAttempts(nameHash, { wrong, notBeforeMs, forgottenAtMs }) {
      const columns = { wrong, not_before_ms: notBeforeMs, forgotten_at_ms: forgottenAtMs }
      await tx
        .insertInto('people_login_attempts')
        .values({ name_hash: nameHash, ...columns })
        .onConflict((conflict) => conflict.column('name_hash').doUpdateSet(columns))
        .execute()
    },

    async removeAttempts(nameHash) {
      await tx.deleteFrom('people_login_attempts').where('name_hash', '=', nameHash).execute()
    },

    async removeOldAttempts(nowMs) {
      await tx.deleteFrom('people_login_attempts').where('forgotten_at_ms', '<=', nowMs).execute()
    },
  } satisfies Partial<PeopleTransaction>
}

function accountRow(account: StoredAccount): PeopleTables['people_accounts'] {
  return {
    account_id: account.accountId,
    kind: account.kind,
    name: account.name,
    password_hash: account.passwordHash ?? null,
    state: account.state,
    created_at_ms: account.createdAtMs,
    created_by: account.createdBy,
  }
}

function storedAccount(row: PeopleTables['people_accounts']): StoredAccount {
  return {
    accountId: row.account_id,
    kind: row.kind,
    name: row.name,
    ...(row.password_hash === null ? {} : { passwordHash: row.password_hash }),
    state: row.state,
    createdAtMs: row.created_at_ms,
    createdBy: row.created_by,
  }
}

function operatorState(row: FoundationTables['operators'], nowMs: number): StoredOperatorState {
  return {
    operator: {
      kind: 'operator',
      operatorId: row.operator_id,
      name: row.name,
      role: row.role,
      services: JSON.parse(row.services) as readonly string[],
    },
    createdAtMs: row.created_at_ms,
    active: row.revoked_at_ms === null && (row.expires_at_ms === null || row.expires_at_ms > nowMs),
  }
}
