import type { Command } from 'commander'
import { addDisk, cloneVm, growDisk, removeDisk } from '../../api/host-agent.js'
import { requireYes } from '../require-yes.js'
import { examples } from '../run.js'
import { size } from '../values.js'
import { connectAgent, followTask, withSocket } from './connection.js'
import { addAttachCommands } from './vm-attach.js'
import { printVm } from './vm-text.js'

interface AddOptions {
  readonly size?: number
  readonly from?: string
  readonly plain?: boolean
}

interface CloneOptions {
  readonly vtpm?: 'new' | 'copy' | 'none'
  readonly compareAll?: boolean
}

/** Disks of VMs that exist, and copies of whole VMs. */
export function addDiskCommands(vm: Command): void {
  const disk = vm.command('disk').description('disks of a VM, which may run')
  addAttachCommands(disk)

  withSocket(disk.command('add <vm> <disk>'))
    .description('add a disk, encrypted as the home of the VM is')
    .option('--size <octets>', 'its size, such as 20G; not needed with an image', size)
    .option('--from <file>', 'raw or qcow2 image to fill it from')
    .option('--plain', 'a disk that is not encrypted, in an encrypted VM')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm disk add web1 data --size 100G',
        'sigillo-agent vm disk add web1 tools --from /images/tools.qcow2 --plain',
      ),
    )
    .action(async (name: string, diskName: string, options: AddOptions, command: Command) => {
      const { size: sizeOctets, from, plain } = options
      await using agent = connectAgent(command)
      const body = {
        name: diskName,
        ...(sizeOctets === undefined ? {} : { sizeOctets }),
        ...(from === undefined ? {} : { from }),
        ...(plain ? { plain } : {}),
      }
      const started = await agent.client.call(addDisk, { params: { vm: name }, body })
      const task = await followTask(agent, started)
      if (task.vm) printVm(agent.output, task.vm)
    })

  withSocket(disk.command('grow <vm> <disk> <size>'))
    .description(
      'make a disk larger; the guest has to extend its file system, and is told if it runs',
    )
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm disk grow web1 data 200G',
        'sigillo-agent vm disk grow web1 data 200G --json',
      ),
    )
    .action(async (name: string, diskName: string, text: string, _: unknown, command: Command) => {
      const body = { sizeOctets: size(text) }
      await using agent = connectAgent(command)
      const params = { vm: name, disk: diskName }
      printVm(agent.output, await agent.client.call(growDisk, { params, body }))
    })

  withSocket(disk.command('remove <vm> <disk>'))
    .description('delete a disk of a VM; its key slots are erased first')
    .option('--yes', 'do it without being asked again')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm disk remove web1 data --yes',
        'sigillo-agent vm disk remove web1 data --yes --json',
      ),
    )
    .action(
      async (name: string, diskName: string, options: { yes?: boolean }, command: Command) => {
        requireYes(options, `this destroys disk ${diskName} of VM ${name}`)
        await using agent = connectAgent(command)
        const params = { vm: name, disk: diskName }
        printVm(agent.output, await agent.client.call(removeDisk, { params }))
      },
    )

  withSocket(vm.command('clone <name> <clone>'))
    .description('make a VM like a stopped one, with an id and keys of its own')
    .option(
      '--vtpm <kind>',
      'new: another virtual TPM (default where the VM has one); copy: the same one twice; none',
    )
    .option('--compare-all', 'compare all of each copied disk with its original, not samples')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm clone web1 web2',
        'sigillo-agent vm clone web1 web2 --vtpm none --compare-all',
      ),
    )
    .action(async (name: string, clone: string, options: CloneOptions, command: Command) => {
      const { vtpm, compareAll } = options
      await using agent = connectAgent(command)
      const body = {
        name: clone,
        ...(vtpm === undefined ? {} : { vtpm }),
        compare: compareAll ? ('all' as const) : ('samples' as const),
      }
      const started = await agent.client.call(cloneVm, { params: { vm: name }, body })
      const task = await followTask(agent, started)
      if (task.vm) printVm(agent.output, task.vm)
    })
}
