import type { Command } from 'commander'
import {
  createRole,
  deleteRole,
  grantPermission,
  listPermissions,
  listRoles,
  type Principal,
  revokePermission,
  type Scope,
  setRole,
} from '../../api/people.js'
import type { Privilege } from '../../api/privileges.js'
import { PlatformError } from '../../core/errors.js'
import { table } from '../output.js'
import { addOperation } from './command.js'
import { scope, scopeText } from './scope-option.js'

interface GrantFlags {
  readonly user?: string
  readonly serviceAccount?: string
  readonly oidcGroup?: string
  readonly role: string
  readonly on?: Scope
}

/** `role` and `permission`: what people may do. */
export function addRoleCommands(program: Command): void {
  const role = program.command('role').description('roles: names for sets of privileges')
  addOperation(role, {
    usage: 'list',
    operation: listRoles,
    list: 'roles',
    input: () => ({ query: {} }),
    text: ({ roles }) =>
      roles.flatMap(({ name, builtIn, privileges }) => [
        `${name}${builtIn ? ' (built in)' : ''}`,
        ...privileges.map((privilege) => `  ${privilege}`),
      ]),
    examples: ['sigillo role list', 'sigillo role list --json'],
  })
  addOperation(role, {
    usage: 'create <name> <privileges...>',
    operation: createRole,
    input: ([name = '', ...privileges]) => ({
      body: { name, privileges: privileges as Privilege[] },
    }),
    text: ({ name }) => [`role ${name} made`],
    examples: [
      'sigillo role create starter System.Read VirtualMachine.Interact.PowerOn',
      'sigillo role create reader System.Read --json',
    ],
  })
  addOperation(role, {
    usage: 'set <name> <privileges...>',
    operation: setRole,
    input: ([name = '', ...privileges]) => ({
      params: { role: name },
      body: { privileges: privileges as Privilege[] },
    }),
    text: ({ name, privileges }) => [`role ${name}: ${privileges.join(' ')}`],
    examples: [
      'sigillo role set starter System.Read',
      'sigillo role set reader System.Read --json',
    ],
  })
  addOperation(role, {
    usage: 'delete <name>',
    operation: deleteRole,
    input: ([name = '']) => ({ params: { role: name } }),
    text: () => ['role deleted'],
    examples: ['sigillo role delete starter', 'sigillo role delete starter --json'],
  })

  const permission = program.command('permission').description('who has which role where')
  addOperation(permission, {
    usage: 'list',
    operation: listPermissions,
    list: 'permissions',
    input: () => ({ query: {} }),
    text: ({ permissions }) =>
      table([
        ['WHO', 'ROLE', 'ON', 'GRANTED', 'BY', 'ID'],
        ...permissions.map((p) => [
          `${p.principal.kind}:${p.principal.name}`,
          p.role,
          scopeText(p.scope),
          p.grantedAt,
          p.grantedBy,
          p.permissionId,
        ]),
      ]),
    examples: ['sigillo permission list', 'sigillo permission list --json'],
  })
  addOperation<typeof grantPermission, GrantFlags>(permission, {
    usage: 'grant',
    operation: grantPermission,
    configure: (command) =>
      command
        .option('--user <name>', 'a user')
        .option('--service-account <name>', 'a service account')
        .option('--oidc-group <name>', 'a group of the outside provider')
        .requiredOption('--role <name>', 'the role')
        .option('--on <scope>', 'site (default), cluster:<name>, tag:<name> or vm:<id>', scope),
    input: (_, flags) => ({
      body: {
        principal: principalOf(flags),
        role: flags.role,
        scope: flags.on ?? { kind: 'site' },
      },
    }),
    text: ({ permissionId }) => [`granted: ${permissionId}`],
    examples: [
      'sigillo permission grant --user anna --role administrator',
      'sigillo permission grant --oidc-group kvm --role read-only --on cluster:lab --json',
    ],
  })
  addOperation(permission, {
    usage: 'revoke <id>',
    operation: revokePermission,
    input: ([permissionId = '']) => ({ params: { permissionId } }),
    text: () => ['permission revoked'],
    examples: [
      'sigillo permission revoke 5f0c2e9a-…',
      'sigillo permission revoke 5f0c2e9a-… --json',
    ],
  })
}

function principalOf({ user, serviceAccount, oidcGroup }: GrantFlags): Principal {
  const named = [
    ...(user === undefined ? [] : [{ kind: 'user' as const, name: user }]),
    ...(serviceAccount === undefined
      ? []
      : [{ kind: 'service-account' as const, name: serviceAccount }]),
    ...(oidcGroup === undefined ? [] : [{ kind: 'oidc-group' as const, name: oidcGroup }]),
  ]
  const [principal] = named
  if (principal && named.length === 1) return principal
  const expected = 'expected one of --user, --service-account and --oidc-group'
  throw new PlatformError('REQUEST_INVALID', `${expected}, found ${named.length}`)
}
