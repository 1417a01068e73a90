#!/usr/bin/env node
import { runProgram } from './run.js'
import { sigilloProgram } from './sigillo.js'

await runProgram(await sigilloProgram(process.argv.slice(2)), process.argv)
