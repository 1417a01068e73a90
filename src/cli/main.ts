#!/usr/bin/env node
import { runProgram } from './run.js'
import { sigilloProgram } from './sigillo.js'

await runProgram(sigilloProgram(), process.argv)
