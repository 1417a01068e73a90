import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { isPlatformError } from '../../../src/core/errors.js'
import { failures } from '../../../src/core/finding.js'
import {
  type DescribedEvent,
  describeEvent,
  EVENT_TYPES,
  eventLine,
  type LoggedEvent,
  parseEventLog,
  verifyEventLog,
} from '../../../src/eventlog/index.js'
import {
  chance,
  fastest,
  limitOf,
  MUTANTS,
  MUTANTS_TIMEOUT_MS,
  mutant,
} from '../../helpers/mutants.js'
import {
  MEASURED_BOOT_VARIANTS,
  measuredBoot,
  measuredPcrs,
  sharedVectors,
} from '../../helpers/vectors.js'

/** Changed logs and changed data of events, by the hundred thousand: nothing but refusals of ours, and none slow. */
const VARIANT = '04-shim-grub-sb-on-mskeys'
const real = measuredBoot(VARIANT, 'binary_bios_measurements')

test(
  `${MUTANTS} changed logs end with a log or a refusal, each soon`,
  () => {
    const next = chance(1)
    let read = 0
    let slow = 0
    for (let count = 0; count < MUTANTS; count += 1) {
      const octets = mutant(real, real, next)
      let isLog = false
      const took = fastest(limitOf(octets), () => {
        isLog = false
        try {
          parseEventLog(octets)
          isLog = true
        } catch (error) {
          if (!isPlatformError(error)) throw error
        }
      })
      if (isLog) read += 1
      if (took > limitOf(octets)) slow += 1
    }
    process.stderr.write(`mutants of event logs: ${MUTANTS}, ${read} read, ${slow} slow\n`)
    expect(slow).toBe(0)
    // Both outcomes are tried, again and again
    expect(read).toBeGreaterThan(MUTANTS / 10)
    expect(read).toBeLessThan((MUTANTS * 9) / 10)
  },
  MUTANTS_TIMEOUT_MS,
)

const measurements = (events: readonly LoggedEvent[]) =>
  events.map(
    ({ pcr, digests }) => `${pcr}:${Buffer.from(digests.get('sha256') ?? []).toString('hex')}`,
  )

/**
 * In evidence, a log is bound to the quote by its digest, and any change of it is refused. By itself it has octets that
 * bear no trust: data that only describe what was measured.
 */
test.each([VARIANT, '01-uki-sb-off'])(
  `${MUTANTS / 20} changed logs are refused, or lead to the same measurements: %s`,
  (variant) => {
    const next = chance(2)
    const whole = measuredBoot(variant, 'binary_bios_measurements')
    const values = measuredPcrs(variant)
    const expected = measurements(parseEventLog(whole).events).sort()
    let same = 0
    for (let count = 0; count < MUTANTS / 20; count += 1) {
      const octets = mutant(whole, real, next)
      try {
        const changed = parseEventLog(octets)
        const { findings } = verifyEventLog(changed, 'sha256', values)
        if (failures(findings).length > 0) continue
        expect(measurements(changed.events).sort()).toEqual(expected)
        same += 1
      } catch (error) {
        if (!isPlatformError(error)) throw error
      }
    }
    process.stderr.write(
      `mutants of event logs, verified: ${MUTANTS / 20}, 0 accepted with other measurements, ${same} with the same\n`,
    )
  },
  MUTANTS_TIMEOUT_MS,
)

/** Events of real machines, each type with each of its forms once or a few times. */
function corpus(): readonly LoggedEvent[] {
  const events: LoggedEvent[] = []
  const seen = new Map<string, number>()
  const add = (octets: Uint8Array) => {
    for (const event of parseEventLog(octets).events) {
      const key = `${event.type} ${Buffer.from(event.data.subarray(32, 40)).toString('hex')}`
      const count = seen.get(key) ?? 0
      if (count < 2 && event.data.length > 0) events.push(event)
      seen.set(key, count + 1)
    }
  }
  for (const variant of MEASURED_BOOT_VARIANTS.filter((name) => !name.includes('no-event-log'))) {
    add(measuredBoot(variant, 'binary_bios_measurements'))
  }
  const shared = sharedVectors('attestation')
  if (!shared) return events
  const logs = [
    'google_go-tpm-tools/internal/test/eventlogs/confidential-gke-debug-251000_eventlog.bin',
    'google_go-tpm-tools/internal/test/eventlogs/gdc-host.bin',
    'confidential-containers_trustee/deps/eventlog/test_data/CCEL_AAEL_alibabacloud',
    'tpm2-software_tpm2-tools/test/integration/fixtures/event-postcode.bin',
  ]
  for (const path of logs) add(readFileSync(join(shared, path)))
  const windows = 'google_go-attestation/attest/testdata/windows_gcp_shielded_vm.json'
  const { Log } = JSON.parse(readFileSync(join(shared, windows), 'utf8')) as {
    readonly Log: { readonly Raw: string }
  }
  add(Buffer.from(Log.Raw, 'base64'))
  return events
}

test(
  `${MUTANTS} events with changed data are described, each soon`,
  () => {
    const next = chance(3)
    const events = corpus()
    const types = Object.values(EVENT_TYPES)
    let slowest = 0
    for (let count = 0; count < MUTANTS; count += 1) {
      const [event, other] = [events[next(events.length)], events[next(events.length)]]
      if (!event || !other) throw new TypeError('events')
      const data = mutant(event.data, other.data, next)
      const type = next(10) === 0 ? (types[next(types.length)] ?? event.type) : event.type
      const changed = { ...event, type, data }
      let described: DescribedEvent | undefined
      const took = fastest(limitOf(data), () => {
        described = describeEvent(changed, 'sha256')
      })
      expect(described?.content).toHaveProperty('kind')
      if (count % 10 === 0) expect(eventLine(changed, 'sha256').length).toBeLessThan(600)
      slowest = Math.max(slowest, took / limitOf(data))
      // What was not measured is never said to be proved
      const kind = described?.coverage.kind
      const digest = Buffer.from(event.digests.get('sha256') ?? []).toString('hex')
      const isMeasured = createHash('sha256').update(data).digest('hex') === digest
      if (kind === 'data') expect(isMeasured).toBe(true)
      if (kind === 'mismatch') expect(isMeasured).toBe(false)
    }
    process.stderr.write(
      `mutants of event data: ${MUTANTS}, slowest ${slowest.toFixed(2)} of its limit\n`,
    )
    expect(slowest).toBeLessThan(1)
  },
  MUTANTS_TIMEOUT_MS,
)
