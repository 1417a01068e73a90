import type { Command } from 'commander'
import { addVmTask } from './vm-task.js'

/** VMs that go from one host to another: a task of each of the two. */
export function addMoveTasks(vm: Command): void {
  addVmTask<'vm.export', { readonly move?: boolean }>(vm, {
    usage: 'export <vm> <directory>',
    kind: 'vm.export',
    configure: (command) =>
      command.option(
        '--move',
        'hand it over: the host that imports it has it, and it is locked here',
      ),
    request: ([directory = ''], { move }) => ({ directory, move: move === true }),
    examples: [
      'sigillo vm export web1 /mnt/shared/web1 --move',
      'sigillo vm export web1 /backup/web1-monday',
    ],
  })
  addVmTask(vm, {
    usage: 'import <directory>',
    kind: 'vm.import',
    request: ([directory = '']) => ({ directory }),
    examples: [
      'sigillo vm import /mnt/shared/web1 --host host-b',
      'sigillo vm import /mnt/shared/web1 --host host-b --json',
    ],
  })
  addVmTask(vm, {
    usage: 'take-back <vm>',
    kind: 'vm.take-back',
    request: () => ({}),
    examples: ['sigillo vm take-back web1', 'sigillo vm take-back web1 --json'],
  })
  addVmTask<'vm.receive', { readonly listen: string }>(vm, {
    usage: 'receive',
    kind: 'vm.receive',
    configure: (command) =>
      command.requiredOption('--listen <address>', 'host:port, [address]:port, or unix:/path'),
    request: (_, { listen }) => ({ listen }),
    examples: [
      'sigillo vm receive --host host-b --listen 10.0.0.2:7000 --detach',
      'sigillo vm receive --host host-b --listen [fd00::2]:7000 --detach',
    ],
  })
  addVmTask<'vm.send', { readonly to: string }>(vm, {
    usage: 'send <vm>',
    kind: 'vm.send',
    configure: (command) =>
      command.requiredOption('--to <address>', 'where the other host listens'),
    request: (_, { to }) => ({ to }),
    examples: [
      'sigillo vm send web1 --to 10.0.0.2:7000',
      'sigillo vm send web1 --to 10.0.0.2:7000 --json',
    ],
  })
}
