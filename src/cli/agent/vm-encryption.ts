import type { Command } from 'commander'
import { decryptVm, encryptVm, recryptVm } from '../../api/host-agent.js'
import { requireYes } from '../require-yes.js'
import { examples } from '../run.js'
import { collect } from '../values.js'
import { type PartOptions, partsOf } from '../vm-requests.js'
import { connectAgent, followTask, withSocket } from './connection.js'
import { printVm } from './vm-text.js'

/** Encryption of VMs that exist and are stopped. */
export function addEncryptionCommands(vm: Command): void {
  withParts(vm.command('encrypt <name>'))
    .description('encrypt a stopped VM: its home first, then its disks; or parts of it')
    .option(
      '--provider <name>',
      'key provider, for a VM whose home is plain (default: that of the cluster or the site)',
    )
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm encrypt web1 --provider gold',
        'sigillo-agent vm encrypt web1 --disk data --compare-all',
      ),
    )
    .action(async (name: string, options: PartOptions, command: Command) => {
      const { provider } = options
      const body = { ...partsOf(options), ...(provider === undefined ? {} : { provider }) }
      await using agent = connectAgent(command)
      const started = await agent.client.call(encryptVm, { params: { vm: name }, body })
      const task = await followTask(agent, started)
      if (task.vm) printVm(agent.output, task.vm)
    })

  withParts(vm.command('decrypt <name>'))
    .description('decrypt a stopped VM: its disks first, then its home; or parts of it')
    .option('--yes', 'do it without being asked again')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm decrypt web1 --yes',
        'sigillo-agent vm decrypt web1 --disk data --yes',
      ),
    )
    .action(async (name: string, options: PartOptions & { yes?: boolean }, command: Command) => {
      requireYes(options, `this writes VM ${name} to the host in the clear`)
      await using agent = connectAgent(command)
      const body = partsOf(options)
      const started = await agent.client.call(decryptVm, { params: { vm: name }, body })
      const task = await followTask(agent, started)
      if (task.vm) printVm(agent.output, task.vm)
    })

  withParts(vm.command('recrypt <name>'))
    .description('encrypt a stopped VM, or parts of it, under new data keys (a deep recrypt)')
    .option('--vtpm', 'the state of its virtual TPM')
    .option('--provider <name>', 'under another key provider, all of it')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm recrypt web1 --provider silver',
        'sigillo-agent vm recrypt web1 --disk root --vtpm --json',
      ),
    )
    .action(async (name: string, options: PartOptions, command: Command) => {
      await using agent = connectAgent(command)
      const { provider } = options
      const body = { ...partsOf(options), ...(provider === undefined ? {} : { provider }) }
      const started = await agent.client.call(recryptVm, { params: { vm: name }, body })
      const task = await followTask(agent, started)
      if (task.vm) printVm(agent.output, task.vm)
    })
}

function withParts(command: Command): Command {
  return withSocket(command)
    .option('--home', 'its home: memory, processors, devices')
    .option('--disk <name>', 'this disk; may be repeated', collect)
    .option('--compare-all', 'compare all of each copied disk with its original, not samples')
}
