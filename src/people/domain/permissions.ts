import type { Principal, Scope } from '../../api/people.js'
import type { Privilege } from '../../api/privileges.js'
import { PlatformError } from '../../core/errors.js'
import type { Act, PeopleStore, PeopleTransaction, StoredPermission } from '../ports.js'
import { found } from './accounts.js'
import { keepingAdministrators, placeOf, requireAll } from './holds-all.js'
import { findRole } from './roles.js'

/** Who has which role where. */
export function createPermissions(deps: {
  readonly store: PeopleStore
  readonly newId: () => string
  /** Who vouches for the members of groups; absent where there is no outside provider. */
  readonly issuer: string | undefined
}) {
  const { store } = deps
  return {
    /** Those at scopes that the caller may read. */
    list: (act: Act): Promise<readonly StoredPermission[]> =>
      store.transaction(async (tx) => {
        const rights = await tx.rightsOf(act)
        const readable: StoredPermission[] = []
        for (const permission of await tx.listPermissions()) {
          if (rights.may('System.Read', await placeOf(tx, permission.scope)))
            readable.push(permission)
        }
        return readable
      }),

    grant: (
      act: Act,
      request: { readonly principal: Principal; readonly role: string; readonly scope: Scope },
    ): Promise<StoredPermission> =>
      store.transaction(async (tx) => {
        const { principal, role, scope } = request
        const privileges = await findRole(tx, role)
        await requireMay(tx, act, scope, privileges ?? [])
        if (!privileges) throw new PlatformError('NOT_FOUND', `no role ${role}`)
        const permission = {
          permissionId: deps.newId(),
          principalKind: principal.kind,
          ...{ role, scope, grantedAtMs: act.nowMs, grantedBy: act.actor },
          ...(principal.kind === 'oidc-group'
            ? { principal: principal.name, issuer: requireIssuer(deps.issuer) }
            : {
                principal: (await found(tx, principal.kind, principal.name)).accountId,
                issuer: '',
              }),
        }
        await tx.insertPermission(permission)
        await record(tx, act, 'permission.grant', { ...permission, principal })
        return { ...permission, principal }
      }),

    revoke: (act: Act, permissionId: string): Promise<void> =>
      store.transaction(async (tx) => {
        const rights = await tx.rightsOf(act)
        const permission = (await tx.listPermissions()).find(
          (one) => one.permissionId === permissionId,
        )
        if (!permission) throw new PlatformError('NOT_FOUND', `no permission ${permissionId}`)
        const { scope, role } = permission
        rights.require(['Authorization.ModifyPermissions'], await placeOf(tx, scope))
        const privileges = (await findRole(tx, role)) ?? []
        await requireAll(tx, rights, [{ scope, privileges }])
        await keepingAdministrators(tx, act.nowMs, () => tx.removePermission(permissionId))
        await record(tx, act, 'permission.revoke', permission)
      }),
  }
}

export type Permissions = ReturnType<typeof createPermissions>

async function requireMay(
  tx: PeopleTransaction,
  act: Act,
  scope: Scope,
  privileges: readonly Privilege[],
): Promise<void> {
  const rights = await tx.rightsOf(act)
  rights.require(['Authorization.ModifyPermissions'], await placeOf(tx, scope))
  await requireAll(tx, rights, [{ scope, privileges }])
}

function requireIssuer(issuer: string | undefined): string {
  if (issuer !== undefined) return issuer
  const message = 'expected the settings of an outside provider (oidc.issuer), found none'
  throw new PlatformError('CONFLICT', message)
}

async function record(
  tx: PeopleTransaction,
  act: Act,
  action: string,
  { principal, role, scope, permissionId, issuer }: StoredPermission,
): Promise<void> {
  await tx.audit({
    ...{ atMs: act.nowMs, actor: act.actor, action, outcome: 'done' },
    subject: `${principal.kind}:${principal.name}`,
    detail: { permissionId, role, scope: { ...scope }, ...(issuer === '' ? {} : { issuer }) },
  })
}
