import { type Command, InvalidArgumentError } from 'commander'
import type { Client } from '../../api/client.js'
import type { PartPolicy, VmView } from '../../api/control-plane.js'
import type { VmCreate } from '../../api/host-agent.js'
import { changeVmTags } from '../../api/inventory.js'
import {
  createVmByPolicy,
  giveVmPolicies,
  planVmPolicies,
  type VmByPolicy,
} from '../../api/storage-policies.js'
import type { VmTaskView } from '../../api/tasks.js'
import { PlatformError } from '../../core/errors.js'
import { table } from '../output.js'
import { requireYes } from '../require-yes.js'
import { examples } from '../run.js'
import { collect } from '../values.js'
import type { VmOptions } from '../vm-requests.js'
import { connect, withConnection } from './connection.js'
import { followVmTask, taskLines } from './follow-task.js'
import { findVm } from './vm-task.js'

interface Place {
  readonly host?: string
  readonly cluster?: string
}

interface PolicyOptions extends Place {
  readonly home?: string
  readonly disk?: readonly DiskPolicy[]
  readonly plan?: boolean
  readonly compareAll?: boolean
  readonly detach?: boolean
  readonly yes?: boolean
}

interface DiskPolicy {
  readonly name: string
  readonly policy: string
}

/** Storage policies and tags of VMs. */
export function addVmPolicyCommands(vm: Command): void {
  withPlace(vm.command('policies <vm>'))
    .description(
      'storage policies of a VM; with --home or --disk, other ones, which its host brings it to',
    )
    .option('--home <policy>', 'policy of its home')
    .option('--disk <name=policy>', 'policy of a disk; may be repeated', diskPolicy)
    .option('--plan', 'only say what would be done, in its order')
    .option('--compare-all', 'compare all of each copied disk with its original, not samples')
    .option('--detach', 'print the task and do not wait for it')
    .option('--yes', 'decrypt without being asked again')
    .addHelpText(
      'after',
      examples(
        'sigillo vm policies web1',
        'sigillo vm policies web1 --home plain --disk root=plain --disk data=plain --yes',
        'sigillo vm policies web1 --home gold-disks --disk root=gold-disks --plan',
      ),
    )
    .action(givePolicies)

  withPlace(vm.command('tag <vm>'))
    .description('add and remove tags of a VM, which permissions can be granted on')
    .option('--add <tag>', 'a tag, such as prod/web; may be repeated', collect)
    .option('--remove <tag>', 'a tag that it is not to have; may be repeated', collect)
    .addHelpText(
      'after',
      examples(
        'sigillo vm tag web1 --add prod/web',
        'sigillo vm tag web1 --add test --remove prod/web --json',
      ),
    )
    .action(changeTags)
}

/** A disk and its policy, as an option that may be repeated takes it. */
export function diskPolicy(
  text: string,
  before: readonly DiskPolicy[] = [],
): readonly DiskPolicy[] {
  const match = /^([^=]+)=([^=]+)$/.exec(text)
  if (!match) throw new InvalidArgumentError('expected NAME=POLICY')
  return [...before, { name: match[1] ?? '', policy: match[2] ?? '' }]
}

/** The policies of a new VM, as options. */
export interface PolicyOfVm {
  readonly policy?: string
  readonly diskPolicy?: readonly DiskPolicy[]
}

/** Asks for a VM that is made by policy; nothing where no policy is named. */
export function createByPolicy(
  client: Client,
  { policy, diskPolicy: ofDisks = [], ...others }: PolicyOfVm & Partial<VmOptions>,
  { vtpm, disks, provider: _, plain: __, ...spec }: VmCreate,
  where: Pick<VmByPolicy, 'hostId' | 'cluster' | 'expiresInSeconds'>,
): Promise<VmTaskView> | undefined {
  if (policy === undefined) {
    if (ofDisks.length === 0) return undefined
    throw new PlatformError('REQUEST_INVALID', 'expected --policy beside --disk-policy, found none')
  }
  if (others.provider !== undefined || others.plain || others.plainDisk) {
    const expected = 'expected either policies, or --provider, --plain and --plain-disk, found both'
    throw new PlatformError('REQUEST_INVALID', expected)
  }
  const unknown = ofDisks.find(({ name }) => !disks.some((disk) => disk.name === name))
  if (unknown) throw new PlatformError('REQUEST_INVALID', `expected --disk ${unknown.name}=…`)
  const policies = new Map(ofDisks.map((disk) => [disk.name, disk.policy]))
  const body = {
    ...{ ...spec, ...where, policy },
    // without a word, the host gives one to what is encrypted
    ...(vtpm === false ? { vtpm } : {}),
    disks: disks.map(({ plain: _, ...disk }) => {
      const own = policies.get(disk.name)
      return { ...disk, ...(own === undefined ? {} : { policy: own }) }
    }),
  }
  return client.call(createVmByPolicy, { body })
}

async function givePolicies(name: string, options: PolicyOptions, command: Command): Promise<void> {
  const { home, disk = [], plan, compareAll, detach } = options
  await using connection = connect(command)
  const { client, output } = connection
  const vm = await findVm(client, name, options)
  if (home === undefined && disk.length === 0) {
    output.data(vm.policies, () => policyTable(vm))
    return
  }
  const params = { vmId: vm.vmId }
  const change = {
    ...(home === undefined ? {} : { home }),
    ...(disk.length === 0 ? {} : { disks: [...disk] }),
  }
  const { steps } = await client.call(planVmPolicies, { params, body: change })
  if (plan) {
    output.data({ steps }, () => (steps.length === 0 ? ['nothing: it is as they ask'] : steps))
    return
  }
  if (steps.some((step) => step.startsWith('decrypt'))) {
    const parts = steps.join(', ')
    requireYes(options, `this writes parts of VM ${name} to its host in the clear (${parts})`)
  }
  const body = { ...change, compare: compareAll ? ('all' as const) : ('samples' as const) }
  const given = await client.call(giveVmPolicies, { params, body })
  if (!given.task) {
    output.data(given, () => [`VM ${name} is as its policies ask`])
    return
  }
  const task = detach ? given.task : await followVmTask(connection, given.task)
  output.data({ ...given, task }, () => [...given.steps, ...taskLines(task)])
}

async function changeTags(
  name: string,
  options: Place & { readonly add?: string[]; readonly remove?: string[] },
  command: Command,
): Promise<void> {
  const { add = [], remove = [] } = options
  await using connection = connect(command)
  const { client, output } = connection
  const { vmId } = await findVm(client, name, options)
  const vm = await client.call(changeVmTags, { params: { vmId }, body: { add, remove } })
  output.data({ vmId, tags: vm.tags }, () => [
    `tags of VM ${name}: ${vm.tags.join(', ') || 'none'}`,
  ])
}

function withPlace(command: Command): Command {
  return withConnection(command)
    .option('--host <id>', 'host: where the VM is, if others have its name')
    .option('--cluster <name>', 'cluster: the same')
}

function policyTable({ policies }: VmView): readonly string[] {
  const row = (part: string, { policy, given, compliance, reason }: PartPolicy) => [
    ...[part, policy, given ? 'yes' : 'no', compliance, reason ?? ''],
  ]
  return table([
    ['PART', 'POLICY', 'GIVEN', 'COMPLIANCE', 'REASON'],
    row('home', policies.home),
    ...policies.disks.map((disk) => row(`disk ${disk.name}`, disk)),
  ])
}
