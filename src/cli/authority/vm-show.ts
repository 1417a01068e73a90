import type { Command } from 'commander'
import type { PartPolicy, VmReport, VmView } from '../../api/control-plane.js'
import { fields, sizeText, table } from '../output.js'
import { examples } from '../run.js'
import { connect, withConnection } from './connection.js'
import { findVm } from './vm-task.js'

/** `vm show`: one VM, with the key, the policy and the compliance of each of its parts. */
export function addVmShow(vm: Command): void {
  withConnection(vm.command('show <vm>'))
    .description('one VM, as its host reported it')
    .option('--host <id>', 'host: where the VM is, if others have its name')
    .option('--cluster <name>', 'cluster: the same')
    .addHelpText('after', examples('sigillo vm show web1', 'sigillo vm show web1 --json'))
    .action(
      async (name: string, options: { host?: string; cluster?: string }, command: Command) => {
        await using connection = connect(command)
        const found = await findVm(connection.client, name, options)
        connection.output.data(found, () => linesOf(found))
      },
    )
}

function linesOf(view: VmView): readonly string[] {
  const { vmId, hostId, cluster, tags, policies, report, reportedAt } = view
  const { name, state, provider, vtpm, disks, lock, snapshots } = report
  return [
    ...fields([
      ['VM', name],
      ['id', vmId],
      ['host', `${hostId} in ${cluster}`],
      ['state', lock ? `locked: ${lock.reason} (${lock.code}) since ${lock.since}` : state],
      ['key provider', provider ?? 'none: not encrypted'],
      ['snapshots', snapshots ? String(snapshots) : undefined],
      ['tags', tags.length > 0 ? tags.join(', ') : undefined],
      ['reported', reportedAt],
    ]),
    '',
    ...table([
      ['PART', 'SIZE', 'KEY', 'POLICY', 'COMPLIANCE'],
      ['home', '-', keyOf(report, 'home'), ...policyOf(policies.home)],
      ...disks.map((disk) => [
        ...[`disk ${disk.name}`, sizeText(disk.sizeOctets)],
        disk.encrypted ? keyOf(report, `disk-${disk.name}`) : 'none: plain',
        ...policyOf(policies.disks.find((policy) => policy.name === disk.name)),
      ]),
      ...(vtpm ? [['virtual TPM', '-', keyOf(report, 'vtpm'), '-', '-']] : []),
    ]),
  ]
}

/** What wraps the key of a part: the provider by name where it is that of the home, else by id. */
function keyOf({ provider, key, keys = [] }: VmReport, object: string): string {
  if (provider === undefined) return 'none: plain'
  const wrapping = keys.find((candidate) => candidate.object === object)
  if (!wrapping) return 'not reported'
  const name = wrapping.providerId === key?.providerId ? provider : wrapping.providerId
  return `${name} version ${wrapping.version}`
}

function policyOf(policy: PartPolicy | undefined): readonly [string, string] {
  if (!policy) return ['-', '-']
  const { given, compliance, reason } = policy
  return [
    given ? policy.policy : `${policy.policy} (as it is)`,
    reason ? `${compliance}: ${reason}` : compliance,
  ]
}
