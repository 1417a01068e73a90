import type { Privilege } from '../../api/privileges.js'
import { PlatformError } from '../../core/errors.js'
import type { PeopleTransaction } from '../ports.js'
import type { Permission, Place, Rights } from './rights.js'

/**
 * Refuses who does not have all that these permissions give, where they give it.
 *
 * It is what keeps privileges where they are: nobody grants, takes away, or gets hold of (by a password, by a token) what
 * they do not have themselves.
 *
 * @throws PlatformError `FORBIDDEN`
 */
export async function requireAll(
  tx: PeopleTransaction,
  rights: Rights,
  permissions: readonly Pick<Permission, 'privileges' | 'scope'>[],
): Promise<void> {
  for (const { privileges, scope } of permissions) {
    rights.require(privileges, await placeOf(tx, scope))
  }
}

/** The object that a scope is. */
export async function placeOf(tx: PeopleTransaction, scope: Permission['scope']): Promise<Place> {
  return scope.kind === 'vm' ? tx.placeOfVm(scope.name) : scope
}

/** What somebody must be left for on the site: without them, nobody could ever grant it again. */
const KEPT: readonly Privilege[] = [
  'Authorization.ModifyPermissions',
  'Authorization.ModifyRoles',
  'TrustedAdmin.ManageTrustedHosts',
  'TrustedAdmin.ManageKMSTrust',
  'TrustedAdmin.ManageAttestingSSO',
]

/**
 * Does work that may take privileges from people, unless nobody would be left who has one that an active user or operator
 * had on the site before. Service accounts and groups of others do not count: nobody may be behind them.
 *
 * @throws PlatformError `LAST_ADMINISTRATOR`
 */
export async function keepingAdministrators<T>(
  tx: PeopleTransaction,
  nowMs: number,
  work: () => Promise<T>,
): Promise<T> {
  const before = await tx.heldOnSite(nowMs)
  const result = await work()
  const after = await tx.heldOnSite(nowMs)
  const lost = KEPT.find((privilege) => before.has(privilege) && !after.has(privilege))
  if (lost === undefined) return result
  const message = `expected somebody who has ${lost} on the site afterwards, found nobody`
  throw new PlatformError('LAST_ADMINISTRATOR', message)
}
