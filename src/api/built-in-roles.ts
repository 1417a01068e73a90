import { PRIVILEGES, type Privilege } from './privileges.js'

interface BuiltInRole {
  readonly description: string
  readonly privileges: readonly Privilege[]
}

const EVERY_PRIVILEGE = Object.keys(PRIVILEGES) as readonly Privilege[]

const WORKLOADS = EVERY_PRIVILEGE.filter((name) => !name.startsWith('TrustedAdmin.'))
const TRUST_AUTHORITY = EVERY_PRIVILEGE.filter((name) => name.startsWith('TrustedAdmin.'))

/**
 * Roles that every site has and nobody changes.
 *
 * `administrator` and `trust-authority-administrator` have no privilege in common: who has one of them can do no act of
 * the other.
 */
export const BUILT_IN_ROLES = {
  administrator: {
    description:
      'everything about workloads: VMs, hosts, key providers of the control plane, people',
    privileges: WORKLOADS,
  },
  'no-cryptography-administrator': {
    description: 'as administrator, without the privileges of cryptography',
    privileges: WORKLOADS.filter((name) => !name.startsWith('Cryptographer.')),
  },
  'read-only': {
    description: 'see VMs, clusters, hosts and events',
    privileges: ['System.Read'],
  },
  'trust-authority-administrator': {
    description: 'attestation and trusted key providers; no VM, no person',
    privileges: TRUST_AUTHORITY,
  },
  'trust-authority-auditor': {
    description: 'see all of attestation and trusted key providers, and change nothing',
    privileges: TRUST_AUTHORITY.filter((name) => name.startsWith('TrustedAdmin.Read')),
  },
} as const satisfies Readonly<Record<string, BuiltInRole>>
