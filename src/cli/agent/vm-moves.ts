import { resolve } from 'node:path'
import type { Command } from 'commander'
import { exportVm, importVm, receiveVm, sendVm, takeBackVm } from '../../api/agent-vm-moves.js'
import { examples } from '../run.js'
import { connectAgent, followTask, withSocket } from './connection.js'
import { printVm } from './vm-text.js'

/** VMs that leave this host and come to it, encrypted as they are. */
export function addMoveCommands(vm: Command): void {
  withSocket(vm.command('export <name> <directory>'))
    .description('write a stopped VM to a new directory, encrypted as it is')
    .option('--move', 'hand it over: the host that imports it has it, and it is locked here')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm export web1 /mnt/shared/web1 --move',
        'sigillo-agent vm export web1 /backup/web1-monday',
      ),
    )
    .action(
      async (name: string, directory: string, options: { move?: boolean }, command: Command) => {
        await using agent = connectAgent(command)
        const body = { directory: resolve(directory), move: options.move === true }
        const started = await agent.client.call(exportVm, { params: { vm: name }, body })
        const task = await followTask(agent, started)
        if (task.vm) printVm(agent.output, task.vm)
      },
    )

  withSocket(vm.command('import <directory>'))
    .description('make an exported VM one of this host: same id, same keys')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm import /mnt/shared/web1',
        'sigillo-agent vm import /mnt/shared/web1 --json',
      ),
    )
    .action(async (directory: string, _options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const body = { directory: resolve(directory) }
      const task = await followTask(agent, await agent.client.call(importVm, { body }))
      if (task.vm) printVm(agent.output, task.vm)
    })

  withSocket(vm.command('receive'))
    .description('listen for one VM that runs on another host of the cluster, and take it')
    .requiredOption('--listen <address>', 'host:port, [address]:port, or unix:/path')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm receive --listen 10.0.0.2:7000',
        'sigillo-agent vm receive --listen unix:/run/move.sock --json',
      ),
    )
    .action(async (options: { listen: string }, command: Command) => {
      await using agent = connectAgent(command)
      const body = { listen: options.listen }
      const task = await followTask(agent, await agent.client.call(receiveVm, { body }))
      if (task.vm) printVm(agent.output, task.vm)
    })

  withSocket(vm.command('send <name>'))
    .description('move a VM that runs to a host that listens for it; its guest goes on')
    .requiredOption('--to <address>', 'where the other host listens')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm send web1 --to 10.0.0.2:7000',
        'sigillo-agent vm send web1 --to 10.0.0.2:7000 --json',
      ),
    )
    .action(async (name: string, options: { to: string }, command: Command) => {
      await using agent = connectAgent(command)
      const body = { to: options.to }
      const started = await agent.client.call(sendVm, { params: { vm: name }, body })
      const task = await followTask(agent, started)
      if (task.vm) printVm(agent.output, task.vm)
    })

  withSocket(vm.command('take-back <name>'))
    .description('unlock a VM that was handed over and that no host took')
    .addHelpText(
      'after',
      examples('sigillo-agent vm take-back web1', 'sigillo-agent vm take-back web1 --json'),
    )
    .action(async (name: string, _options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const started = await agent.client.call(takeBackVm, { params: { vm: name }, body: {} })
      const task = await followTask(agent, started)
      if (task.vm) printVm(agent.output, task.vm)
    })
}
