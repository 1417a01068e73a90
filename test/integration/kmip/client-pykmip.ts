import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../../helpers/free-port.js'
import type { TestAuthority } from './client-certificates.js'

const PROGRAM = '/usr/bin/pykmip-server'
const READY_MS = 20_000

export function hasPykmip(): boolean {
  return spawnSync('test', ['-x', PROGRAM]).status === 0
}

/** The server of Debian's python3-pykmip with a database of its own: TLS 1.2, KMIP 1.0 to 2.0, in memory of a test. */
export class PykmipServer implements AsyncDisposable {
  readonly port: number
  #process: ChildProcess
  readonly #folder: string

  private constructor(process: ChildProcess, port: number, folder: string) {
    this.#process = process
    this.port = port
    this.#folder = folder
  }

  static async start(
    authority: TestAuthority,
    options: { readonly port?: number } = {},
  ): Promise<PykmipServer> {
    const folder = mkdtempSync(join(tmpdir(), 'sigillo-pykmip-'))
    const port = options.port ?? (await freePort())
    const certificate = authority.server()
    mkdirSync(join(folder, 'policies'))
    writeFileSync(
      join(folder, 'server.conf'),
      [
        '[server]',
        'hostname=127.0.0.1',
        `port=${port}`,
        `certificate_path=${certificate.certificatePath}`,
        `key_path=${certificate.keyPath}`,
        `ca_path=${authority.authority.certificatePath}`,
        'auth_suite=TLS1.2',
        `policy_path=${join(folder, 'policies')}`,
        'enable_tls_client_auth=True',
        'tls_cipher_suites=',
        'logging_level=INFO',
        `database_path=${join(folder, 'server.db')}`,
      ].join('\n'),
    )
    const server = new PykmipServer(spawnServer(folder), port, folder)
    await server.#ready()
    return server
  }

  /** Ends the server; its keys stay in its database. */
  async stop(): Promise<void> {
    const { pid } = this.#process
    const { exitCode, signalCode } = this.#process
    if (pid === undefined || exitCode !== null || signalCode !== null) return
    const ended = new Promise((resolve) => this.#process.once('exit', resolve))
    process.kill(-pid, 'SIGKILL')
    await ended
  }

  /** Starts it again after `stop`, with the keys that it had. */
  async restart(): Promise<void> {
    rmSync(join(this.#folder, 'server.log'), { force: true })
    this.#process = spawnServer(this.#folder)
    await this.#ready()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  async #ready(): Promise<void> {
    const log = join(this.#folder, 'server.log')
    const deadline = Date.now() + READY_MS
    while (!readLog(log).includes('Starting connection service')) {
      if (Date.now() > deadline || this.#process.exitCode !== null) {
        const written = readLog(log)
        await this[Symbol.asyncDispose]()
        throw new Error(`pykmip-server did not start: ${written}`)
      }
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}

/** In a group of its own: it forks, and all of it must end with the test. Its sockets of processes are in the folder. */
function spawnServer(folder: string): ChildProcess {
  const options = ['-f', join(folder, 'server.conf'), '-l', join(folder, 'server.log')]
  const env = { ...process.env, TMPDIR: folder }
  return spawn(PROGRAM, options, { stdio: 'ignore', detached: true, env })
}

function readLog(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
