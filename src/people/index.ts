import type { Kysely } from 'kysely'
import type { Static } from 'typebox'
import type { Clock } from '../core/clock.js'
import { newUuid, randomOctets } from '../core/random.js'
import type { App, CallerAccess, CallerAccessOptions } from '../http/index.js'
import { auditLog, type FoundationTables, type Store } from '../store/index.js'
import { findCaller, missingPrivilege } from './adapters/find-caller.js'
import { openOidcProvider } from './adapters/oidc.js'
import { argon2Hasher } from './adapters/password-hasher.js'
import { AUDIT_CHAIN, peopleStore } from './adapters/people-store.js'
import type { PeopleTables } from './adapters/tables.js'
import type { OidcSection, PeopleSection } from './config.js'
import { createAccounts } from './domain/accounts.js'
import { createLogin } from './domain/login.js'
import { createPermissions } from './domain/permissions.js'
import type { Place } from './domain/rights.js'
import { createRoles } from './domain/roles.js'
import { addAccountRoutes } from './routes/account-routes.js'
import { addRoleRoutes } from './routes/role-routes.js'

export { findCaller, missingPrivilege } from './adapters/find-caller.js'
export { readRights } from './adapters/read-rights.js'
export type { PeopleTables } from './adapters/tables.js'
export { OidcSection, PeopleSection } from './config.js'
export { type Place, type Rights, SITE } from './domain/rights.js'

/** Who people are and what they may do: needs no root key, and is there while services are sealed. */
export interface People extends AsyncDisposable {
  /** How tokens become callers, and callers have privileges: for the doors of every service. */
  readonly doors: Pick<CallerAccessOptions, 'find' | 'missing'>
  addRoutes(app: App, callers: CallerAccess): void
}

/**
 * @param deps.placeOfVm where a VM is, as the control plane knows it
 * @throws PlatformError `CONFIG_INVALID`, `CONFIG_UNREADABLE` for settings of the outside provider
 */
export function openPeople(deps: {
  readonly store: Store
  readonly config: Static<typeof PeopleSection>
  readonly oidc: Static<typeof OidcSection>
  readonly placeOfVm: (db: Kysely<PlaceTables>, vmId: string) => Promise<Place>
  readonly clock: Clock
}): People {
  const { clock } = deps
  const hasher = argon2Hasher()
  const provider = openOidcProvider(deps.oidc, clock)
  const store = peopleStore(deps.store, (tx, vmId) =>
    deps.placeOfVm(tx as unknown as Kysely<PlaceTables>, vmId),
  )
  const db = deps.store.tables<PeopleTables & FoundationTables>()
  const maker = { newId: newUuid, random: randomOctets }
  return {
    doors: {
      find: (token, service) =>
        findCaller(deps.store, { token, service, nowMs: clock.nowMs() }, provider),
      missing: (caller, needs) => missingPrivilege(db, caller, needs, clock.nowMs()),
    },
    addRoutes(app, callers) {
      const accounts = createAccounts({ store, hasher, maker })
      const { loginHours: tokenHours, loginsPerMinute } = deps.config
      const login = createLogin({ store, hasher, maker, tokenHours })
      addAccountRoutes(app, { store, accounts, login, loginsPerMinute, callers, clock })
      addRoleRoutes(app, {
        roles: createRoles(store),
        permissions: createPermissions({ store, newId: newUuid, issuer: provider?.issuer }),
        audit: auditLog(deps.store, AUDIT_CHAIN),
        callers,
        clock,
      })
    },
    async [Symbol.asyncDispose]() {
      await provider?.[Symbol.asyncDispose]()
    },
  }
}

/** What is read of VMs to know where they are: one table of the control plane, and what it adds. */
type PlaceTables = { control_plane_vms: { vm_id: string; cluster: string } }
