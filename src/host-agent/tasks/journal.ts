import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { Exactly, Uuid } from '../../api/common.js'
import { SentTask, TaskReport } from '../../api/tasks.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { isUuid } from '../../core/names.js'
import { removeFile, replaceFile } from '../adapters/replace-file.js'
import { VmFacts } from '../vm/index.js'

/** Ends that are remembered at least, however old. */
const REMEMBERED = 1000
/** Longer than any task of the control plane waits and is remembered there, unless it is told otherwise. */
const REMEMBERED_MS = 60 * 86_400_000

/** One task of the control plane, as this host has it on its disk. */
export const JournalEntry = Exactly({
  format: Type.Literal(1),
  /** In which order tasks came. */
  order: Type.Integer(),
  task: SentTask,
  state: Type.Union([Type.Literal('waiting'), Type.Literal('begun'), Type.Literal('ended')]),
  /** The VM that decides whether the task was done, before it was begun; null where there was none. */
  before: Type.Optional(Type.Union([VmFacts, Type.Null()])),
  /** How it ended, as it is reported. */
  end: Type.Optional(TaskReport),
  endedAtMs: Type.Optional(Type.Integer()),
  /** Whether the control plane recorded the end. */
  settled: Type.Optional(Type.Boolean()),
})
export type JournalEntry = Static<typeof JournalEntry>

/**
 * Tasks of this host on its disk, one file for each: what was taken is written before it is begun, and what was begun
 * before anything is changed. Ends are remembered, so that a task that comes once more is not done once more.
 */
export class TaskJournal {
  readonly #directory: string

  constructor(stateDirectory: string) {
    this.#directory = join(stateDirectory, 'tasks')
  }

  /** All entries, in the order in which they came. @throws PlatformError `TASK_JOURNAL` where one cannot be read */
  load(): JournalEntry[] {
    try {
      mkdirSync(this.#directory, { recursive: true, mode: 0o700 })
      return readdirSync(this.#directory)
        .filter((file) => file.endsWith('.json') && isUuid(file.slice(0, -'.json'.length)))
        .map((file) => this.#read(file))
        .sort((a, b) => a.order - b.order)
    } catch (cause) {
      throw failed(`cannot read the tasks in ${this.#directory}: ${messageOf(cause)}`, cause)
    }
  }

  /** On the disk when it returns; after a crash the entry before or this one is there. @throws PlatformError `TASK_JOURNAL` */
  write(entry: JournalEntry): void {
    try {
      replaceFile(this.#directory, fileOf(entry), JSON.stringify(entry))
    } catch (cause) {
      throw failed(`cannot write a task to ${this.#directory}: ${messageOf(cause)}`, cause)
    }
  }

  /** Forgets the oldest of those that are settled, where there are many. Returns which. */
  prune(entries: readonly JournalEntry[], nowMs: number): readonly JournalEntry[] {
    const settled = entries
      .filter((entry) => entry.settled === true)
      .sort((a, b) => (b.endedAtMs ?? 0) - (a.endedAtMs ?? 0))
    const old = settled
      .slice(REMEMBERED)
      .filter(({ endedAtMs = 0 }) => endedAtMs < nowMs - REMEMBERED_MS)
    for (const entry of old) removeFile(this.#directory, fileOf(entry))
    return old
  }

  #read(file: string): JournalEntry {
    const entry = Value.Parse(
      JournalEntry,
      JSON.parse(readFileSync(join(this.#directory, file), 'utf8')),
    )
    if (fileOf(entry) !== file) throw new Error(`${file} is of task ${entry.task.taskId}`)
    return entry
  }
}

function fileOf({ task: { taskId } }: JournalEntry): string {
  if (!Value.Check(Uuid, taskId)) throw new TypeError('expected the id of a task')
  return `${taskId}.json`
}

function failed(message: string, cause: unknown): PlatformError {
  return new PlatformError('TASK_JOURNAL', message, { cause })
}
