import type { Command } from 'commander'
import {
  createVmSnapshot,
  listVmSnapshots,
  removeVmSnapshot,
  revertVmSnapshot,
} from '../../api/vm-snapshots.js'
import { table } from '../output.js'
import { requireYes } from '../require-yes.js'
import { examples } from '../run.js'
import { connectAgent, followTask, withSocket } from './connection.js'

/** Snapshots of VMs, with their memory if they run. */
export function addSnapshotCommands(vm: Command): void {
  const snapshot = vm.command('snapshot').description('snapshots of a VM')

  withSocket(snapshot.command('create <vm> <name>'))
    .description('keep a VM as it is now, encrypted as it is, with its memory if it runs')
    .option('--description <text>', 'what it is for')
    .option('--no-memory', 'of a VM that runs, the disks alone: as after a power cut')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm snapshot create web1 before-upgrade',
        'sigillo-agent vm snapshot create web1 monday --description "weekly" --no-memory',
      ),
    )
    .action(
      async (
        name: string,
        snapshotName: string,
        options: { description?: string; memory: boolean },
        command: Command,
      ) => {
        const { description, memory } = options
        const body = {
          name: snapshotName,
          ...(description === undefined ? {} : { description }),
          ...(memory ? {} : { memory }),
        }
        await using agent = connectAgent(command)
        const started = await agent.client.call(createVmSnapshot, { params: { vm: name }, body })
        await followTask(agent, started)
        agent.output.data({}, () => [`snapshot ${snapshotName} of VM ${name} made`])
      },
    )

  withSocket(snapshot.command('list <vm>'))
    .description('snapshots of a VM, the oldest first')
    .addHelpText(
      'after',
      examples('sigillo-agent vm snapshot list web1', 'sigillo-agent vm snapshot list web1 --json'),
    )
    .action(async (name: string, _options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const { snapshots } = await agent.client.call(listVmSnapshots, { params: { vm: name } })
      agent.output.data({ snapshots }, () =>
        table([
          ['SNAPSHOT', 'MADE', 'VM', 'ALLOCATED', 'ID', 'DESCRIPTION'],
          ...snapshots.map((s) => [
            s.name,
            s.createdAt,
            s.running ? (s.memory ? 'running' : 'running, no memory') : 'stopped',
            String(s.allocatedOctets),
            s.snapshotId,
            s.description ?? '',
          ]),
        ]),
      )
    })

  withSocket(snapshot.command('revert <vm> <snapshot>'))
    .description(
      'make a stopped VM what it was, running if its memory was kept; what it is now is lost',
    )
    .option('--no-memory', 'leave it stopped, as after a power cut')
    .option('--yes', 'do it without being asked again')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm snapshot revert web1 before-upgrade --yes',
        'sigillo-agent vm stop web1 && sigillo-agent vm snapshot revert web1 monday --yes',
      ),
    )
    .action(
      async (
        name: string,
        snapshotName: string,
        options: { yes?: boolean; memory: boolean },
        command: Command,
      ) => {
        requireYes(options, `this loses what VM ${name} is now`)
        await using agent = connectAgent(command)
        const params = { vm: name, snapshot: snapshotName }
        const body = options.memory ? {} : { memory: false }
        await followTask(agent, await agent.client.call(revertVmSnapshot, { params, body }))
        agent.output.data({}, () => [`VM ${name} is as it was in snapshot ${snapshotName}`])
      },
    )

  withSocket(snapshot.command('remove <vm> <snapshot>'))
    .description('delete a snapshot; its key slots are erased first')
    .option('--yes', 'do it without being asked again')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm snapshot remove web1 before-upgrade --yes',
        'sigillo-agent vm snapshot remove web1 monday --yes --json',
      ),
    )
    .action(
      async (name: string, snapshotName: string, options: { yes?: boolean }, command: Command) => {
        requireYes(options, `this destroys snapshot ${snapshotName} of VM ${name}`)
        await using agent = connectAgent(command)
        const params = { vm: name, snapshot: snapshotName }
        await followTask(agent, await agent.client.call(removeVmSnapshot, { params }))
        agent.output.data({}, () => [`snapshot ${snapshotName} of VM ${name} deleted`])
      },
    )
}
