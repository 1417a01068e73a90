import type { Command } from 'commander'
import { acceptVtpmState, addVtpm, removeVtpm, restoreVtpmState } from '../../api/vtpm.js'
import { requireYes } from '../require-yes.js'
import { examples } from '../run.js'
import { connectAgent, followTask, withSocket } from './connection.js'
import { printVm } from './vm-text.js'
import { addVtpmCertificateCommands } from './vm-vtpm-certificates.js'

/** Virtual TPMs of VMs that exist and are stopped. */
export function addVtpmCommands(vm: Command): void {
  const vtpm = vm.command('vtpm').description('the virtual TPM of a stopped VM')
  addVtpmCertificateCommands(vtpm)

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

  withSocket(vtpm.command('remove <vm>'))
    .description('take the virtual TPM out of a VM; what is sealed to it is lost')
    .option('--yes', 'do it without being asked again')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm vtpm remove web1 --yes',
        'sigillo-agent vm vtpm remove web1 --yes && sigillo-agent vm decrypt web1 --yes',
      ),
    )
    .action(async (name: string, options: { yes?: boolean }, command: Command) => {
      requireYes(options, `what VM ${name} has sealed to its virtual TPM will be lost`)
      await using agent = connectAgent(command)
      printVm(agent.output, await agent.client.call(removeVtpm, { params: { vm: name } }))
    })

  withSocket(vtpm.command('accept-state <vm>'))
    .description('start from a state that is refused as an older one, such as that of a backup')
    .option('--yes', 'do it without being asked again')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm vtpm accept-state web1 --yes',
        'sigillo-agent vm vtpm accept-state web1 --yes --json',
      ),
    )
    .action(async (name: string, options: { yes?: boolean }, command: Command) => {
      const loss = `what the virtual TPM of VM ${name} did since that state is undone, counters too`
      requireYes(options, loss)
      await using agent = connectAgent(command)
      const params = { vm: name }
      printVm(agent.output, await agent.client.call(acceptVtpmState, { params, body: {} }))
    })

  withSocket(vtpm.command('restore-state <vm>'))
    .description('put the copy of the last recorded state in the place of a damaged one')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm vtpm restore-state web1',
        'sigillo-agent vm vtpm restore-state web1 --json',
      ),
    )
    .action(async (name: string, _: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const params = { vm: name }
      printVm(agent.output, await agent.client.call(restoreVtpmState, { params, body: {} }))
    })
}
