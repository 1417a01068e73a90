import type { Command } from 'commander'
import { attachDisk, detachDisk, listDetachedDisks } from '../../api/disk-attachment.js'
import { table } from '../output.js'
import { examples } from '../run.js'
import { connectAgent, followTask, withSocket } from './connection.js'
import { printVm } from './vm-text.js'

/** Disks that leave a VM and come into another. */
export function addAttachCommands(disk: Command): void {
  withSocket(disk.command('attach <vm> <disk>'))
    .description('attach a disk that was detached, or an image; the VM may run')
    .requiredOption('--from <path>', 'directory of a detached disk, or a raw or qcow2 image')
    .option('--plain', 'an image becomes a disk that is not encrypted, in an encrypted VM')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm disk attach web2 data --from /var/lib/sigillo-agent/vms/detached/web1-data-1b9d6bcd',
        'sigillo-agent vm disk attach web2 tools --from /images/tools.raw --plain',
      ),
    )
    .action(
      async (
        vm: string,
        name: string,
        options: { from: string; plain?: boolean },
        command: Command,
      ) => {
        await using agent = connectAgent(command)
        const { from, plain } = options
        const body = { name, from, ...(plain ? { plain } : {}) }
        const started = await agent.client.call(attachDisk, { params: { vm }, body })
        const task = await followTask(agent, started)
        if (task.vm) printVm(agent.output, task.vm)
      },
    )

  withSocket(disk.command('detach <vm> <disk>'))
    .description('take a disk out of a VM with its wrapped key, and keep it; the VM may run')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm disk detach web1 data',
        'sigillo-agent vm disk detach web1 data --json',
      ),
    )
    .action(async (vm: string, name: string, _: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const answer = await agent.client.call(detachDisk, { params: { vm, disk: name } })
      agent.output.data(answer, () => [`disk ${name} of VM ${vm} is in ${answer.detached.path}`])
    })

  withSocket(disk.command('detached'))
    .description('disks that were detached on this host and are there still')
    .addHelpText(
      'after',
      examples('sigillo-agent vm disk detached', 'sigillo-agent vm disk detached --json'),
    )
    .action(async (_: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const { disks } = await agent.client.call(listDetachedDisks, {})
      agent.output.data({ disks }, () =>
        table([
          ['DISK', 'OF VM', 'OCTETS', 'PROVIDER', 'DETACHED', 'PATH'],
          ...disks.map((d) => [
            ...[d.name, d.vm.name, String(d.sizeOctets), d.provider ?? 'none'],
            ...[d.detachedAt, d.path],
          ]),
        ]),
      )
    })
}
