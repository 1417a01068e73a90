import type { FastifyRequest } from 'fastify'
import {
  createAccountToken,
  createServiceAccount,
  createUser,
  deleteAccount,
  getMe,
  listAccounts,
  listAccountTokens,
  listOperators,
  login as loginOperation,
  logout,
  revokeAccountToken,
  revokeOperator,
  setAccountState,
  setOwnPassword,
  setUserPassword,
} from '../../api/people.js'
import { type Clock, isoTime } from '../../core/clock.js'
import { pageOf } from '../../core/page.js'
import { type App, addOperation, type CallerAccess } from '../../http/index.js'
import type { Accounts } from '../domain/accounts.js'
import type { IssuedToken } from '../domain/tokens.js'
import type { PeopleStore, StoredAccount } from '../ports.js'

const SERVICE = 'people'
const FOR_PEOPLE = { access: { people: SERVICE } } as const

/** Who people are: login, accounts, tokens, operators. */
export function addAccountRoutes(
  app: App,
  deps: {
    readonly store: PeopleStore
    readonly accounts: Accounts
    readonly login: (name: string, password: string, nowMs: number) => Promise<IssuedToken>
    /** Of each address. */
    readonly loginsPerMinute: number
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { accounts, clock } = deps
  const actOf = (request: FastifyRequest) => deps.callers.actOf(request, clock.nowMs())

  addOperation(
    app,
    loginOperation,
    { access: 'public', requestsPerMinute: deps.loginsPerMinute },
    async ({ body }) => tokenView(await deps.login(body.name, body.password, clock.nowMs())),
  )
  addOperation(app, logout, FOR_PEOPLE, async ({ request }) => {
    await accounts.logout(actOf(request))
    return {}
  })
  addOperation(app, getMe, FOR_PEOPLE, async ({ request }) => {
    const act = actOf(request)
    const { permissions } = await deps.store.transaction((tx) => tx.rightsOf(act))
    return {
      kind: act.caller.kind,
      name: act.caller.name,
      groups: act.caller.kind === 'oidc' ? [...act.caller.groups] : [],
      permissions: permissions.map(({ role, scope, privileges }) => ({
        ...{ role, scope, privileges: [...privileges] },
      })),
    }
  })
  addOperation(app, setOwnPassword, FOR_PEOPLE, async ({ body, request }) => {
    await accounts.setOwnPassword(actOf(request), body.current, body.next)
    return {}
  })

  addOperation(app, createUser, FOR_PEOPLE, async ({ body, request }) =>
    accountView(await accounts.createUser(actOf(request), body.name, body.password)),
  )
  addOperation(app, setUserPassword, FOR_PEOPLE, async ({ params, body, request }) =>
    accountView(await accounts.setPassword(actOf(request), params.name, body.password)),
  )
  addOperation(app, createServiceAccount, FOR_PEOPLE, async ({ body, request }) =>
    accountView(await accounts.createServiceAccount(actOf(request), body.name)),
  )
  addOperation(app, createAccountToken, FOR_PEOPLE, async ({ params, body, request }) =>
    tokenView(await accounts.createToken(actOf(request), params.name, body)),
  )
  addOperation(app, listAccounts, FOR_PEOPLE, async ({ query: { kind, ...page } }) => {
    const all = (await accounts.list()).filter((one) => kind === undefined || one.kind === kind)
    const { items, ...next } = await pageOf(all, page, (one) => `${one.kind}:${one.name}`)
    return { accounts: items.map(accountView), ...next }
  })
  addOperation(app, setAccountState, FOR_PEOPLE, async ({ params, body, request }) =>
    accountView(await accounts.setState(actOf(request), params.kind, params.name, body.state)),
  )
  addOperation(app, deleteAccount, FOR_PEOPLE, async ({ params, request }) => {
    await accounts.remove(actOf(request), params.kind, params.name)
    return {}
  })
  addOperation(app, listAccountTokens, FOR_PEOPLE, async ({ params, query }) => {
    const tokens = (await accounts.listTokens(params.kind, params.name, clock.nowMs())).map(
      ({ tokenId, note, createdAtMs, expiresAtMs }) => ({
        ...{ tokenId, note, createdAt: isoTime(createdAtMs), expiresAt: isoTime(expiresAtMs) },
      }),
    )
    const { items, ...next } = await pageOf(tokens, query, (t) => `${t.createdAt}:${t.tokenId}`)
    return { tokens: [...items], ...next }
  })
  addOperation(app, revokeAccountToken, FOR_PEOPLE, async ({ params, request }) => {
    await accounts.revokeToken(actOf(request), params.kind, params.name, params.tokenId)
    return {}
  })

  addOperation(app, listOperators, FOR_PEOPLE, async ({ query }) => {
    const operators = (await accounts.listOperators(clock.nowMs())).map(
      ({ operator: { name, role, services }, createdAtMs, active }) => ({
        ...{ name, role, services: [...services], createdAt: isoTime(createdAtMs) },
        state: active ? ('active' as const) : ('ended' as const),
      }),
    )
    const { items, ...next } = await pageOf(operators, query, ({ name }) => name)
    return { operators: [...items], ...next }
  })
  addOperation(app, revokeOperator, FOR_PEOPLE, async ({ params, request }) => {
    await accounts.revokeOperator(actOf(request), params.name)
    return {}
  })
}

function accountView({ kind, name, state, createdAtMs, createdBy }: StoredAccount) {
  return { kind, name, state, createdAt: isoTime(createdAtMs), createdBy }
}

function tokenView({ token, tokenId, expiresAtMs }: IssuedToken) {
  return { token, tokenId, expiresAt: isoTime(expiresAtMs) }
}
