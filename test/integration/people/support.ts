import { type Client, createClient } from '../../../src/api/client.js'
import {
  createAccountToken,
  createRole,
  createServiceAccount,
  createUser,
  grantPermission,
  login,
  type Scope,
} from '../../../src/api/people.js'
import type { Privilege } from '../../../src/api/privileges.js'
import type { TestSite } from '../../helpers/site.js'

export const PASSWORD = 'seven green bottles on a wall'
export const SITE: Scope = { kind: 'site' }

/** What a person has somewhere: a role by its name. */
export interface Grant {
  readonly role: string
  readonly scope?: Scope
}

export function clientWith(site: TestSite, bearerToken: string): Client {
  return createClient({ baseUrl: site.url, caPem: site.caPem, bearerToken })
}

/** A user who was granted these roles, logged in. */
export async function newUser(site: TestSite, name: string, ...grants: Grant[]): Promise<Client> {
  await site.admin.call(createUser, { body: { name, password: PASSWORD } })
  await grantAll(site, 'user', name, grants)
  const { token } = await site.anybody.call(login, { body: { name, password: PASSWORD } })
  return clientWith(site, token)
}

/** The token of a service account that was granted these roles. */
export async function newAccountToken(
  site: TestSite,
  name: string,
  ...grants: Grant[]
): Promise<string> {
  await site.admin.call(createServiceAccount, { body: { name } })
  await grantAll(site, 'service-account', name, grants)
  const { token } = await site.admin.call(createAccountToken, {
    params: { name },
    body: { note: 'test', ttlSeconds: 3600 },
  })
  return token
}

/** A service account that was granted these roles. */
export async function newAccount(
  site: TestSite,
  name: string,
  ...grants: Grant[]
): Promise<Client> {
  return clientWith(site, await newAccountToken(site, name, ...grants))
}

export async function newRole(
  site: TestSite,
  name: string,
  privileges: readonly Privilege[],
): Promise<string> {
  await site.admin.call(createRole, { body: { name, privileges: [...privileges] } })
  return name
}

async function grantAll(
  site: TestSite,
  kind: 'user' | 'service-account',
  name: string,
  grants: readonly Grant[],
): Promise<void> {
  for (const { role, scope = SITE } of grants) {
    await site.admin.call(grantPermission, { body: { principal: { kind, name }, role, scope } })
  }
}
