import { type Command, InvalidArgumentError } from 'commander'
import {
  changeStoragePolicy,
  createStoragePolicy,
  deleteStoragePolicy,
  getStoragePolicy,
  listStoragePolicies,
  type StoragePolicyView,
} from '../../api/storage-policies.js'
import { fields, table } from '../output.js'
import { addOperation } from './command.js'

interface RuleOptions {
  readonly encrypted: boolean
  readonly provider?: string
}

/** Storage policies: whether homes and disks of VMs are encrypted, and under which key provider. */
export function addStoragePolicyCommands(program: Command): void {
  const parent = program
    .command('storage-policy')
    .description('whether homes and disks of VMs are encrypted, and under which key provider')

  addOperation(parent, {
    usage: 'list',
    operation: listStoragePolicies,
    list: 'policies',
    input: () => ({ query: {} }),
    text: ({ policies }) =>
      table([
        ['POLICY', 'ENCRYPTED', 'PROVIDER', 'CHANGED'],
        ...policies.map((policy) => [
          ...[policy.name, policy.encrypted ? 'yes' : 'no', providerOf(policy)],
          policy.builtIn ? 'built in' : (policy.changedAt ?? '-'),
        ]),
      ]),
    examples: ['sigillo storage-policy list', 'sigillo storage-policy list --json'],
  })
  addOperation(parent, {
    usage: 'show <policy>',
    operation: getStoragePolicy,
    input: ([policy = '']) => ({ params: { policy } }),
    text: policyLines,
    examples: [
      'sigillo storage-policy show gold-disks',
      'sigillo storage-policy show plain --json',
    ],
  })
  addOperation<typeof createStoragePolicy, RuleOptions>(parent, {
    usage: 'create <policy>',
    operation: createStoragePolicy,
    configure: withRule,
    input: ([name = ''], rule) => ({ body: { name, ...ruleOf(rule) } }),
    text: policyLines,
    examples: [
      'sigillo storage-policy create gold-disks --encrypted yes --provider gold',
      'sigillo storage-policy create scratch --encrypted no --json',
    ],
  })
  addOperation<typeof changeStoragePolicy, RuleOptions>(parent, {
    usage: 'change <policy>',
    operation: changeStoragePolicy,
    configure: withRule,
    input: ([policy = ''], rule) => ({ params: { policy }, body: ruleOf(rule) }),
    text: policyLines,
    examples: [
      'sigillo storage-policy change gold-disks --encrypted yes --provider silver',
      'sigillo storage-policy change gold-disks --encrypted yes --json',
    ],
  })
  addOperation(parent, {
    usage: 'delete <policy>',
    operation: deleteStoragePolicy,
    input: ([policy = '']) => ({ params: { policy } }),
    text: () => ['deleted'],
    destroys: ([policy]) => `this deletes storage policy ${policy}`,
    examples: [
      'sigillo storage-policy delete scratch --yes',
      'sigillo storage-policy delete scratch --yes --json',
    ],
  })
}

function withRule(command: Command): Command {
  return command
    .requiredOption('--encrypted <yes|no>', 'whether what has the policy is encrypted', yesOrNo)
    .option('--provider <name>', 'key provider (default: that of the VM, else the default)')
}

function yesOrNo(text: string): boolean {
  if (text === 'yes' || text === 'no') return text === 'yes'
  throw new InvalidArgumentError('expected yes or no')
}

function ruleOf({ encrypted, provider }: RuleOptions): RuleOptions {
  return { encrypted, ...(provider === undefined ? {} : { provider }) }
}

function providerOf({ encrypted, provider }: StoragePolicyView): string {
  return provider ?? (encrypted ? 'any' : '-')
}

function policyLines(policy: StoragePolicyView): readonly string[] {
  return [
    ...fields([
      ['policy', policy.name],
      ['encrypted', policy.encrypted ? 'yes' : 'no'],
      ['provider', policy.encrypted ? providerOf(policy) : undefined],
      ['built in', policy.builtIn ? 'yes' : undefined],
      ['changed', policy.changedAt && `${policy.changedAt} by ${policy.changedBy}`],
    ]),
    ...(policy.note === undefined ? [] : [`note: ${policy.note}`]),
  ]
}
