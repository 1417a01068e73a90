import { type Static, Type } from 'typebox'
import {
  AuditPage,
  AuditQuery,
  AuditVerdict,
  Empty,
  Exactly,
  Name,
  Next,
  PageQuery,
  Time,
  Uuid,
} from './common.js'
import { ABOUT_SELF, onObject, onSite } from './needs.js'
import { operation } from './operation.js'
import { PRIVILEGES, type Privilege } from './privileges.js'
import { Tag } from './tags.js'

const BASE = '/people/v1'
const DAY_SECONDS = 86_400

/** Length of passwords: NIST SP 800-63B-4 asks for 15 characters where a password is all there is. */
export const LEAST_PASSWORD_CHARACTERS = 15

const NewPassword = Type.String({
  minLength: LEAST_PASSWORD_CHARACTERS,
  maxLength: 256,
  description: `password, ${LEAST_PASSWORD_CHARACTERS} characters at least; any characters`,
})
const Password = Type.String({ minLength: 1, maxLength: 256, description: 'password' })
const Note = Type.String({ maxLength: 200, description: 'what the token is for' })
const ApiToken = Type.String({ description: 'shown this once; only its hash is kept' })

export const PrivilegeName = Type.Unsafe<Privilege>(
  Type.Union(Object.keys(PRIVILEGES).map((name) => Type.Literal(name))),
)
const PrivilegeList = Type.Array(PrivilegeName, { minItems: 1, maxItems: 64, uniqueItems: true })

/** Where a permission holds: everywhere, for a cluster and its VMs, for VMs with a tag, for one VM. */
export const Scope = Type.Union([
  Exactly({ kind: Type.Literal('site') }),
  Exactly({ kind: Type.Literal('cluster'), name: Name }),
  Exactly({ kind: Type.Literal('tag'), name: Tag }),
  Exactly({ kind: Type.Literal('vm'), name: Uuid }),
])
export type Scope = Static<typeof Scope>

export const AccountKind = Type.Union([Type.Literal('user'), Type.Literal('service-account')])
export type AccountKind = Static<typeof AccountKind>

/** Who has a permission: an account here, or a group of the outside provider. */
export const Principal = Exactly({
  kind: Type.Union([AccountKind, Type.Literal('oidc-group')]),
  name: Type.String({ minLength: 1, maxLength: 256 }),
})
export type Principal = Static<typeof Principal>

const AccountState = Type.Union([Type.Literal('active'), Type.Literal('disabled')])

// ---------------------------------------------------------------- oneself

export const NewToken = Exactly({ token: ApiToken, tokenId: Uuid, expiresAt: Time })

export const login = operation({
  id: 'login',
  summary: 'Log in by name and password, for a token that ends by itself',
  method: 'POST',
  path: `${BASE}/login`,
  status: 201,
  body: Exactly({ name: Name, password: Password }),
  answer: NewToken,
  errors: ['UNAUTHENTICATED'],
})

export const logout = operation({
  id: 'logout',
  summary: 'End the token of this request',
  needs: ABOUT_SELF,
  method: 'DELETE',
  path: `${BASE}/me/token`,
  status: 200,
  answer: Empty,
  errors: ['CONFLICT'],
})

export const getMe = operation({
  id: 'getMe',
  summary: 'Who the caller is, and what they may do where',
  needs: ABOUT_SELF,
  method: 'GET',
  path: `${BASE}/me`,
  status: 200,
  answer: Exactly({
    kind: Type.String({ description: 'operator, user, service-account or oidc' }),
    name: Type.String(),
    groups: Type.Array(Type.String()),
    permissions: Type.Array(
      Exactly({ role: Type.String(), scope: Scope, privileges: Type.Array(Type.String()) }),
    ),
  }),
})

export const setOwnPassword = operation({
  id: 'setOwnPassword',
  summary: 'Change the own password; every token of the user ends',
  needs: ABOUT_SELF,
  method: 'PUT',
  path: `${BASE}/me/password`,
  status: 200,
  body: Exactly({ current: Password, next: NewPassword }),
  answer: Empty,
  errors: ['CONFLICT', 'FORBIDDEN'],
})

// ---------------------------------------------------------------- accounts

export const AccountView = Exactly({
  kind: AccountKind,
  name: Name,
  state: AccountState,
  createdAt: Time,
  createdBy: Type.String(),
})

export const createUser = operation({
  id: 'createUser',
  summary: 'Make a user with a password; they may do nothing until they are granted a role',
  needs: onSite('Authorization.ModifyPermissions'),
  method: 'POST',
  path: `${BASE}/users`,
  status: 201,
  body: Exactly({ name: Name, password: NewPassword }),
  answer: AccountView,
  errors: ['CONFLICT'],
})

export const setUserPassword = operation({
  id: 'setUserPassword',
  summary: 'Set the password of a user who may do no more than the caller; their tokens end',
  needs: onSite('Authorization.ModifyPermissions'),
  method: 'PUT',
  path: `${BASE}/users/:name/password`,
  status: 200,
  params: Exactly({ name: Name }),
  body: Exactly({ password: NewPassword }),
  answer: AccountView,
})

export const createServiceAccount = operation({
  id: 'createServiceAccount',
  summary: 'Make a service account, for programs; it has tokens and no password',
  needs: onSite('Authorization.ModifyPermissions'),
  method: 'POST',
  path: `${BASE}/service-accounts`,
  status: 201,
  body: Exactly({ name: Name }),
  answer: AccountView,
  errors: ['CONFLICT'],
})

export const createAccountToken = operation({
  id: 'createAccountToken',
  summary: 'Make a token for a service account that may do no more than the caller',
  needs: onSite('Authorization.ModifyPermissions'),
  method: 'POST',
  path: `${BASE}/service-accounts/:name/tokens`,
  status: 201,
  params: Exactly({ name: Name }),
  body: Exactly({
    note: Note,
    ttlSeconds: Type.Integer({ minimum: 60, maximum: 366 * DAY_SECONDS }),
  }),
  answer: NewToken,
  example: { note: 'nightly', ttlSeconds: 30 * 86_400 },
})

const AccountParams = { kind: AccountKind, name: Name }

export const listAccounts = operation({
  id: 'listAccounts',
  summary: 'Users and service accounts',
  needs: onSite('System.Read'),
  method: 'GET',
  path: `${BASE}/accounts`,
  status: 200,
  query: Exactly({ kind: Type.Optional(AccountKind), ...PageQuery }),
  answer: Exactly({ accounts: Type.Array(AccountView), next: Next }),
})

export const setAccountState = operation({
  id: 'setAccountState',
  summary: 'Disable an account at once, tokens included, or let it in again',
  needs: onSite('Authorization.ModifyPermissions'),
  method: 'PUT',
  path: `${BASE}/accounts/:kind/:name/state`,
  status: 200,
  params: Exactly(AccountParams),
  body: Exactly({ state: AccountState }),
  answer: AccountView,
  errors: ['LAST_ADMINISTRATOR'],
})

export const deleteAccount = operation({
  id: 'deleteAccount',
  summary: 'Delete an account with its tokens and permissions',
  needs: onSite('Authorization.ModifyPermissions'),
  method: 'DELETE',
  path: `${BASE}/accounts/:kind/:name`,
  status: 200,
  params: Exactly(AccountParams),
  answer: Empty,
  errors: ['LAST_ADMINISTRATOR'],
})

export const listAccountTokens = operation({
  id: 'listAccountTokens',
  summary: 'Tokens of an account that have not ended: never the tokens themselves',
  needs: onSite('System.Read'),
  method: 'GET',
  path: `${BASE}/accounts/:kind/:name/tokens`,
  status: 200,
  params: Exactly(AccountParams),
  query: Exactly(PageQuery),
  answer: Exactly({
    tokens: Type.Array(
      Exactly({ tokenId: Uuid, note: Type.String(), createdAt: Time, expiresAt: Time }),
    ),
    next: Next,
  }),
})

export const revokeAccountToken = operation({
  id: 'revokeAccountToken',
  summary: 'End a token of an account',
  needs: onSite('Authorization.ModifyPermissions'),
  method: 'DELETE',
  path: `${BASE}/accounts/:kind/:name/tokens/:tokenId`,
  status: 200,
  params: Exactly({ ...AccountParams, tokenId: Uuid }),
  answer: Empty,
})

// ---------------------------------------------------------------- operators

export const OperatorView = Exactly({
  name: Type.String(),
  role: Type.Union([Type.Literal('administrator'), Type.Literal('auditor')]),
  services: Type.Array(Type.String()),
  state: Type.Union([Type.Literal('active'), Type.Literal('ended')]),
  createdAt: Time,
})

export const listOperators = operation({
  id: 'listOperators',
  summary: 'Operators: whose tokens were made with the site, for single services',
  needs: onSite('System.Read'),
  method: 'GET',
  path: `${BASE}/operators`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ operators: Type.Array(OperatorView), next: Next }),
})

export const revokeOperator = operation({
  id: 'revokeOperator',
  summary: 'End the token of an operator who may do no more than the caller',
  needs: onSite('Authorization.ModifyPermissions'),
  method: 'DELETE',
  path: `${BASE}/operators/:name`,
  status: 200,
  params: Exactly({ name: Name }),
  answer: Empty,
  errors: ['LAST_ADMINISTRATOR'],
})

// ---------------------------------------------------------------- roles and permissions

export const RoleView = Exactly({
  name: Name,
  builtIn: Type.Boolean(),
  privileges: Type.Array(Type.String()),
})

export const listRoles = operation({
  id: 'listRoles',
  summary: 'Roles, and the privileges that they are made of',
  needs: ABOUT_SELF,
  method: 'GET',
  path: `${BASE}/roles`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ roles: Type.Array(RoleView), next: Next }),
})

export const createRole = operation({
  id: 'createRole',
  summary: 'Make a role of privileges that the caller has',
  needs: onSite('Authorization.ModifyRoles'),
  method: 'POST',
  path: `${BASE}/roles`,
  status: 201,
  body: Exactly({ name: Name, privileges: PrivilegeList }),
  answer: RoleView,
  errors: ['CONFLICT'],
  example: {
    name: 'starter',
    privileges: ['System.Read', 'VirtualMachine.Interact.PowerOn'],
  },
})

export const setRole = operation({
  id: 'setRole',
  summary: 'Change the privileges of a role, for all who have it; the caller has old and new ones',
  needs: onSite('Authorization.ModifyRoles'),
  method: 'PUT',
  path: `${BASE}/roles/:role`,
  status: 200,
  params: Exactly({ role: Name }),
  body: Exactly({ privileges: PrivilegeList }),
  answer: RoleView,
  errors: ['CONFLICT', 'LAST_ADMINISTRATOR'],
})

export const deleteRole = operation({
  id: 'deleteRole',
  summary: 'Delete a role that nobody has',
  needs: onSite('Authorization.ModifyRoles'),
  method: 'DELETE',
  path: `${BASE}/roles/:role`,
  status: 200,
  params: Exactly({ role: Name }),
  answer: Empty,
  errors: ['CONFLICT'],
})

export const PermissionView = Exactly({
  permissionId: Uuid,
  principal: Principal,
  role: Name,
  scope: Scope,
  grantedAt: Time,
  grantedBy: Type.String(),
})

export const listPermissions = operation({
  id: 'listPermissions',
  summary: 'Who has which role where, as far as the caller may see the objects',
  needs: onObject('System.Read'),
  method: 'GET',
  path: `${BASE}/permissions`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ permissions: Type.Array(PermissionView), next: Next }),
})

export const grantPermission = operation({
  id: 'grantPermission',
  summary: 'Grant a role at a scope, of which the caller has every privilege there',
  needs: onObject('Authorization.ModifyPermissions'),
  method: 'POST',
  path: `${BASE}/permissions`,
  status: 201,
  body: Exactly({ principal: Principal, role: Name, scope: Scope }),
  answer: PermissionView,
  errors: ['CONFLICT', 'NOT_FOUND'],
  example: {
    principal: { kind: 'user', name: 'anna' },
    role: 'starter',
    scope: { kind: 'tag', name: 'prod' },
  },
})

export const revokePermission = operation({
  id: 'revokePermission',
  summary: 'Take a role from somebody, of which the caller has every privilege there',
  needs: onObject('Authorization.ModifyPermissions'),
  method: 'DELETE',
  path: `${BASE}/permissions/:permissionId`,
  status: 200,
  params: Exactly({ permissionId: Uuid }),
  answer: Empty,
  errors: ['LAST_ADMINISTRATOR'],
})

// ---------------------------------------------------------------- audit

export const listPeopleAudit = operation({
  id: 'listPeopleAudit',
  summary: 'Audit records about people: logins, accounts, roles, permissions',
  needs: onSite('System.Read'),
  method: 'GET',
  path: `${BASE}/audit`,
  status: 200,
  query: AuditQuery,
  answer: AuditPage,
})

export const verifyPeopleAudit = operation({
  id: 'verifyPeopleAudit',
  summary: 'Recompute the hash chain of the audit records about people',
  needs: onSite('System.Read'),
  method: 'GET',
  path: `${BASE}/audit/verification`,
  status: 200,
  answer: AuditVerdict,
})
