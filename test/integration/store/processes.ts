import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface, type Interface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { bundled } from '../../helpers/program.js'

const WRITER = fileURLToPath(new URL('./writer.ts', import.meta.url))

export interface Writer {
  readonly lines: Interface
  /** Ends when the process has; its lines, exit code and signal. */
  readonly end: Promise<{
    readonly lines: readonly string[]
    readonly code: number | null
    readonly signal: NodeJS.Signals | null
  }>
  kill(): void
}

/** A process that writes to the store of this file; what it prints is what was committed. */
export function startWriter(file: string, mode: 'append' | 'count', count: number): Writer {
  const child: ChildProcessByStdio<null, Readable, null> = spawn(
    process.execPath,
    [bundled(WRITER), file, mode, String(count)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const lines = createInterface({ input: child.stdout })
  const printed: string[] = []
  lines.on('line', (line) => printed.push(line))
  const end = Promise.all([once(child, 'exit'), once(lines, 'close')]).then(([[code, signal]]) => ({
    lines: printed,
    code,
    signal,
  }))
  return { lines, end, kill: () => child.kill('SIGKILL') }
}
