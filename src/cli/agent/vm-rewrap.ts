import type { Command } from 'commander'
import { rewrapVm } from '../../api/vm-rewrap.js'
import { examples } from '../run.js'
import { connectAgent, followTask, withSocket } from './connection.js'
import { printVm } from './vm-text.js'

/** Keys of one VM wrapped anew: a shallow recrypt. */
export function addRewrapCommand(vm: Command): void {
  withSocket(vm.command('rewrap <name>'))
    .description('have its keys wrapped anew: its data keys stay (a shallow recrypt); it may run')
    .option('--provider <name>', 'by another key provider')
    .addHelpText(
      'after',
      examples('sigillo-agent vm rewrap web1', 'sigillo-agent vm rewrap web1 --provider silver'),
    )
    .action(async (name: string, { provider }: { provider?: string }, command: Command) => {
      await using agent = connectAgent(command)
      const body = provider === undefined ? {} : { provider }
      const started = await agent.client.call(rewrapVm, { params: { vm: name }, body })
      const task = await followTask(agent, started)
      if (task.vm) printVm(agent.output, task.vm)
    })
}
