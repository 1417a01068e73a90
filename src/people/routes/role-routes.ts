import type { FastifyRequest } from 'fastify'
import {
  createRole,
  deleteRole,
  grantPermission,
  listPeopleAudit,
  listPermissions,
  listRoles,
  revokePermission,
  setRole,
  verifyPeopleAudit,
} from '../../api/people.js'
import type { Privilege } from '../../api/privileges.js'
import { type Clock, isoTime } from '../../core/clock.js'
import { pageOf } from '../../core/page.js'
import { type App, addOperation, type CallerAccess } from '../../http/index.js'
import type { AuditLog } from '../../store/index.js'
import type { Permissions } from '../domain/permissions.js'
import type { Roles } from '../domain/roles.js'
import type { StoredPermission } from '../ports.js'

const FOR_PEOPLE = { access: { people: 'people' } } as const

/** What people may do: roles, who has them where, and the audit of all that. */
export function addRoleRoutes(
  app: App,
  deps: {
    readonly roles: Roles
    readonly permissions: Permissions
    readonly audit: AuditLog
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { roles, permissions, audit, clock } = deps
  const actOf = (request: FastifyRequest) => deps.callers.actOf(request, clock.nowMs())

  addOperation(app, listRoles, FOR_PEOPLE, async ({ query }) => {
    const { items, ...next } = await pageOf(await roles.list(), query, ({ name }) => name)
    return { roles: items.map(roleView), ...next }
  })
  addOperation(app, createRole, FOR_PEOPLE, async ({ body, request }) =>
    roleView(await roles.create(actOf(request), body)),
  )
  addOperation(app, setRole, FOR_PEOPLE, async ({ params, body, request }) =>
    roleView(await roles.set(actOf(request), { name: params.role, privileges: body.privileges })),
  )
  addOperation(app, deleteRole, FOR_PEOPLE, async ({ params, request }) => {
    await roles.remove(actOf(request), params.role)
    return {}
  })

  addOperation(app, listPermissions, FOR_PEOPLE, async ({ query, request }) => {
    const all = (await permissions.list(actOf(request))).map(permissionView)
    const placeOf = (one: (typeof all)[number]) => `${one.grantedAt}:${one.permissionId}`
    const { items, ...next } = await pageOf(all, query, placeOf)
    return { permissions: [...items], ...next }
  })
  addOperation(app, grantPermission, FOR_PEOPLE, async ({ body, request }) =>
    permissionView(await permissions.grant(actOf(request), body)),
  )
  addOperation(app, revokePermission, FOR_PEOPLE, async ({ params, request }) => {
    await permissions.revoke(actOf(request), params.permissionId)
    return {}
  })

  addOperation(app, listPeopleAudit, FOR_PEOPLE, async ({ query }) => audit.list(query))
  addOperation(app, verifyPeopleAudit, FOR_PEOPLE, async () => audit.verify())
}

function roleView(role: {
  readonly name: string
  readonly builtIn: boolean
  readonly privileges: readonly Privilege[]
}) {
  return { name: role.name, builtIn: role.builtIn, privileges: [...role.privileges] }
}

function permissionView(permission: StoredPermission) {
  const { permissionId, principal, role, scope, grantedAtMs, grantedBy } = permission
  return { permissionId, principal, role, scope, grantedAt: isoTime(grantedAtMs), grantedBy }
}
