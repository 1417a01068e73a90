import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

// One folder for everything temporary of a run. Short: names of unix sockets have 107 octets at most.
let folder: string

export function setup(): void {
  folder = mkdtempSync(join(tmpdir(), 's-'))
  // QEMU of libvirt, which is another user, passes through
  chmodSync(folder, 0o711)
  process.env['TMPDIR'] = folder
}

/**
 * Fails the run where a test left a process behind that has a path of the run on its command line. What was left is ended and
 * removed.
 */
export function teardown(): void {
  const left = processesWith(`${folder}/`)
  for (const { pid } of left) process.kill(pid, 'SIGKILL')
  rmSync(folder, { recursive: true, force: true })
  if (left.length === 0) return
  // what is thrown here is printed, and the run would pass all the same
  process.exitCode = 1
  const lines = left.map(({ pid, command }) => `${pid}: ${command.slice(0, 400)}`)
  throw new Error(`tests left processes behind:\n${lines.join('\n')}`)
}

interface Found {
  readonly pid: number
  readonly command: string
}

function processesWith(path: string): readonly Found[] {
  return readdirSync('/proc')
    .filter((name) => /^[0-9]+$/.test(name) && Number(name) !== process.pid)
    .map((name) => ({ pid: Number(name), command: commandOf(name) }))
    .filter(({ command }) => command.includes(path))
}

/** Empty for one that has ended meanwhile. */
function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
  } catch {
    return ''
  }
}
