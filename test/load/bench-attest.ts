import { hash, type KeyObject, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { fastify } from 'fastify'
import type { Evidence } from '../../src/api/attestation.js'
import { captureBaseImage } from '../../src/api/base-images.js'
import {
  appraise,
  bootQuestions,
  DEFAULT_POLICY,
  decodeEvidence,
  verifyEvidence,
} from '../../src/appraisal/index.js'
import { fromBase64url } from '../../src/core/bytes.js'
import { failures, passed } from '../../src/core/finding.js'
import {
  coverageOf,
  type EventLog,
  isExtending,
  parseEventLog,
  replayEventLog,
  verifyEventLog,
} from '../../src/eventlog/index.js'
import { KeptReadings } from '../../src/eventlog/kept-readings.js'
import { compareReading, interpretEventLog } from '../../src/eventlog/verify-event-log.js'
import { parseSignature, publicKeyOf } from '../../src/tpm/index.js'
import { ticketFor } from '../helpers/host.js'
import { openTestSite, setPolicy } from '../helpers/site.js'
import { measuredBoot, sharedVectors } from '../helpers/vectors.js'
import { forkLoad } from './fork-load.js'
import { createSoftwareHost, type SoftwareBoot, type SoftwareHost } from './software-host.js'
import { ratesOf } from './turns.js'

/*
 * `npm run bench:attest -- [--seconds 10] [--hosts 32] [--json]`
 *
 * How fast the verifier alone is, beside the raw cost of its signatures and hashes; and how many whole attestations the
 * service does in a second over TLS with its database and audit, beside an empty Fastify route that takes the same body
 * over TLS too. The load is made by a second process. All of it is compiled first, as it is delivered.
 */
const { values: flags } = parseArgs({
  options: {
    seconds: { type: 'string', default: '10' },
    hosts: { type: 'string', default: '32' },
    json: { type: 'boolean', default: false },
  },
})
const seconds = Number(flags.seconds)

const POLICY = {
  ...DEFAULT_POLICY,
  pcrs: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
  pinnedPcrs: [0, 4, 7],
  bindingPcrs: [0, 4, 7],
  requireSecureBoot: false,
}

function bootOf(eventLog: Uint8Array): SoftwareBoot {
  const replayed = replayEventLog(parseEventLog(eventLog), 'sha256')
  const pcrValues = new Map(
    POLICY.pcrs.map((pcr) => [pcr, replayed.get(pcr) ?? new Uint8Array(32)]),
  )
  return { pcrValues, eventLog }
}

/** A log of a real machine with 116 events and 45 KB; a smaller one of ours where the shared vectors are absent. */
function benchLog(): Uint8Array {
  const shared = sharedVectors('attestation')
  const name = 'google_go-tpm-tools/internal/test/eventlogs/ubuntu-2404-amd-sevsnp.bin'
  return shared
    ? new Uint8Array(readFileSync(join(shared, name)))
    : measuredBoot('04-shim-grub-sb-on-mskeys', 'binary_bios_measurements')
}

interface PureFigures {
  readonly events: number
  readonly octets: number
  readonly perSecond: number
  readonly rawPerSecond: number
  readonly share: number
  /** With a log that was read before. */
  readonly againPerSecond?: number
  readonly againShare?: number
}

function pure(host: SoftwareHost, boot: SoftwareBoot): PureFigures {
  const policy = { ...POLICY, requireEventLog: boot.eventLog !== undefined }
  const verifier = 'https://bench.test/attestation'
  const evidence = host.evidence({ nonce: new Uint8Array(40), verifier, policy })
  const decoded = decodeEvidence(evidence)
  const { pcrValues, eventLog } = decoded
  const image = {
    name: 'bench',
    bank: 'sha256',
    pcrs: new Map(
      [...pcrValues].map(([pcr, value]) => [pcr, [Buffer.from(value).toString('hex')]]),
    ),
  }
  const readings = new KeptReadings()
  /** Reads the log, or looks up what was read of it, as the service does where it meets a log again. */
  const reportOf = (log: Uint8Array, isKept: boolean) => {
    const questions = bootQuestions(policy)
    if (!isKept) return verifyEventLog(parseEventLog(log), 'sha256', pcrValues, questions)
    const quoted = new Set(pcrValues.keys())
    const key = readings.keyOf(log, 'sha256', quoted, questions)
    const known = readings.get(key)
    const reading = known ?? interpretEventLog(parseEventLog(log), 'sha256', quoted, questions)
    if (!known) readings.keep(key, reading)
    return compareReading(reading, pcrValues)
  }
  const judge = (isKept: boolean) => () => {
    const nonceFinding = passed('nonce')
    const identity = verifyEvidence(decoded, { ak: host.ak.area, verifier, policy, nonceFinding })
    if (!identity.clock) throw new Error('the evidence is not genuine')
    const report = eventLog && reportOf(eventLog, isKept)
    const { findings } = appraise({
      ...{ policy, pcrValues, clock: identity.clock, previousClock: undefined, eventLog: report },
      ...{ eventLogOctets: eventLog?.length ?? 0, baseImages: [image], nowMs: 0 },
    })
    const failed = failures([...identity.findings, ...findings])
    if (failed.length > 0) throw new Error(JSON.stringify(failed))
  }
  const log = eventLog ? parseEventLog(eventLog) : undefined
  const raw = rawWork(evidence, publicKeyOf(host.ak.area), eventLog, log)
  const [perSecond, rawPerSecond] = ratesOf(judge(false), raw)
  const again = eventLog ? ratesOf(judge(true), raw) : undefined
  return {
    events: log?.events.length ?? 0,
    octets: eventLog?.length ?? 0,
    perSecond,
    rawPerSecond,
    share: Math.round((perSecond / rawPerSecond) * 100),
    ...(again
      ? { againPerSecond: again[0], againShare: Math.round((again[0] / again[1]) * 100) }
      : {}),
  }
}

/**
 * The two signatures and the hashes that nobody can do without: of the log, of each extension, of what a digest of the log
 * proves. Everything that they are made of is at hand before.
 */
function rawWork(
  { attest, signature, bindingKey }: Evidence,
  key: KeyObject,
  eventLog?: Uint8Array,
  log?: EventLog,
): () => void {
  const signed = [
    [attest, signature],
    [bindingKey?.attest ?? '', bindingKey?.signature ?? ''],
  ].map(([message = '', text = '']) => {
    const parsed = parseSignature(fromBase64url(text))
    if (parsed.kind !== 'ecdsa') throw new Error('an ECDSA signature')
    return { message: fromBase64url(message), octets: Buffer.concat([parsed.r, parsed.s]) }
  })
  const hashed: Uint8Array[] = eventLog ? [eventLog] : []
  for (const event of log?.events ?? []) {
    if (isExtending(event)) hashed.push(new Uint8Array(64))
    if (['data', 'part'].includes(coverageOf(event, 'sha256').kind)) hashed.push(event.data)
  }
  const options = { key, dsaEncoding: 'ieee-p1363' } as const
  return () => {
    for (const { message, octets } of signed) {
      if (!verify('sha256', message, options, octets)) throw new Error('signature')
    }
    for (const octets of hashed) hash('sha256', octets, 'binary')
  }
}

const line = (text: string) => {
  if (!flags.json) process.stdout.write(`${text}\n`)
}

const eventLog = benchLog()
const boot = bootOf(eventLog)
const withLog = pure(await createSoftwareHost('bench', boot), boot)
const bare = { pcrValues: boot.pcrValues }
const withoutLog = pure(await createSoftwareHost('bench', bare), bare)
for (const [name, figures] of [
  [`with a log of ${withLog.events} events and ${withLog.octets} octets`, withLog],
  ['without a log', withoutLog],
] as const) {
  line(
    `verifier ${name}: ${figures.perSecond}/s, raw ${figures.rawPerSecond}/s, ${figures.share} %`,
  )
  if (figures.againPerSecond !== undefined) {
    line(
      `verifier with a log that it met before: ${figures.againPerSecond}/s, ${figures.againShare} %`,
    )
  }
}

await using site = await openTestSite({
  services: ['attestation', 'control-plane'],
  settings: { SIGILLO_SERVER_PUBLIC_REQUESTS_PER_MINUTE: '10000000' },
})
await setPolicy(site, 'lab', POLICY)
const count = Number(flags.hosts)
const adminToken = readFileSync(join(site.folder, 'admin.token'), 'utf8').trim()
const ticket = await ticketFor(site, { uses: count + 1 })
const base = {
  ...{ url: site.url, caPem: site.caPem, adminToken, ticket, boot },
  ...{ hosts: count, seconds, warmUpSeconds: 5 },
}

const first = await createSoftwareHost('first', boot)
await first.enrol(site.anybody, site.admin, ticket)
const { createAttestation } = await import('../../src/api/attestation.js')
await site.anybody
  .call(createAttestation, { body: await first.answer(site.anybody) })
  .catch(() => undefined)
await site.admin.call(captureBaseImage, { body: { name: 'bench', hostId: 'first' } })

const empty = fastify({
  bodyLimit: 16 * 1024 * 1024,
  https: {
    key: readFileSync(join(site.folder, 'tls.key')),
    cert: readFileSync(join(site.folder, 'tls.pem')),
  },
})
empty.post('/', async () => ({}))
const emptyUrl = await empty.listen({ port: 0, host: '127.0.0.1' })

const lag = monitorEventLoopDelay({ resolution: 5 })
lag.enable()
const whole = await forkLoad('./attest-load.js', { ...base, what: 'attestations' })
lag.disable()
const lagMs = Math.round(lag.percentile(99) / 1e4) / 100
const route = await forkLoad('./attest-load.js', { ...base, what: 'empty', emptyUrl })
await empty.close()

const cpuMs = Math.round((whole.cpuMs / (whole.perSecond * seconds)) * 100) / 100
const share = Math.round((whole.perSecond / route.perSecond) * 100)
line(
  `attestations over HTTPS: ${whole.perSecond}/s (p50 ${whole.p50Ms} ms, p99 ${whole.p99Ms} ms, ${count} hosts, ${whole.failed} failed, ${cpuMs} ms of processors each), ` +
    `empty route with the same body: ${route.perSecond}/s, ${share} %; event loop lag p99 ${lagMs} ms`,
)
if (flags.json) {
  process.stdout.write(
    `${JSON.stringify({ withLog, withoutLog, whole, empty: route, share, cpuMs, lagMs }, null, 2)}\n`,
  )
}
