import type { Command } from 'commander'
import { createCluster, listClusters, listEvents, listVms } from '../../api/control-plane.js'
import { listHandOvers } from '../../api/vm-moves.js'
import { table } from '../output.js'
import { addOperation } from './command.js'
import { type VmFilterOptions, vmFilterOf, withVmFilter } from './vm-filter.js'
import { addVtpmCommands } from './vtpm.js'

/** Clusters, VMs, events, and the authority of virtual TPMs: what the control plane knows. Returns the command of VMs. */
export function addInventoryCommands(program: Command): Command {
  const cluster = program.command('cluster').description('clusters of hosts')

  addOperation(cluster, {
    usage: 'create <name>',
    operation: createCluster,
    input: ([name = '']) => ({ body: { name } }),
    text: ({ name }) => [`cluster ${name} made`],
    examples: ['sigillo cluster create lab', 'sigillo cluster create lab --json'],
  })
  addOperation(cluster, {
    usage: 'list',
    operation: listClusters,
    list: 'clusters',
    input: () => ({ query: {} }),
    text: ({ clusters }) =>
      table([['CLUSTER', 'MADE'], ...clusters.map((c) => [c.name, c.createdAt])]),
    examples: ['sigillo cluster list', 'sigillo cluster list --json'],
  })

  const vm = program
    .command('vm')
    .description('virtual machines, as their hosts report them, and what is done with them')
  addOperation<typeof listVms, VmFilterOptions>(vm, {
    usage: 'list',
    operation: listVms,
    list: 'vms',
    configure: withVmFilter,
    input: (_, options) => ({ query: vmFilterOf(options) }),
    text: ({ vms }) =>
      table([
        ['VM', 'HOST', 'STATE', 'PROVIDER', 'DISKS', 'VTPM', 'REPORTED'],
        ...vms.map(({ report, hostId, reportedAt }) => [
          report.name,
          hostId,
          report.lock ? `locked: ${report.lock.reason} (${report.lock.code})` : report.state,
          report.provider ?? 'none',
          String(report.disks.length),
          report.vtpm ? 'yes' : 'no',
          reportedAt,
        ]),
      ]),
    examples: ['sigillo vm list', 'sigillo vm list --host host-a --json'],
  })

  addOperation(vm, {
    usage: 'hand-overs',
    operation: listHandOvers,
    list: 'handOvers',
    input: () => ({ query: {} }),
    text: ({ handOvers }) =>
      table([
        ['VM', 'EXPORT', 'FROM', 'CLUSTER', 'SINCE'],
        ...handOvers.map((one) => [
          ...[one.vmId, one.exportId, one.hostId, one.cluster, one.offeredAt],
        ]),
      ]),
    examples: ['sigillo vm hand-overs', 'sigillo vm hand-overs --json'],
  })

  addVtpmCommands(program)

  const event = program.command('event').description('event log of the site')
  addOperation(event, {
    usage: 'list',
    operation: listEvents,
    list: 'events',
    input: () => ({ query: {} }),
    text: ({ events }) =>
      table(events.map((e) => [String(e.seq), e.at, e.severity, e.type, e.subject, e.message])),
    examples: ['sigillo event list', 'sigillo event list --after 120 --json'],
  })
  return vm
}
