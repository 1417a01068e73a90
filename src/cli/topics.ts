import type { Command } from 'commander'

/** Commands that are declared together, by modules that are loaded only where one of them may be meant. */
export interface Topic {
  /** Heading of its commands in the help. */
  readonly group?: string
  /** The commands that it adds to the program: first words of command lines. */
  readonly words: readonly string[]
  /** Loads what declares them, and what they need to run. */
  readonly load: () => Promise<(program: Command) => void>
}

/**
 * Declares the commands that a command line can mean: those of the topic of its first word; none where it asks for the
 * version alone; all of them where it has no such word, for the help and for what the program says of mistakes.
 *
 * @param args the command line without Node and the program
 */
export async function addTopics(
  program: Command,
  topics: readonly Topic[],
  args: readonly string[],
): Promise<void> {
  const meant = topicsFor(topics, args)
  const declarations = await Promise.all(meant.map(({ load }) => load()))
  declarations.forEach((declare, at) => {
    program.commandsGroup(meant[at]?.group ?? '')
    declare(program)
  })
}

function topicsFor(topics: readonly Topic[], args: readonly string[]): readonly Topic[] {
  // no option of the program itself has a value
  const word = args.find((arg) => !arg.startsWith('-'))
  if (word === undefined) return asksForVersion(args) ? [] : topics
  const meant = topics.filter(({ words }) => words.includes(word))
  return meant.length === 0 ? topics : meant
}

function asksForVersion(args: readonly string[]): boolean {
  return args.includes('--version') || args.includes('-V')
}
