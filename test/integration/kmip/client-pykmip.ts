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
  readonly #process: ChildProcess
  readonly #folder: string

  private constructor(process: ChildProcess, port: number, folder: string) {
    this.#process = process
    this.port = port
    this.#folder = folder
  }

  static async start(authority: TestAuthority): Promise<PykmipServer> {
    const folder = mkdtempSync(join(tmpdir(), 'sigillo-pykmip-'))
    const port = await freePort()
    const certificate = authority.server()
    mkdirSync(join(folder, 'policies'))
    const log = join(folder, 'server.log')
    const config = join(folder, 'server.conf')
    writeFileSync(
      config,
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
    // A group of its own: it forks, and all of it must end with the test.
    const child = spawn(PROGRAM, ['-f', config, '-l', log], { stdio: 'ignore', detached: true })
    const server = new PykmipServer(child, port, folder)
    const deadline = Date.now() + READY_MS
    while (!readLog(log).includes('Starting connection service')) {
      if (Date.now() > deadline || child.exitCode !== null) {
        const written = readLog(log)
        await server[Symbol.asyncDispose]()
        throw new Error(`pykmip-server did not start: ${written}`)
      }
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    return server
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { pid } = this.#process
    if (pid !== undefined && this.#process.exitCode === null) {
      const ended = new Promise((resolve) => this.#process.once('exit', resolve))
      process.kill(-pid, 'SIGKILL')
      await ended
    }
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

function readLog(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
