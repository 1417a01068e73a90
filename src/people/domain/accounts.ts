import type { AccountKind } from '../../api/people.js'
import { PlatformError } from '../../core/errors.js'
import type {
  Act,
  PasswordHasher,
  PeopleStore,
  PeopleTransaction,
  StoredAccount,
  StoredToken,
} from '../ports.js'
import { keepingAdministrators, requireAll } from './holds-all.js'
import { forgetAttempts, takeAttempt } from './login.js'
import { operatorPermissions } from './operator-rights.js'
import { type IssuedToken, issueToken, type TokenMaker } from './tokens.js'

/** Users, service accounts, their passwords and tokens, and operators. Each act is one transaction with its audit record. */
export function createAccounts(deps: {
  readonly store: PeopleStore
  readonly hasher: PasswordHasher
  readonly maker: TokenMaker
}) {
  const { store, hasher, maker } = deps

  const create = (act: Act, kind: AccountKind, name: string, passwordHash?: string) =>
    store.transaction(async (tx) => {
      const account: StoredAccount = {
        ...{ accountId: maker.newId(), kind, name, state: 'active' },
        ...(passwordHash === undefined ? {} : { passwordHash }),
        createdAtMs: act.nowMs,
        createdBy: act.actor,
      }
      await tx.insertAccount(account)
      await record(tx, act, `${kind}.create`, account)
      return account
    })

  /** Changes an account that may do no more than the caller. */
  const change = <T>(
    act: Act,
    kind: AccountKind,
    name: string,
    work: (tx: PeopleTransaction, account: StoredAccount) => Promise<T>,
  ): Promise<T> =>
    store.transaction(async (tx) => {
      const account = await found(tx, kind, name)
      await requireAll(tx, await tx.rightsOf(act), await tx.permissionsOfAccount(account))
      return keepingAdministrators(tx, act.nowMs, () => work(tx, account))
    })

  return {
    async createUser(act: Act, name: string, password: string): Promise<StoredAccount> {
      requireGood(name, password)
      return create(act, 'user', name, await hasher.hash(password))
    },

    createServiceAccount: (act: Act, name: string) => create(act, 'service-account', name),

    list: (): Promise<readonly StoredAccount[]> => store.transaction((tx) => tx.listAccounts()),

    async setPassword(act: Act, name: string, password: string): Promise<StoredAccount> {
      requireGood(name, password)
      const passwordHash = await hasher.hash(password)
      return change(act, 'user', name, async (tx, account) => {
        const changed = { ...account, passwordHash }
        await tx.saveAccount(changed)
        await tx.removeTokens(account.accountId)
        await forgetAttempts(tx, name)
        await record(tx, act, 'user.set-password', account)
        return changed
      })
    },

    /** @throws PlatformError `FORBIDDEN` for a wrong current password, which counts as an attempt to log in */
    async setOwnPassword(act: Act, current: string, next: string): Promise<void> {
      const { caller } = act
      if (caller.kind !== 'user') {
        throw new PlatformError(
          'CONFLICT',
          `expected a user, found a caller of kind ${caller.kind}`,
        )
      }
      const { name } = caller
      requireGood(name, next)
      const account = await store.transaction(async (tx) => {
        await takeAttempt(tx, name, act.nowMs)
        return found(tx, 'user', name)
      })
      if (!(await hasher.verify(account.passwordHash, current))) {
        throw new PlatformError('FORBIDDEN', 'expected the current password, found another')
      }
      const passwordHash = await hasher.hash(next)
      await store.transaction(async (tx) => {
        const now = await found(tx, 'user', name)
        if (now.passwordHash !== account.passwordHash || now.state !== 'active') {
          throw new PlatformError('CONFLICT', 'the user was changed meanwhile')
        }
        await tx.saveAccount({ ...now, passwordHash })
        await tx.removeTokens(now.accountId)
        await forgetAttempts(tx, name)
        await record(tx, act, 'user.set-own-password', now)
      })
    },

    setState: (act: Act, kind: AccountKind, name: string, state: StoredAccount['state']) =>
      change(act, kind, name, async (tx, account) => {
        const changed = { ...account, state }
        await tx.saveAccount(changed)
        await record(tx, act, `${kind}.${state === 'active' ? 'enable' : 'disable'}`, account)
        return changed
      }),

    remove: (act: Act, kind: AccountKind, name: string): Promise<void> =>
      change(act, kind, name, async (tx, account) => {
        await tx.removeAccount(account.accountId)
        await record(tx, act, `${kind}.delete`, account)
      }),

    createToken: (
      act: Act,
      name: string,
      request: { readonly note: string; readonly ttlSeconds: number },
    ): Promise<IssuedToken> =>
      change(act, 'service-account', name, async (tx, account) => {
        const expiresAtMs = act.nowMs + request.ttlSeconds * 1000
        const details = { note: request.note, nowMs: act.nowMs, expiresAtMs }
        const issued = await issueToken(tx, maker, account, details)
        await record(tx, act, 'service-account.create-token', account, {
          tokenId: issued.tokenId,
          expiresAtMs,
        })
        return issued
      }),

    listTokens: (kind: AccountKind, name: string, nowMs: number): Promise<readonly StoredToken[]> =>
      store.transaction(async (tx) =>
        tx.listTokens((await found(tx, kind, name)).accountId, nowMs),
      ),

    revokeToken: (act: Act, kind: AccountKind, name: string, tokenId: string): Promise<void> =>
      change(act, kind, name, async (tx, account) => {
        if (!(await tx.removeToken(account.accountId, tokenId))) {
          throw new PlatformError('NOT_FOUND', `${kind} ${name} has no token ${tokenId}`)
        }
        await record(tx, act, `${kind}.revoke-token`, account, { tokenId })
      }),

    /** Ends the token that the caller came with. */
    logout: (act: Act): Promise<void> =>
      store.transaction(async (tx) => {
        const { caller } = act
        if (caller.kind !== 'user' && caller.kind !== 'service-account') {
          const message = `the token of a caller of kind ${caller.kind} does not end here`
          throw new PlatformError('CONFLICT', message)
        }
        await tx.removeToken(caller.accountId, caller.tokenId)
        await record(tx, act, 'logout', caller, { tokenId: caller.tokenId })
      }),

    listOperators: (nowMs: number) => store.transaction((tx) => tx.listOperators(nowMs)),

    revokeOperator: (act: Act, name: string): Promise<void> =>
      store.transaction(async (tx) => {
        const listed = (await tx.listOperators(act.nowMs)).find(
          ({ operator, active }) => active && operator.name === name,
        )
        if (!listed)
          throw new PlatformError('NOT_FOUND', `no operator ${name} whose token is in force`)
        const { operator } = listed
        await requireAll(tx, await tx.rightsOf(act), operatorPermissions(operator))
        await keepingAdministrators(tx, act.nowMs, () =>
          tx.endOperator(operator.operatorId, act.nowMs),
        )
        await record(tx, act, 'operator.revoke', operator)
      }),
  }
}

export type Accounts = ReturnType<typeof createAccounts>

/** @throws PlatformError `NOT_FOUND` */
export async function found(
  tx: PeopleTransaction,
  kind: AccountKind,
  name: string,
): Promise<StoredAccount> {
  const account = await tx.findAccount(kind, name)
  if (!account) throw new PlatformError('NOT_FOUND', `no ${kind} ${name}`)
  return account
}

/** The first guess of everybody. Length is the rest: NIST SP 800-63B-4, section 3.1.1.2, asks for no rules of composition. */
function requireGood(name: string, password: string): void {
  const lower = password.toLowerCase()
  const distinct = new Set(lower.replaceAll(name, '')).size
  if (distinct >= 5) return
  throw new PlatformError(
    'REQUEST_INVALID',
    'expected a password of five different characters at least beside the name',
  )
}

async function record(
  tx: PeopleTransaction,
  act: Act,
  action: string,
  about: { readonly kind: string; readonly name: string },
  detail: Readonly<Record<string, string | number>> = {},
): Promise<void> {
  const subject = `${about.kind}:${about.name}`
  await tx.audit({ atMs: act.nowMs, actor: act.actor, action, subject, outcome: 'done', detail })
}
