import type { Command } from 'commander'
import { addVtpm } from '../../api/vtpm.js'
import { examples } from '../run.js'
import { connectAgent, followTask, withSocket } from './connection.js'
import { printVm } from './vm-text.js'

/** Virtual TPMs of VMs that exist and are stopped. */
export function addVtpmCommands(vm: Command): void {
  const vtpm = vm.command('vtpm').description('the virtual TPM of a stopped VM')

  withSocket(vtpm.command('add <vm>'))
    .description('add a virtual TPM to a VM whose home is encrypted')
    .addHelpText(
      'after',
      examples('sigillo-agent vm vtpm add web1', 'sigillo-agent vm vtpm add web1 --json'),
    )
    .action(async (name: string, _: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const started = await agent.client.call(addVtpm, { params: { vm: name }, body: {} })
      const task = await followTask(agent, started)
      if (task.vm) printVm(agent.output, task.vm)
    })
}
