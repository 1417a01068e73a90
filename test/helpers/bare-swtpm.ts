import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { accepts } from '../../swtpm/accepts.js'

const READY_TIMEOUT_MS = 10_000
const SHUTDOWN_TIMEOUT_MS = 2_000
const POLL_MS = 5
/** TPM2_Shutdown(CLEAR). @see TPM 2.0 Library, Part 3, clause 9.4 */
const SHUTDOWN = Uint8Array.of(0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, 0)

/** A software TPM as swtpm makes it on first use: no certificates, its default PCR banks. */
export interface BareTpm extends AsyncDisposable {
  readonly tcti: string
  /** Powers it off in order and on again. */
  restart(): Promise<void>
  /** Takes its power away in the middle of whatever it does. */
  kill(): Promise<void>
  /** Keeps it from answering; its sockets stay open. */
  freeze(): void
  thaw(): void
}

/** Starts swtpm in a folder of its own. Disposal shuts the TPM down in order and removes the folder. */
export async function startBareTpm(): Promise<BareTpm> {
  const folder = await mkdtemp(join(tmpdir(), 'sgl-'))
  const socket = join(folder, 'sock')
  let child = await start(folder, socket)
  const killAtExit = (): void => {
    child.kill('SIGKILL')
  }
  process.once('exit', killAtExit)

  const powerOff = async (): Promise<void> => {
    const inOrder = isRunning(child) && (await shutDown(socket))
    await end(child, inOrder ? 'SIGTERM' : 'SIGKILL')
  }
  return {
    tcti: `swtpm:path=${socket}`,
    async restart() {
      await powerOff()
      child = await start(folder, socket)
    },
    kill: () => end(child, 'SIGKILL'),
    freeze: () => {
      child.kill('SIGSTOP')
    },
    thaw: () => {
      child.kill('SIGCONT')
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGCONT')
      await powerOff()
      process.off('exit', killAtExit)
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function start(folder: string, socket: string): Promise<ChildProcess> {
  for (const path of [socket, `${socket}.ctrl`]) await rm(path, { force: true })
  const child = spawn(
    'swtpm',
    [
      ...['socket', '--tpm2', '--tpmstate', `dir=${folder}`],
      ...['--ctrl', `type=unixio,path=${socket}.ctrl`, '--server', `type=unixio,path=${socket}`],
      ...['--flags', 'not-need-init,startup-clear'],
    ],
    { stdio: 'ignore' },
  )
  let failure: Error | undefined
  child.once('error', (error) => {
    failure = error
  })
  const deadline = Date.now() + READY_TIMEOUT_MS
  while (!((await accepts(socket)) && (await accepts(`${socket}.ctrl`)))) {
    if (failure || !isRunning(child) || Date.now() > deadline) {
      throw new Error('swtpm did not start', { cause: failure })
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
  return child
}

async function end(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  if (!isRunning(child)) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill(signal)
  await gone
}

function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null
}

/** Whether the TPM answered to its shutdown: it does not while somebody else is connected. */
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
