import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const BOOT_SECONDS = 30

/** A machine of its own: systemd in namespaces, over a copy of this root that is thrown away. */
export interface Machine extends AsyncDisposable {
  /** Seen on both sides at this path. */
  readonly shared: string
  /** Runs a program as root of the machine; its output, or an error with what it printed. */
  run(...command: readonly string[]): Promise<string>
}

/** @throws Error where namespaces cannot be made, or systemd does not come up */
export async function bootMachine(): Promise<Machine> {
  const root = mkdtempSync(join(tmpdir(), 'sgl-root-'))
  // not in a folder that units have of their own (PrivateTmp)
  const shared = mkdtempSync('/run/sgl-machine-')
  const script = join(import.meta.dirname, 'boot-machine.sh')
  const namespaces = ['--pid', '--mount', '--cgroup', '--uts', '--ipc', '--net']
  // ends with this process, however that ends
  const child = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', 'unshare', '--fork', '--kill-child', ...namespaces],
      ...['bash', script, root, shared],
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  )
  const ended = once(child, 'exit')
  const dispose = async () => {
    child.kill('SIGKILL')
    await ended
    rmdirSync(root)
    rmSync(shared, { recursive: true, force: true })
  }
  try {
    const init = await untilDefined(() => childOf(child.pid ?? 0))
    const enter = ['--target', String(init), '--all', '--root', '--wd']
    const run = async (...command: readonly string[]) => {
      const environment = ['env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C.UTF-8']
      const { stdout } = await promisify(execFile)('nsenter', [
        ...enter,
        ...environment,
        ...command,
      ])
      return stdout
    }
    await untilDefined(async () => {
      if (child.exitCode !== null) throw new Error('the machine did not boot')
      return await run('systemctl', 'is-active', 'basic.target').catch(() => undefined)
    })
    return { shared, run, [Symbol.asyncDispose]: dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}

function childOf(pid: number): number | undefined {
  const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')
  return child ? Number(child) : undefined
}

async function untilDefined<T>(find: () => T | undefined | Promise<T | undefined>): Promise<T> {
  for (let tries = 0; tries < BOOT_SECONDS * 10; tries += 1) {
    const found = await find()
    if (found !== undefined) return found
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error(`expected an answer in ${BOOT_SECONDS} s`)
}
