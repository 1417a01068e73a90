import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const READY_TIMEOUT_MS = 10_000
const SHUTDOWN_TIMEOUT_MS = 2_000
const POLL_MS = 5
/** TPM2_Shutdown(CLEAR). @see TPM 2.0 Library, Part 3, clause 9.4 */
const SHUTDOWN = Uint8Array.of(0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, 0)

/** A software TPM as it leaves the factory: no certificates, all PCR banks of swtpm's default. */
export interface BareTpm extends AsyncDisposable {
  readonly tcti: string
  /** Takes its power away in the middle of whatever it does. */
  kill(): Promise<void>
  /** Stops it from answering; sockets stay open. */
  freeze(): void
  thaw(): void
}

/** Starts swtpm in a folder of its own. Disposal shuts the TPM down in order and removes the folder. */
export async function startBareTpm(): Promise<BareTpm> {
  const folder = await mkdtemp(join(tmpdir(), 'sgl-'))
  const socket = join(folder, 'sock')
  const child = spawn(
    'swtpm',
    [
      ...['socket', '--tpm2', '--tpmstate', `dir=${folder}`],
      ...['--ctrl', `type=unixio,path=${socket}.ctrl`, '--server', `type=unixio,path=${socket}`],
      ...['--flags', 'not-need-init,startup-clear'],
    ],
    { stdio: 'ignore' },
  )
  const killAtExit = (): void => {
    child.kill('SIGKILL')
  }
  process.once('exit', killAtExit)
  const gone = new Promise<void>((resolve, reject) => {
    child.once('exit', () => resolve()).once('error', reject)
  })
  await ready(child, socket)

  const end = async (signal: 'SIGTERM' | 'SIGKILL'): Promise<void> => {
    if (isRunning(child)) child.kill(signal)
    await gone
    process.off('exit', killAtExit)
  }
  return {
    tcti: `swtpm:path=${socket}`,
    kill: () => end('SIGKILL'),
    freeze: () => {
      child.kill('SIGSTOP')
    },
    thaw: () => {
      child.kill('SIGCONT')
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGCONT')
      const inOrder = isRunning(child) && (await shutDown(socket))
      await end(inOrder ? 'SIGTERM' : 'SIGKILL')
      await rm(folder, { recursive: true, force: true })
    },
  }
}

function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null
}

async function ready(child: ChildProcess, socket: string): Promise<void> {
  const deadline = Date.now() + READY_TIMEOUT_MS
  while (!(existsSync(socket) && existsSync(`${socket}.ctrl`))) {
    if (!isRunning(child) || Date.now() > deadline) throw new Error('swtpm did not start')
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

/** Whether the TPM answered to its shutdown: not while somebody else is connected. */
function shutDown(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath)
    const answer = (answered: boolean): void => {
      socket.destroy()
      resolve(answered)
    }
    socket.setTimeout(SHUTDOWN_TIMEOUT_MS, () => answer(false))
    socket.once('error', () => answer(false))
    socket.once('close', () => answer(false))
    socket.once('data', () => answer(true))
    socket.once('connect', () => socket.write(SHUTDOWN))
  })
}
