import { equalBytes, toHex } from '../core/bytes.js'
import type { HashName } from '../tpm/index.js'
import { decodeEvent } from './decode-event.js'
import { eventTypeName } from './event-types.js'
import type { EventLog, LoggedEvent } from './parse-event-log.js'
import { isExtending } from './replay.js'

/** What one PCR of a boot has other than the same PCR of the reference. */
export interface BootDifference {
  readonly pcr: number
  /** `PCR 4: grubx64.efi: was sha256:…, now sha256:…` */
  readonly sentence: string
}

/** Sentences for one PCR at the most: what comes after the first differences follows from them as a rule. */
const MAX_PER_PCR = 4

/**
 * Names what changed between two boots, PCR by PCR.
 *
 * Events of one PCR are compared in order, from both ends: a changed, an added and a removed event are told apart.
 * Linear in the number of events. What it says of events is as good as the logs: see `verifyEventLog`.
 */
export function compareBoots(
  reference: EventLog,
  found: EventLog,
  bank: HashName,
): readonly BootDifference[] {
  const before = eventsByPcr(reference)
  const after = eventsByPcr(found)
  const pcrs = [...new Set([...before.keys(), ...after.keys()])].sort((a, b) => a - b)
  return pcrs.flatMap((pcr) => comparePcr(pcr, before.get(pcr) ?? [], after.get(pcr) ?? [], bank))
}

function eventsByPcr(log: EventLog): ReadonlyMap<number, readonly LoggedEvent[]> {
  const byPcr = new Map<number, LoggedEvent[]>()
  for (const event of log.events) {
    if (!isExtending(event)) continue
    const events = byPcr.get(event.pcr)
    if (events) events.push(event)
    else byPcr.set(event.pcr, [event])
  }
  return byPcr
}

function comparePcr(
  pcr: number,
  before: readonly LoggedEvent[],
  after: readonly LoggedEvent[],
  bank: HashName,
): readonly BootDifference[] {
  const shorter = Math.min(before.length, after.length)
  let head = 0
  while (head < shorter && same(before[head], after[head], bank)) head += 1
  let tail = 0
  while (tail < shorter - head && same(before.at(-1 - tail), after.at(-1 - tail), bank)) tail += 1
  const was = before.slice(head, before.length - tail)
  const now = after.slice(head, after.length - tail)
  const count = Math.max(was.length, now.length)
  const sentences = Array.from({ length: Math.min(count, MAX_PER_PCR) }, (_, index) =>
    sentenceOf(was[index], now[index], bank),
  )
  if (count > MAX_PER_PCR) sentences.push(`and ${count - MAX_PER_PCR} more events`)
  return sentences.map((sentence) => ({ pcr, sentence: `PCR ${pcr}: ${sentence}` }))
}

function same(a: LoggedEvent | undefined, b: LoggedEvent | undefined, bank: HashName): boolean {
  const first = a?.digests.get(bank)
  const second = b?.digests.get(bank)
  return first !== undefined && second !== undefined && equalBytes(first, second)
}

function sentenceOf(
  was: LoggedEvent | undefined,
  now: LoggedEvent | undefined,
  bank: HashName,
): string {
  if (was && now) {
    const [before, after] = [nameOf(was), nameOf(now)]
    const name = before === after ? `${before}: ` : ''
    const own = (text: string) => (name === '' ? `${text} ` : '')
    return `${name}was ${own(before)}${digestOf(was, bank)}, now ${own(after)}${digestOf(now, bank)}`
  }
  if (was) return `${nameOf(was)}: is missing, was ${digestOf(was, bank)}`
  if (now) return `${nameOf(now)}: is new, ${digestOf(now, bank)}`
  throw new TypeError('one of the two events is there')
}

function digestOf(event: LoggedEvent, bank: HashName): string {
  const digest = event.digests.get(bank)
  return digest ? `${bank}:${toHex(digest)}` : `no ${bank} digest`
}

/** What an event is called in a sentence. */
function nameOf(event: LoggedEvent): string {
  const content = decodeEvent(event)
  if (content.kind === 'image') return content.fileName ?? 'an image from memory'
  if (content.kind === 'variable') return `variable ${content.name}`
  if (content.kind === 'text') return `"${content.text.trim()}"`
  if (content.kind === 'tag') return `"${content.name ?? content.text.trim()}"`
  if (content.kind === 'separator') return 'the separator'
  return eventTypeName(event.type) ?? `type 0x${event.type.toString(16)}`
}
