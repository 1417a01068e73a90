import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PlatformError } from '../src/core/errors.js'
import { isExtending, parseEventLog, startupLocality } from '../src/eventlog/index.js'
import type { BankDigest, HashName } from '../src/tpm/index.js'
import { accepts } from './accepts.js'
import { extendPcr, shutdown } from './commands.js'

const READY_TIMEOUT_MS = 10_000
const POLL_MS = 5
/** The last PCR that a log of firmware and boot loader extends at locality 0. */
const LAST_STATIC_PCR = 15

/** One software TPM of the lab: a process while it runs, a folder while it does not. */
export interface LabTpm extends AsyncDisposable {
  /** For `openTpm` and for the host agent. */
  readonly tcti: string
  /** Socket of the TPM; the control socket is beside it, with `.ctrl` behind its name. */
  readonly socket: string
  readonly pid: number | undefined
  /** Powers the TPM on. */
  start(): Promise<void>
  /** Powers it off in order, as an operating system does: the TPM counts no attack. */
  stop(): Promise<void>
  /** Powers it off as for a suspend: the next start counts as a restart and no reset. */
  suspend(): Promise<void>
  /** Takes its power away. */
  kill(): Promise<void>
  /**
   * Boots: power cycle, then every measurement of a real boot is extended again, in each active bank.
   *
   * @param eventLog as the firmware wrote it
   * @throws PlatformError `LAB_LOCALITY` for a log of a TPM that was started from another locality
   */
  boot(eventLog: Uint8Array): Promise<void>
  /** Extends a PCR as malware would: nothing undoes it but a power cycle. */
  extend(pcr: number, measured: Uint8Array): Promise<void>
}

export function createLabTpm(options: {
  readonly folder: string
  readonly socket: string
  readonly banks: readonly HashName[]
}): LabTpm {
  const { folder, socket, banks } = options
  const tcti = `swtpm:path=${socket}`
  let child: ChildProcess | undefined
  const killAtExit = (): void => {
    child?.kill('SIGKILL')
  }

  const start = async (): Promise<void> => {
    if (child) throw new PlatformError('LAB_PROCESS', 'the TPM runs already')
    child = spawn(
      'swtpm',
      [
        ...['socket', '--tpm2', '--tpmstate', `dir=${join(folder, 'state')},mode=0600`],
        ...['--server', `type=unixio,path=${socket},mode=0600`],
        ...['--ctrl', `type=unixio,path=${socket}.ctrl,mode=0600`],
        ...['--flags', 'not-need-init,startup-clear'],
        ...['--log', `file=${join(folder, 'log')},level=1`],
      ],
      { stdio: 'ignore' },
    )
    process.once('exit', killAtExit)
    const running = child
    let ended = false
    running.once('exit', () => {
      ended = true
      if (child === running) child = undefined
    })
    const deadline = Date.now() + READY_TIMEOUT_MS
    while (!((await accepts(socket)) && (await accepts(`${socket}.ctrl`)))) {
      if (ended || Date.now() > deadline) {
        throw new PlatformError('LAB_PROCESS', `swtpm did not start; see ${join(folder, 'log')}`)
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  }

  const end = async (signal: 'SIGTERM' | 'SIGKILL'): Promise<void> => {
    const running = child
    if (!running) return
    const gone = new Promise((resolve) => running.once('exit', resolve))
    running.kill(signal)
    await gone
    child = undefined
    process.off('exit', killAtExit)
    await rm(socket, { force: true })
    await rm(`${socket}.ctrl`, { force: true })
  }

  const stop = async (): Promise<void> => {
    if (!child) return
    await shutdown(socket, 'clear')
    await end('SIGTERM')
  }

  return {
    tcti,
    socket,
    get pid() {
      return child?.pid
    },
    start,
    stop,
    async suspend() {
      await shutdown(socket, 'state')
      await end('SIGTERM')
    },
    kill: () => end('SIGKILL'),
    async boot(eventLog) {
      const log = parseEventLog(eventLog)
      const locality = startupLocality(log)
      if (locality !== 0) {
        throw new PlatformError(
          'LAB_LOCALITY',
          `expected a log of a TPM started from locality 0, found ${locality}`,
        )
      }
      requireBanks(banks, log.banks)
      await stop()
      await start()
      for (const event of log.events) {
        if (!isExtending(event)) continue
        if (event.pcr > LAST_STATIC_PCR) {
          throw new PlatformError('LAB_LOCALITY', `the lab cannot extend PCR ${event.pcr}`)
        }
        const digests = banks.flatMap((bank): readonly BankDigest[] => {
          const digest = event.digests.get(bank)
          return digest ? [{ bank, digest }] : []
        })
        await extendPcr(socket, event.pcr, digests)
      }
    },
    async extend(pcr, measured) {
      const digests = banks.map((bank) => ({ bank, digest: digestOf(bank, measured) }))
      await extendPcr(socket, pcr, digests)
    },
    async [Symbol.asyncDispose]() {
      await stop().catch(() => end('SIGKILL'))
    },
  }
}

/** A bank that the TPM has active and the log says nothing of stays zero, and anybody could fill it. */
function requireBanks(active: readonly HashName[], logged: readonly HashName[]): void {
  const missing = active.filter((bank) => !logged.includes(bank))
  if (missing.length > 0) {
    throw new PlatformError(
      'LAB_BANKS',
      `expected a log with digests of ${active.join(', ')}, found none of ${missing.join(', ')}`,
    )
  }
}

function digestOf(bank: HashName, measured: Uint8Array): Uint8Array {
  return new Uint8Array(createHash(bank).update(measured).digest())
}
