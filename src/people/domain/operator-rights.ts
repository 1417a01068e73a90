import { BUILT_IN_ROLES } from '../../api/built-in-roles.js'
import type { Privilege } from '../../api/privileges.js'
import type { OperatorCaller } from '../../http/index.js'
import { type Permission, SITE } from './rights.js'

const HOSTS = ['TrustedAdmin.ReadTrustedHosts', 'TrustedAdmin.ReadAttestingSSO'] as const
const KEYS = ['TrustedAdmin.ReadKMSTrust'] as const

/** What operators may do at each service: administrators everything of it, auditors see everything of it. */
const PRIVILEGES: Readonly<
  Record<string, Readonly<Record<OperatorCaller['role'], readonly Privilege[]>>>
> = {
  attestation: {
    administrator: [...HOSTS, 'TrustedAdmin.ManageTrustedHosts', 'TrustedAdmin.ManageAttestingSSO'],
    auditor: HOSTS,
  },
  'key-provider': {
    administrator: [...KEYS, 'TrustedAdmin.ManageKMSTrust'],
    auditor: KEYS,
  },
  'control-plane': {
    administrator: BUILT_IN_ROLES.administrator.privileges,
    auditor: ['System.Read', 'Cryptographer.ReadKeyServersInfo'],
  },
}

/** Operators have their privileges on the whole site, at the services that their token is for. */
export function operatorPermissions({ role, services }: OperatorCaller): readonly Permission[] {
  return services.map((service) => ({
    role: `${service} ${role}`,
    privileges: PRIVILEGES[service]?.[role] ?? [],
    scope: SITE,
  }))
}
