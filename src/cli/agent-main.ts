#!/usr/bin/env node
import { addDaemonCommands } from './agent/daemon.js'
import { addHostCommands } from './agent/host.js'
import { addVmCommands } from './agent/vm.js'
import { buildVersion } from './build.js'
import { createProgram, runProgram } from './run.js'

const program = createProgram(
  'sigillo-agent',
  'Agent of a KVM host: attests it, and runs its encrypted VMs',
)
program.version(buildVersion())
addDaemonCommands(program)
addHostCommands(program)
addVmCommands(program)
await runProgram(program, process.argv)
