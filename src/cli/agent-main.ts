#!/usr/bin/env node
import { runProgram } from './run.js'
import { agentProgram } from './sigillo-agent.js'

await runProgram(agentProgram(), process.argv)
