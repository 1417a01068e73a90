import type { Command } from 'commander'
import { createOutput, type Output } from './output.js'

/** The output that the options of a command ask for. */
export function outputOf(command: Command): Output {
  return createOutput({ json: command.optsWithGlobals<{ json?: boolean }>().json === true })
}
