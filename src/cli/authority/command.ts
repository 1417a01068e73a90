import type { Command } from 'commander'
import type { TObject, TSchema } from 'typebox'
import type { CallInput } from '../../api/client.js'
import { everyPage } from '../../api/every-page.js'
import type { AnswerOf, Operation } from '../../api/operation.js'
import { asPhrase } from '../output.js'
import { requireYes } from '../require-yes.js'
import { EXIT_REFUSED, examples } from '../run.js'
import { integer } from '../values.js'
import { connect, withConnection } from './connection.js'

type AnyOperation = Operation<TObject, TObject, TSchema, TSchema>

/** A command that calls one operation of the authority and prints the answer. */
export interface OperationCommand<O extends AnyOperation, Options> {
  /** `add <file>` */
  readonly usage: string
  readonly operation: O
  /** Declares what the command takes besides the connection. */
  readonly configure?: (command: Command) => Command
  /** What the arguments and options become on the wire. */
  readonly input: (
    args: readonly string[],
    options: Options,
  ) => CallInput<O> | Promise<CallInput<O>>
  /** The answer as lines for a person. */
  readonly text: (answer: AnswerOf<O>) => readonly string[]
  /** For lists, the member of the answer that has the items: every page is fetched, unless `--limit` says how many. */
  readonly list?: string
  /** Whether the answer is that something was checked and refused: exit status 3. */
  readonly refused?: (answer: AnswerOf<O>) => boolean
  /** Question to be confirmed by `--yes`, for what cannot be undone. */
  readonly destroys?: (args: readonly string[]) => string
  readonly examples: readonly string[]
}

/** Adds an operation command below `parent`. */
export function addOperation<O extends AnyOperation, Options = Record<string, never>>(
  parent: Command,
  description: OperationCommand<O, Options>,
): void {
  const command = withConnection(parent.command(description.usage))
  command.description(asPhrase(description.operation.summary))
  description.configure?.(command)
  if (description.list !== undefined) {
    command.option('--limit <n>', 'how many at most (default: all)', integer)
    command.option('--after <place>', 'only those behind this place of the list')
  }
  if (description.destroys) command.option('--yes', 'do it without being asked again')
  command.addHelpText('after', examples(...description.examples))
  command.action(async (...parameters: unknown[]) => {
    const args = parameters.slice(0, -2).flat() as string[]
    const options = command.opts<Options & CommonOptions>()
    if (description.destroys) requireYes(options, description.destroys(args))
    const input = await description.input(args, options)
    await using connection = connect(command)
    const { operation, list } = description
    const { client, output } = connection
    const answer =
      list === undefined
        ? await client.call(operation, input)
        : await everyPage(client, operation, input, list, options)
    output.data(answer, () => [...description.text(answer), ...moreLines(answer)])
    if (description.refused?.(answer)) process.exitCode = EXIT_REFUSED
  })
}

interface CommonOptions {
  readonly yes?: boolean
  readonly limit?: number
  readonly after?: string
}

/** What a person is told where `--limit` left something out. */
function moreLines(answer: unknown): readonly string[] {
  const isPage = typeof answer === 'object' && answer !== null && 'next' in answer
  return isPage ? [`there are more: --after ${String(answer.next)}`] : []
}
