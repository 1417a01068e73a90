import { setTimeout as delay } from 'node:timers/promises'
import { Qmp } from '../../src/host-agent/vm/qmp.js'
import { COUNTER_ADDRESS, COUNTER_MAGIC } from './counting-guest.js'

/** How long a guest may take until it counts, on a busy machine. */
export const BOOT_MS = 120_000

/** What a guest of `countingGuest` has counted to; undefined while it does not count. */
export async function counterOf(folder: string): Promise<bigint | undefined> {
  await using qmp = await Qmp.connect(`${folder}/run/qmp.sock`)
  const text = String(
    await qmp.execute('human-monitor-command', { 'command-line': `xp /2gx ${COUNTER_ADDRESS}` }),
  )
  const [, magic, count] = /: (0x[0-9a-f]{16}) (0x[0-9a-f]{16})/.exec(text) ?? []
  const octets = Buffer.alloc(8)
  octets.writeBigUInt64LE(BigInt(magic ?? 0))
  return octets.toString('latin1') === COUNTER_MAGIC ? BigInt(count ?? 0) : undefined
}

/** Waits until the guest counts, and goes on to. @param folder of its VM @returns where it is */
export async function counting(folder: string, from = 0n): Promise<bigint> {
  for (const end = Date.now() + BOOT_MS; Date.now() < end; await delay(100)) {
    const now = await counterOf(folder)
    if (now !== undefined && now > from) return now
  }
  throw new Error('the guest does not count')
}
