import { execFile } from 'node:child_process'

export interface Outcome {
  readonly status: number
  readonly out: string
  readonly err: string
}

export type Program = 'main' | 'agent-main'

/** Runs a program as its users do: the built file, a process of its own. */
export function run(program: Program, ...args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const options = {
      env: { PATH: process.env['PATH'], NO_COLOR: '1' },
      timeout: 60_000,
      maxBuffer: 64 * 1024 * 1024,
    }
    const file = `dist/src/cli/${program}.js`
    execFile(process.execPath, [file, ...args], options, (error, out, err) => {
      resolve({ status: error ? Number(error.code ?? -1) : 0, out, err })
    })
  })
}

export const sigillo = (...args: readonly string[]) => run('main', ...args)
