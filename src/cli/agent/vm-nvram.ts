import type { Command } from 'commander'
import { resetNvram } from '../../api/vm-nvram.js'
import { requireYes } from '../require-yes.js'
import { examples } from '../run.js'
import { connectAgent, withSocket } from './connection.js'
import { printVm } from './vm-text.js'

/** Variables of the firmware of VMs. */
export function addNvramCommand(vm: Command): void {
  withSocket(vm.command('reset-nvram <name>'))
    .description(
      'give a stopped VM the firmware variables of a new machine, such as for damaged ones',
    )
    .option('--yes', 'do it without being asked again')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm reset-nvram web1 --yes',
        'sigillo-agent vm reset-nvram web1 --yes && sigillo-agent vm start web1',
      ),
    )
    .action(async (name: string, options: { yes?: boolean }, command: Command) => {
      requireYes(options, `boot entries, Secure Boot keys and passwords of VM ${name} will be lost`)
      await using agent = connectAgent(command)
      const params = { vm: name }
      printVm(agent.output, await agent.client.call(resetNvram, { params, body: {} }))
    })
}
