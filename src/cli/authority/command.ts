import type { Command } from 'commander'
import type { TObject, TSchema } from 'typebox'
import type { CallInput } from '../../api/client.js'
import type { AnswerOf, Operation } from '../../api/operation.js'
import { PlatformError } from '../../core/errors.js'
import { examples } from '../run.js'
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
  readonly input: (args: readonly string[], options: Options) => CallInput<O>
  /** The answer as lines for a person. */
  readonly text: (answer: AnswerOf<O>) => readonly string[]
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
  command.description(description.operation.summary)
  description.configure?.(command)
  if (description.destroys) command.option('--yes', 'do it without being asked again')
  command.addHelpText('after', examples(...description.examples))
  command.action(async (...parameters: unknown[]) => {
    const args = parameters.slice(0, -2).flat() as string[]
    const options = command.opts<Options & { readonly yes?: boolean }>()
    if (description.destroys && options.yes !== true) {
      throw new PlatformError(
        'REQUEST_INVALID',
        `${description.destroys(args)}; say --yes to do it`,
      )
    }
    const input = description.input(args, options)
    await using connection = connect(command)
    const answer = await connection.client.call(description.operation, input)
    connection.output.data(answer, () => description.text(answer))
  })
}
