import { readFile } from 'node:fs/promises'

/** `__SO_ACCEPTCON` in the column of flags. */
const LISTENS = 0x10000

/**
 * Whether somebody listens on the unix socket with this path, in this network namespace. A socket that is there is bound and may
 * not listen yet, and to connect for a try would take the place of the one client that QEMU and swtpm have.
 *
 * @see proc(5), `/proc/net/unix`
 */
export async function isListening(path: string): Promise<boolean> {
  const table = await readFile('/proc/net/unix', 'latin1')
  const name = Buffer.from(path).toString('latin1')
  return table.split('\n').some((line) => {
    const [, flags, found] = /^\S+ \S+ \S+ ([0-9A-Fa-f]{8}) \S+ \S+ +\S+ (.+)$/.exec(line) ?? []
    return found === name && (Number.parseInt(flags ?? '0', 16) & LISTENS) !== 0
  })
}
