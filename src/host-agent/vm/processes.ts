import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { isErrno } from './errno.js'
import { readPrivateFile } from './files.js'
import type { ProcessIdentity } from './records.js'

const POLL_MS = 20
const WATCH_MS = 1000
const MAX_PID_FILE_OCTETS = 32
const BOOT_ID = '/proc/sys/kernel/random/boot_id'

/**
 * Who a process is, so that a later one of the same number is not taken for it; undefined when it has ended.
 *
 * @see proc(5), `/proc/[pid]/stat`, field 22
 */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  const stat = await readProc(`/proc/${pid}/stat`)
  if (stat === undefined) return undefined
  // the name of the program may have spaces and brackets in it: count from the last one
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const [state, startTicks] = [fields[0], fields[19]]
  if (state === 'Z' || state === 'X' || startTicks === undefined) return undefined
  return { pid, startTicks, bootId: (await readFile(BOOT_ID, 'utf8')).trim() }
}

export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  const now = await identify(identity.pid)
  return now?.startTicks === identity.startTicks && now.bootId === identity.bootId
}

/**
 * Whether the process is alive and has `argument` in its command line: a record of it, which others can have written, is no
 * reason to end what was started for something else.
 */
export async function isAliveWith(identity: ProcessIdentity, argument: string): Promise<boolean> {
  const commandLine = await readProc(`/proc/${identity.pid}/cmdline`)
  return commandLine?.includes(argument) === true && (await isAlive(identity))
}

/**
 * The process that wrote this pid file, if it still runs and has `argument` in its command line.
 *
 * For processes whose identity was not recorded, since the agent ended while it started them.
 */
export async function identifyByPidFile(
  file: string,
  argument: string,
): Promise<ProcessIdentity | undefined> {
  const octets = await readPrivateFile(file, MAX_PID_FILE_OCTETS).catch(() => undefined)
  const text = Buffer.from(octets ?? [])
    .toString('latin1')
    .trim()
  if (!/^[0-9]{1,10}$/.test(text)) return undefined
  const identity = await identify(Number(text))
  return identity && (await isAliveWith(identity, argument)) ? identity : undefined
}

/** Whether the process ended within the time. @throws the reason of the signal */
export async function waitForEnd(
  identity: ProcessIdentity,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  for (const end = performance.now() + timeoutMs; performance.now() < end; await delay(POLL_MS)) {
    if (!(await isAlive(identity))) return true
    signal?.throwIfAborted()
  }
  return !(await isAlive(identity))
}

/** Asks the process to end, then makes it; false if even that did not help within the time. */
export async function endProcess(identity: ProcessIdentity, graceMs: number): Promise<boolean> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (!(await isAlive(identity))) return true
    try {
      process.kill(identity.pid, signal)
    } catch (error) {
      if (!isErrno(error, 'ESRCH')) throw error
    }
    if (await waitForEnd(identity, graceMs)) return true
  }
  return false
}

/** Calls `onEnd` once when the process has ended, looking once a second, until disposed of. */
export function watchProcess(identity: ProcessIdentity, onEnd: () => void): Disposable {
  let timer: NodeJS.Timeout | undefined
  const look = () => {
    timer = setTimeout(async () => {
      const alive = await isAlive(identity).catch(() => true)
      if (timer === undefined) return
      if (alive) look()
      else onEnd()
    }, WATCH_MS)
    timer.unref()
  }
  look()
  return {
    [Symbol.dispose]: () => {
      clearTimeout(timer)
      timer = undefined
    },
  }
}

async function readProc(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH', 'ENOTDIR')) return undefined
    throw error
  }
}
