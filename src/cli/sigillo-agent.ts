import type { Command } from 'commander'
import { addCoreDumpCommands } from './agent/core-dump.js'
import { addDaemonCommands } from './agent/daemon.js'
import { addHostCommands } from './agent/host.js'
import { addLibvirtCommands } from './agent/libvirt.js'
import { addTaskCommands } from './agent/task.js'
import { addVmCommands } from './agent/vm.js'
import { buildVersion } from './build.js'
import { createProgram } from './run.js'

/** All commands of `sigillo-agent`. */
export function agentProgram(): Command {
  const program = createProgram(
    'sigillo-agent',
    'Agent of a KVM host: attests it, and runs its encrypted VMs',
  )
  program.version(buildVersion())
  addDaemonCommands(program)
  addHostCommands(program)
  addVmCommands(program)
  addTaskCommands(program)
  addLibvirtCommands(program)
  addCoreDumpCommands(program)
  return program
}
