import type { Command } from 'commander'
import { addVmTask } from './vm-task.js'

/** Snapshots of VMs, made by their hosts. Those that there are, `vm show --json` tells. */
export function addSnapshotTasks(vm: Command): void {
  const snapshot = vm.command('snapshot').description('snapshots of a VM')
  addVmTask<'vm.create-snapshot', { readonly description?: string; readonly memory: boolean }>(
    snapshot,
    {
      usage: 'create <vm> <name>',
      kind: 'vm.create-snapshot',
      configure: (command) =>
        command
          .option('--description <text>', 'what it is for')
          .option('--no-memory', 'of a VM that runs, the disks alone: as after a power cut'),
      request: ([name = ''], { description, memory }) => ({
        name,
        ...(description === undefined ? {} : { description }),
        ...(memory ? {} : { memory }),
      }),
      examples: [
        'sigillo vm snapshot create web1 before-upgrade',
        'sigillo vm snapshot create web1 monday --description "weekly" --no-memory',
      ],
    },
  )
  addVmTask<'vm.revert-snapshot', { readonly memory: boolean }>(snapshot, {
    usage: 'revert <vm> <snapshot>',
    kind: 'vm.revert-snapshot',
    configure: (command) => command.option('--no-memory', 'leave it stopped, as after a power cut'),
    request: ([name = ''], { memory }) => ({ snapshot: name, ...(memory ? {} : { memory }) }),
    destroys: ([name]) => `this loses what VM ${name} is now`,
    examples: [
      'sigillo vm snapshot revert web1 before-upgrade --yes',
      'sigillo vm snapshot revert web1 monday --yes --detach',
    ],
  })
  addVmTask(snapshot, {
    usage: 'remove <vm> <snapshot>',
    kind: 'vm.remove-snapshot',
    request: ([name = '']) => ({ snapshot: name }),
    destroys: ([name, which]) => `this destroys snapshot ${which} of VM ${name}`,
    examples: [
      'sigillo vm snapshot remove web1 before-upgrade --yes',
      'sigillo vm snapshot remove web1 monday --yes --json',
    ],
  })
}
