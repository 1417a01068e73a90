import { expect, test } from 'vitest'
import { failed, passed } from '../../../src/core/finding.js'
import { KeptReadings } from '../../../src/eventlog/kept-readings.js'
import type { EventLogReading } from '../../../src/eventlog/verify-event-log.js'

const sound: EventLogReading = {
  usable: passed('event-log.bank', 'sha256'),
  replayed: new Map(),
  findings: [passed('event-log.order')],
  summary: { secureBoot: 'on', debug: false, bootApplications: [] },
}
const application = { event: 1, name: 'a.efi', path: '', digests: new Map() }
const log = Uint8Array.of(1, 2, 3)
const questions = { dbx: false }
const pcrs = new Set([0, 4])

test('a reading is found for the same octets, bank, PCRs and questions alone', () => {
  const kept = new KeptReadings()
  kept.keep(kept.keyOf(log, 'sha256', pcrs, questions), sound)
  expect(kept.get(kept.keyOf(log.slice(), 'sha256', new Set([4, 0]), questions))).toBe(sound)
  for (const key of [
    kept.keyOf(Uint8Array.of(1, 2, 4), 'sha256', pcrs, questions),
    kept.keyOf(log, 'sha384', pcrs, questions),
    kept.keyOf(log, 'sha256', new Set([0]), questions),
    kept.keyOf(log, 'sha256', pcrs, { dbx: true }),
  ]) {
    expect(kept.get(key)).toBeUndefined()
  }
})

test('a reading that failed a check, or is large, is not kept', () => {
  const kept = new KeptReadings()
  const order = failed('event-log.order', 'EVENTLOG_ORDER', 'one', 'another')
  const many = Array.from({ length: 3000 }, () => application)
  kept.keep('failed', { ...sound, findings: [order] })
  kept.keep('unusable', { ...sound, usable: failed('event-log.bank', 'EVENTLOG_BANK', 'a', 'b') })
  kept.keep('large', { ...sound, summary: { ...sound.summary, bootApplications: many } })
  expect(['failed', 'unusable', 'large'].map((key) => kept.get(key))).toEqual([
    undefined,
    undefined,
    undefined,
  ])
})

test('the readings that were used last are kept, and no more than some', () => {
  const kept = new KeptReadings()
  kept.keep('first', sound)
  kept.keep('second', sound)
  for (let index = 0; index < 63; index += 1) {
    kept.get('first')
    kept.keep(`log ${index}`, sound)
  }
  expect(kept.get('first')).toBe(sound)
  expect(kept.get('second')).toBeUndefined()
})
