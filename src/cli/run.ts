import { Command, CommanderError, InvalidArgumentError } from 'commander'
import type { ErrorCode } from '../core/error-codes.js'
import { messageOf, PlatformError } from '../core/errors.js'
import { printable } from './printable.js'

/** 0 done, 1 failed, 2 wrong usage, 3 verified and refused. */
const EXIT_FAILED = 1
const EXIT_USAGE = 2
export const EXIT_REFUSED = 3

/** What a person can do about an error, where there is something. */
const HINTS: Partial<Record<ErrorCode, string>> = {
  AUTHORITY_UNREACHABLE: 'is the service running, and does the URL name it?',
  AGENT_UNREACHABLE:
    'is the agent running (systemctl status sigillo-agent), and is this its socket? say another with --socket',
  UNAUTHENTICATED: 'log in (sigillo login NAME), or check the file with the token (--token-file)',
  FORBIDDEN: 'see what you may do: sigillo whoami',
  FILE_MODE: 'chmod 600 the file',
  SEALED: 'see why: sigillo operator status',
  SEAL_TPM_PCRS: 'unseal by another seal, then bind it anew: sigillo operator add-seal tpm',
  KEY_TPM_PCRS:
    'boot the authority as before; where a running one has the key in memory: sigillo provider rebind-tpm NAME',
  VM_RUNNING: 'stop it first: sigillo-agent vm stop NAME',
  VM_SNAPSHOTS: 'see them: sigillo-agent vm snapshot list NAME',
  VM_BUSY: 'see what it is: sigillo-agent task list',
  VM_HOME_PLAIN: 'encrypt the home too: sigillo-agent vm encrypt NAME --provider PROVIDER',
  HOST_KEY_NOT_BACKED_UP: 'back it up: sigillo native backup NAME --out FILE',
  HOST_KEY_IN_USE: 'move or delete these VMs first, set another default, or delete with --force',
  DEFAULT_PROVIDER: 'see whom it serves: sigillo native show NAME, or sigillo standard show NAME',
  AGENT_NO_PROVIDER:
    'say --provider NAME, or have a default set: sigillo default-provider set NAME [--cluster C]',
  BASE_IMAGE_NONE: 'capture one from a good host: sigillo image capture NAME --host HOST',
  EVIDENCE_NOT_VERIFIED: 'let the host attest first: sigillo-agent attest',
}

/** Errors that say that something was looked at and refused, not that the command failed. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set(['ATTESTATION_REFUSED', 'TPM_POLICY_FAIL'])

export function createProgram(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .option('--json', 'print data as JSON')
    .showHelpAfterError('(--help shows what there is)')
    .configureOutput({
      outputError: (text, write) => write(text.replace(/^error: /, `${name}: error: `)),
    })
    .exitOverride()
}

/** Parses the command line, runs the command, and ends the process with the status that the outcome has. */
export async function runProgram(program: Command, argv: readonly string[]): Promise<void> {
  for (const command of allCommands(program)) command.exitOverride()
  try {
    await program.parseAsync([...argv])
  } catch (error) {
    process.exitCode = report(program.name(), error)
  }
}

function report(name: string, error: unknown): number {
  // thrown by a command, not while its options were parsed: nothing was printed yet
  if (error instanceof InvalidArgumentError) {
    process.stderr.write(`${name}: error: ${shownError(error.message)}\n`)
    return EXIT_USAGE
  }
  if (error instanceof CommanderError) {
    return error.exitCode === 0 || error.code === 'commander.help' ? 0 : EXIT_USAGE
  }
  if (error instanceof PlatformError) {
    process.stderr.write(
      `${name}: error: ${shownError(error.message)} (${printable(error.code)})\n`,
    )
    const hint = (HINTS as Partial<Record<string, string>>)[error.code]
    if (hint) process.stderr.write(`${name}: hint: ${hint}\n`)
    return REFUSALS.has(error.code) ? EXIT_REFUSED : EXIT_FAILED
  }
  process.stderr.write(`${name}: error: ${shownError(messageOf(error))}\n`)
  return EXIT_FAILED
}

/** Lines of an error after its first are set in: none looks like one of ours. */
function shownError(message: string): string {
  return printable(message.trimEnd(), '\n').replaceAll('\n', '\n  ')
}

function allCommands(command: Command): readonly Command[] {
  return [command, ...command.commands.flatMap(allCommands)]
}

/** Text that shows how a command is used, for the end of its help. */
export function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}\n`
}
