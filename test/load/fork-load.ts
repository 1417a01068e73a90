import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** What a process that makes load tells at its end. */
export interface LoadReport {
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly failed: number
}

/**
 * Forks the process of a file that makes load and gives it its order; its report, with the time of the processors that
 * this process needed from the message `begun` on.
 */
export function forkLoad(
  file: string,
  order: object,
): Promise<LoadReport & { readonly cpuMs: number }> {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), { serialization: 'advanced' })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => {
      if (code !== 0) reject(new Error(`the load ended with ${code}`))
    })
    let before = process.cpuUsage()
    child.on('message', (message: LoadReport | 'begun') => {
      const { user, system } = process.cpuUsage(before)
      if (message === 'begun') before = process.cpuUsage()
      else resolve({ ...message, cpuMs: (user + system) / 1000 })
    })
    child.send(order)
  })
}

/** Rates and times of calls that were made within `seconds`. */
export function reportOf(timesMs: number[], seconds: number, failed: number): LoadReport {
  timesMs.sort((a, b) => a - b)
  const at = (part: number) =>
    Math.round((timesMs[Math.floor(timesMs.length * part)] ?? 0) * 10) / 10
  return {
    perSecond: Math.round(timesMs.length / seconds),
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    failed,
  }
}
