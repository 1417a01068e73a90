#!/usr/bin/env node
import { runProgram } from './run.js'
import { agentProgram } from './sigillo-agent.js'

await runProgram(await agentProgram(process.argv.slice(2)), process.argv)
