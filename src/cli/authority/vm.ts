import type { Command } from 'commander'
import { collect, integer, size } from '../values.js'
import { type PartOptions, partsOf, type VmOptions, vmSpecOf } from '../vm-requests.js'
import { addMigrateCommand } from './vm-migrate.js'
import { addMoveTasks } from './vm-move.js'
import { addVmPolicyCommands, createByPolicy, diskPolicy, type PolicyOfVm } from './vm-policies.js'
import { addVmShow } from './vm-show.js'
import { addSnapshotTasks } from './vm-snapshot.js'
import { addVmTask } from './vm-task.js'
import { addVtpmTasks } from './vm-vtpm.js'

/** Operations on VMs, done by their hosts. */
export function addVmTaskCommands(vm: Command): void {
  addVmShow(vm)
  addVmPolicyCommands(vm)
  addVmTask<'vm.create', VmOptions & PolicyOfVm>(vm, {
    usage: 'create <name>',
    kind: 'vm.create',
    configure: (command) =>
      command
        .option('--provider <name>', 'key provider (default: that of the cluster or the site)')
        .option('--plain', 'a VM that is not encrypted, without a key provider')
        .option(
          '--disk <name=size|name=file>',
          'a disk, empty or filled from an image on the host; may be repeated',
          collect,
        )
        .option('--plain-disk <name=size|name=file>', 'a disk that is not encrypted', collect)
        .option('--policy <name>', 'storage policy that says what is encrypted, and how')
        .option('--disk-policy <name=policy>', 'another one of a disk; may be repeated', diskPolicy)
        .option('--memory <MiB>', 'memory', integer)
        .option('--cpus <n>', 'processors', integer)
        .option('--no-vtpm', 'without a virtual TPM'),
    request: ([name = ''], options) => vmSpecOf(name, options),
    begin: (client, options, { request, where }) => createByPolicy(client, options, request, where),
    examples: [
      'sigillo vm create db1 --host host-a --policy gold-disks --disk root=20G --disk-policy root=plain',
      'sigillo vm create web1 --host host-a --provider gold --disk root=20G',
      'sigillo vm create web2 --cluster lab --disk root=/images/debian.qcow2 --detach',
    ],
  })
  addVmTask(vm, {
    usage: 'start <vm>',
    kind: 'vm.start',
    request: () => ({}),
    examples: ['sigillo vm start web1', 'sigillo vm start web1 --host host-a --json'],
  })
  addVmTask<'vm.stop', { readonly grace?: number }>(vm, {
    usage: 'stop <vm>',
    kind: 'vm.stop',
    configure: (command) =>
      command.option('--grace <seconds>', 'how long the guest may take (default: 30)', integer),
    request: (_, { grace }) => (grace === undefined ? {} : { graceSeconds: grace }),
    examples: ['sigillo vm stop web1', 'sigillo vm stop web1 --grace 0'],
  })
  addVmTask(vm, {
    usage: 'delete <vm>',
    kind: 'vm.delete',
    request: () => ({}),
    destroys: ([name]) => `this destroys VM ${name}`,
    examples: ['sigillo vm delete web1 --yes', 'sigillo vm delete web1 --host host-a --yes'],
  })
  addVmTask(vm, {
    usage: 'unlock <vm>',
    kind: 'vm.unlock',
    request: () => ({}),
    examples: ['sigillo vm unlock web1', 'sigillo vm unlock web1 --json'],
  })
  addEncryption(vm)
  addDisks(vm)
  addSnapshotTasks(vm)
  addVtpmTasks(vm)
  addMoveTasks(vm)
  addMigrateCommand(vm)
}

function addEncryption(vm: Command): void {
  const withParts = (command: Command): Command =>
    command
      .option('--home', 'its home: memory, processors, devices')
      .option('--disk <name>', 'this disk; may be repeated', collect)
      .option('--compare-all', 'compare all of each copied disk with its original, not samples')
  addVmTask<'vm.encrypt', PartOptions>(vm, {
    usage: 'encrypt <vm>',
    kind: 'vm.encrypt',
    configure: (command) =>
      withParts(command).option('--provider <name>', 'key provider, where the home is plain'),
    request: (_, options) => ({
      ...partsOf(options),
      ...(options.provider === undefined ? {} : { provider: options.provider }),
    }),
    examples: [
      'sigillo vm encrypt web1 --provider gold',
      'sigillo vm encrypt web1 --disk data --compare-all --detach',
    ],
  })
  addVmTask<'vm.decrypt', PartOptions>(vm, {
    usage: 'decrypt <vm>',
    kind: 'vm.decrypt',
    configure: withParts,
    request: (_, options) => partsOf(options),
    destroys: ([name]) => `this writes VM ${name} to its host in the clear`,
    examples: ['sigillo vm decrypt web1 --yes', 'sigillo vm decrypt web1 --disk data --yes'],
  })
  addVmTask<'vm.recrypt', PartOptions>(vm, {
    usage: 'recrypt <vm>',
    kind: 'vm.recrypt',
    configure: (command) =>
      withParts(command)
        .option('--vtpm', 'the state of its virtual TPM')
        .option('--provider <name>', 'another key provider, for all of the VM'),
    request: (_, options) => ({
      ...partsOf(options),
      ...(options.provider === undefined ? {} : { provider: options.provider }),
    }),
    examples: ['sigillo vm recrypt web1', 'sigillo vm recrypt web1 --disk root --vtpm'],
  })
  addVmTask<'vm.rewrap', { readonly provider?: string }>(vm, {
    usage: 'rewrap <vm>',
    kind: 'vm.rewrap',
    configure: (command) => command.option('--provider <name>', 'by another key provider'),
    request: (_, { provider }) => (provider === undefined ? {} : { provider }),
    examples: ['sigillo vm rewrap web1', 'sigillo vm rewrap web1 --provider silver'],
  })
  addVmTask<'keys.rewrap', { readonly provider?: string }>(vm, {
    usage: 'rewrap-keys',
    kind: 'keys.rewrap',
    configure: (command) => command.option('--provider <name>', 'only keys of this provider'),
    request: (_, { provider }) => (provider === undefined ? {} : { provider }),
    examples: [
      'sigillo vm rewrap-keys --host host-a',
      'sigillo vm rewrap-keys --host host-a --provider gold --detach',
    ],
  })
}

interface NewDisk {
  readonly size?: number
  readonly from?: string
  readonly plain?: boolean
}

interface CloneOptions {
  readonly vtpm?: 'new' | 'copy' | 'none'
  readonly compareAll?: boolean
}

function addDisks(vm: Command): void {
  addVmTask<'vm.clone', CloneOptions>(vm, {
    usage: 'clone <vm> <clone>',
    kind: 'vm.clone',
    configure: (command) =>
      command
        .option('--vtpm <kind>', 'new (default where the VM has one), copy (the same twice), none')
        .option('--compare-all', 'compare all of each copied disk with its original, not samples'),
    request: ([name = ''], { vtpm, compareAll }) => ({
      name,
      ...(vtpm === undefined ? {} : { vtpm }),
      compare: compareAll ? 'all' : 'samples',
    }),
    examples: ['sigillo vm clone web1 web2', 'sigillo vm clone web1 web2 --vtpm none'],
  })
  const disk = vm.command('disk').description('disks of a VM')
  addVmTask<'vm.add-disk', NewDisk>(disk, {
    usage: 'add <vm> <disk>',
    kind: 'vm.add-disk',
    configure: (command) =>
      command
        .option('--size <octets>', 'its size, such as 20G; not needed with an image', size)
        .option('--from <file>', 'raw or qcow2 image on the host to fill it from')
        .option('--plain', 'a disk that is not encrypted, in an encrypted VM'),
    request: ([name = ''], { size: sizeOctets, from, plain }) => ({
      name,
      ...(sizeOctets === undefined ? {} : { sizeOctets }),
      ...(from === undefined ? {} : { from }),
      ...(plain ? { plain } : {}),
    }),
    examples: [
      'sigillo vm disk add web1 data --size 100G',
      'sigillo vm disk add web1 tools --from /images/tools.qcow2 --plain',
    ],
  })
  addVmTask<'vm.attach-disk', { readonly from: string; readonly plain?: boolean }>(disk, {
    usage: 'attach <vm> <disk>',
    kind: 'vm.attach-disk',
    configure: (command) =>
      command
        .requiredOption('--from <path>', 'directory of a detached disk, or an image, on the host')
        .option('--plain', 'an image stays a disk that is not encrypted, in an encrypted VM'),
    request: ([name = ''], { from, plain }) => ({ name, from, ...(plain ? { plain } : {}) }),
    examples: [
      'sigillo vm disk attach web2 data --from /srv/detached/web1-data-1b9d6bcd',
      'sigillo vm disk attach web2 tools --from /images/tools.raw --plain',
    ],
  })
  addVmTask(disk, {
    usage: 'detach <vm> <disk>',
    kind: 'vm.detach-disk',
    request: ([name = '']) => ({ disk: name }),
    examples: ['sigillo vm disk detach web1 data', 'sigillo vm disk detach web1 data --json'],
  })
  addVmTask(disk, {
    usage: 'grow <vm> <disk> <size>',
    kind: 'vm.grow-disk',
    request: ([name = '', text = '']) => ({ disk: name, sizeOctets: size(text) }),
    examples: [
      'sigillo vm disk grow web1 data 200G',
      'sigillo vm disk grow web1 data 200G --detach',
    ],
  })
  addVmTask(disk, {
    usage: 'remove <vm> <disk>',
    kind: 'vm.remove-disk',
    request: ([name = '']) => ({ disk: name }),
    destroys: ([name, diskName]) => `this destroys disk ${diskName} of VM ${name}`,
    examples: [
      'sigillo vm disk remove web1 data --yes',
      'sigillo vm disk remove web1 data --yes --json',
    ],
  })
}
