import { type Command, InvalidArgumentError } from 'commander'
import { type ApplyPolicy, applyVmPolicy, type PolicyWanted } from '../../api/vm-policy.js'
import { PlatformError } from '../../core/errors.js'
import { requireYes } from '../require-yes.js'
import { examples } from '../run.js'
import { connectAgent, followTask, withSocket } from './connection.js'
import { printVm } from './vm-text.js'

interface PolicyOptions {
  readonly home?: PolicyWanted
  readonly disk?: NonNullable<ApplyPolicy['disks']>
  readonly compareAll?: boolean
  readonly yes?: boolean
}

const WANTED = '`plain`, `encrypted`, or `encrypted:PROVIDER`'

/** Storage policies of VMs, given by what they ask. */
export function addPolicyCommands(vm: Command): void {
  withSocket(vm.command('apply-policy <name>'))
    .description(
      'bring a stopped VM to what is asked of its home and disks, in the order that the rules allow',
    )
    .option('--home <policy>', `what its home is to be: ${WANTED}`, wanted)
    .option('--disk <name=policy>', `what a disk is to be: ${WANTED}; may be repeated`, wantedDisk)
    .option('--compare-all', 'compare all of each copied disk with its original, not samples')
    .option('--yes', 'decrypt without being asked again')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm apply-policy web1 --home encrypted:gold --disk root=encrypted',
        'sigillo-agent vm apply-policy web1 --home plain --disk root=plain --disk data=plain --yes',
      ),
    )
    .action(async (name: string, options: PolicyOptions, command: Command) => {
      const { home, disk = [], compareAll } = options
      if (!home && disk.length === 0) {
        throw new PlatformError('REQUEST_INVALID', 'expected --home or --disk, found neither')
      }
      if ([home, ...disk].some((one) => one?.encrypted === false)) {
        requireYes(options, `this writes parts of VM ${name} to the host in the clear`)
      }
      await using agent = connectAgent(command)
      const body: ApplyPolicy = {
        ...(home ? { home } : {}),
        ...(disk.length > 0 ? { disks: disk } : {}),
        compare: compareAll ? 'all' : 'samples',
      }
      const started = await agent.client.call(applyVmPolicy, { params: { vm: name }, body })
      const task = await followTask(agent, started)
      if (task.vm) printVm(agent.output, task.vm)
    })
}

function wanted(text: string): PolicyWanted {
  if (text === 'plain') return { encrypted: false }
  if (text === 'encrypted') return { encrypted: true }
  const [word, provider] = text.split(':', 2)
  if (word === 'encrypted' && provider) return { encrypted: true, provider }
  throw new InvalidArgumentError(`expected ${WANTED}`)
}

function wantedDisk(
  text: string,
  before: NonNullable<ApplyPolicy['disks']> = [],
): NonNullable<ApplyPolicy['disks']> {
  const equals = text.indexOf('=')
  if (equals < 1) throw new InvalidArgumentError('expected NAME=POLICY')
  return [...before, { name: text.slice(0, equals), ...wanted(text.slice(equals + 1)) }]
}
