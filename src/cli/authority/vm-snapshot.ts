import type { Command } from 'commander'
import { addVmTask } from './vm-task.js'

/** Snapshots of VMs, made by their hosts. Those that there are, `vm show --json` tells. */
export function addSnapshotTasks(vm: Command): void {
  const snapshot = vm.command('snapshot').description('snapshots of a VM')
  addVmTask<'vm.create-snapshot', { readonly description?: string }>(snapshot, {
    usage: 'create <vm> <name>',
    kind: 'vm.create-snapshot',
    configure: (command) => command.option('--description <text>', 'what it is for'),
    request: ([name = ''], { description }) => ({
      name,
      ...(description === undefined ? {} : { description }),
    }),
    examples: [
      'sigillo vm snapshot create web1 before-upgrade',
      'sigillo vm snapshot create web1 monday --description "weekly"',
    ],
  })
  addVmTask(snapshot, {
    usage: 'revert <vm> <snapshot>',
    kind: 'vm.revert-snapshot',
    request: ([name = '']) => ({ snapshot: name }),
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
