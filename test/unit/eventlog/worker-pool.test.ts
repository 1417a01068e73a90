import { existsSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { failures } from '../../../src/core/finding.js'
import {
  compareBoots,
  createEventLogWorkers,
  encodeEventLog,
  parseEventLog,
  replayEventLog,
  verifyEventLog,
} from '../../../src/eventlog/index.js'
import { application, buildLog, LOADER, PLAIN_BOOT } from './build-log.js'

/** Threads run compiled code. */
const built = existsSync(new URL('../../../dist/src/eventlog/worker.js', import.meta.url))
if (!built) process.stderr.write('skipped: workers for event logs, which need the build\n')

const log = buildLog(PLAIN_BOOT)
const octets = encodeEventLog(log)
const values = replayEventLog(log, 'sha256')
const budgetMs = 20_000

describe.runIf(built)('workers', () => {
  test('find what verification in the same thread finds', async () => {
    await using workers = createEventLogWorkers({ size: 1, budgetMs })
    const found = await workers.verify(octets, 'sha256', values)
    expect(found).toEqual(verifyEventLog(log, 'sha256', values))
    expect(failures(found.findings)).toEqual([])
    const wrong = await workers.verify(octets, 'sha256', new Map([[4, new Uint8Array(32)]]))
    expect(failures(wrong.findings)).toEqual([expect.objectContaining({ code: 'EVENTLOG_REPLAY' })])
  })

  test('compare a log that they read before with other values, and read one that differs in an octet', async () => {
    await using workers = createEventLogWorkers({ size: 1, budgetMs })
    const codesOf = async (log: Uint8Array, pcrValues: ReadonlyMap<number, Uint8Array>) => {
      const { findings } = await workers.verify(log, 'sha256', pcrValues)
      return failures(findings).map(({ code, pcr }) => ({ code, pcr }))
    }
    expect(await codesOf(octets, values)).toEqual([])
    const other = new Map([...values].map(([pcr, value]) => [pcr, value.slice()]))
    other.get(4)?.fill(7, 31)
    expect(await codesOf(octets, other)).toEqual([{ code: 'EVENTLOG_REPLAY', pcr: 4 }])
    expect(await codesOf(octets, values)).toEqual([])
    const changed = octets.slice()
    changed[octets.length - 1] = (octets[octets.length - 1] ?? 0) ^ 1
    expect(await codesOf(changed, values)).toEqual(
      failures(verifyEventLog(parseEventLog(changed), 'sha256', values).findings).map(
        ({ code, pcr }) => ({ code, pcr }),
      ),
    )
    const fewer = new Map([...values].filter(([pcr]) => pcr !== 7))
    const found = await workers.verify(octets, 'sha256', fewer)
    expect(found).toEqual(verifyEventLog(log, 'sha256', fewer))
    const asked = await workers.verify(octets, 'sha256', values, { dbx: false })
    expect(asked.summary).not.toHaveProperty('dbx')
  })

  test('name what changed between two boots', async () => {
    await using workers = createEventLogWorkers({ size: 1, budgetMs })
    const other = buildLog(PLAIN_BOOT.with(LOADER, application('evil.efi')))
    const sentences = await workers.compare(octets, encodeEventLog(other), 'sha256')
    expect(sentences).toEqual(compareBoots(log, other, 'sha256').map(({ sentence }) => sentence))
    expect(sentences).toEqual([expect.stringContaining('evil.efi')])
  })

  test('hand on why a log cannot be read, and go on working', async () => {
    await using workers = createEventLogWorkers({ size: 1, budgetMs })
    const short = workers.verify(octets.subarray(0, 100), 'sha256', values)
    await expect(short).rejects.toMatchObject({ code: 'DECODE_TRUNCATED' })
    const large = workers.verify(new Uint8Array(2 * 1024 * 1024), 'sha256', values)
    await expect(large).rejects.toMatchObject({ code: 'EVENTLOG_TOO_LARGE' })
    const compared = workers.compare(octets, octets.subarray(0, 100), 'sha256')
    await expect(compared).rejects.toMatchObject({ code: 'DECODE_TRUNCATED' })
    await expect(workers.verify(octets, 'sha256', values)).resolves.toBeDefined()
  })

  test('give up a log that takes longer than its time, and go on working', async () => {
    await using workers = createEventLogWorkers({ size: 1, budgetMs: 40 })
    const late = workers.verify(slowLog(), 'sha256', values)
    await expect(late).rejects.toMatchObject({ code: 'EVENTLOG_TIMEOUT' })
    // A busy machine may take as long for a small log now and then, never always
    const tries = Array.from({ length: 20 }, () => workers.verify(octets, 'sha256', values))
    await expect(Promise.any(tries)).resolves.toMatchObject({ summary: { secureBoot: 'on' } })
    await Promise.allSettled(tries)
  })

  test('answer every one of many questions, some of them bad', async () => {
    await using workers = createEventLogWorkers({ size: 2, budgetMs })
    const answers = await Promise.allSettled(
      Array.from({ length: 40 }, (_, index) =>
        workers.verify(index % 4 === 3 ? octets.subarray(0, 90) : octets, 'sha256', values),
      ),
    )
    expect(answers.filter(({ status }) => status === 'rejected')).toHaveLength(10)
  })

  test('refuse what they have not done when they are ended', async () => {
    const workers = createEventLogWorkers({ size: 1, budgetMs })
    const asked = [1, 2, 3].map(() => workers.verify(octets, 'sha256', values))
    const settled = Promise.allSettled(asked)
    await workers[Symbol.asyncDispose]()
    for (const answer of await settled) {
      expect(answer).toMatchObject({ status: 'rejected', reason: { code: 'UNAVAILABLE' } })
    }
    await expect(workers.verify(octets, 'sha256', values)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    })
  })
})

/** A log that takes some hundred milliseconds: each of its 20 000 events is wrong. */
function slowLog(): Uint8Array {
  const event = { pcr: 4, type: 0xdead, data: Uint8Array.of(1) } as const
  return encodeEventLog(buildLog(Array.from({ length: 20_000 }, () => event)))
}
