import { createCipheriv, createHmac, hkdfSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { fastify } from 'fastify'
import { createProvider } from '../../src/api/key-provider.js'
import { DEFAULT_POLICY } from '../../src/appraisal/index.js'
import { randomOctets } from '../../src/core/random.js'
import { WRAP_RANDOM_OCTETS, wrapKey } from '../../src/envelope/index.js'
import { ticketFor } from '../helpers/host.js'
import { openTestSite, setPolicy } from '../helpers/site.js'
import { forkLoad } from './fork-load.js'
import type { KeysOrder } from './keys-load.js'
import { ratesOf } from './turns.js'

/*
 * `npm run bench:keys -- [--seconds 10] [--hosts 16] [--json]`
 *
 * How many keys the key provider wraps in a second, one by one and in batches of 100, over TLS on loopback with its
 * database and audit on the disk; beside the raw cost of the cryptography of one wrap, and beside an empty Fastify route
 * that takes the same requests over TLS too. The load is made by a second process. All of it is compiled first.
 */
const { values: flags } = parseArgs({
  options: {
    seconds: { type: 'string', default: '10' },
    hosts: { type: 'string', default: '16' },
    json: { type: 'boolean', default: false },
  },
})
const seconds = Number(flags.seconds)
const hosts = Number(flags.hosts)
const BATCH = 100
const PROVIDER = 'bench'

const POLICY = {
  ...DEFAULT_POLICY,
  pcrs: [0, 4, 7],
  pinnedPcrs: [],
  bindingPcrs: [7],
  requireEventLog: false,
  requireSecureBoot: false,
}
const boot = { pcrValues: new Map(POLICY.pcrs.map((pcr) => [pcr, new Uint8Array(32)])) }

const line = (text: string) => {
  if (!flags.json) process.stdout.write(`${text}\n`)
}

/** What nobody can do without: random octets, one derivation, one encryption of 32 octets, one commitment. */
function rawWrap(): () => void {
  const primary = randomOctets(32)
  const dek = randomOctets(32)
  const info = new Uint8Array(96)
  const header = new Uint8Array(300)
  return () => {
    const random = randomOctets(WRAP_RANDOM_OCTETS)
    const keys = new Uint8Array(hkdfSync('sha256', primary, random.subarray(0, 16), info, 64))
    const cipher = createCipheriv('aes-256-gcm', keys.subarray(0, 32), random.subarray(16, 28))
    cipher.setAAD(header)
    cipher.update(dek)
    cipher.final()
    cipher.getAuthTag()
    createHmac('sha256', keys.subarray(32)).update(header).digest()
    keys.fill(0)
  }
}

function wholeWrap(): () => void {
  const providerId = '0b0e6a3c-1111-4222-8333-944455556666'
  const primary = { providerId, version: 1, octets: randomOctets(32) }
  const dek = randomOctets(32)
  const context = { vm: 'load-0', object: 'disk-0' }
  return () => {
    const random = randomOctets(WRAP_RANDOM_OCTETS)
    wrapKey({ primary, purpose: 'vm-disk', context, dek, random })
  }
}

const [wrapsPerSecond, rawPerSecond] = ratesOf(wholeWrap(), rawWrap())
const ofRaw = Math.round((wrapsPerSecond / rawPerSecond) * 100)
line(`one wrap: ${wrapsPerSecond}/s, raw cryptography ${rawPerSecond}/s, ${ofRaw} %`)

await using site = await openTestSite({
  services: ['attestation', 'key-provider', 'control-plane'],
  settings: {
    SIGILLO_SERVER_PUBLIC_REQUESTS_PER_MINUTE: '10000000',
    SIGILLO_KEY_PROVIDER_HOST_REQUESTS_PER_MINUTE: '10000000',
  },
})
await setPolicy(site, 'lab', POLICY)
await site.admin.call(createProvider, {
  body: {
    name: PROVIDER,
    kind: 'trusted',
    settings: { clusters: ['lab'], minimumAssurance: 'session', maxTokenAgeSeconds: 300 },
  },
})
const empty = fastify({
  bodyLimit: 16 * 1024 * 1024,
  https: {
    key: readFileSync(join(site.folder, 'tls.key')),
    cert: readFileSync(join(site.folder, 'tls.pem')),
  },
})
empty.post('/', async () => ({}))
const emptyUrl = await empty.listen({ port: 0, host: '127.0.0.1' })

let runs = 0
const run = async (change: Partial<KeysOrder>) => {
  runs += 1
  const order: KeysOrder = {
    url: site.url,
    caPem: site.caPem,
    adminToken: readFileSync(join(site.folder, 'admin.token'), 'utf8').trim(),
    ticket: await ticketFor(site, { uses: hosts }),
    names: `run-${runs}`,
    provider: PROVIDER,
    ...{ boot, hosts, keys: 1, seconds, warmUpSeconds: 3 },
    ...change,
  }
  return forkLoad('./keys-load.js', order)
}

const figures: Record<string, unknown> = { wrapsPerSecond, rawPerSecond, ofRaw }
for (const keys of [1, BATCH]) {
  const full = await run({ keys })
  const route = await run({ keys, emptyUrl })
  const half = await run({ keys, perSecond: full.perSecond / 2 })
  const share = Math.round((full.perSecond / route.perSecond) * 100)
  const cpuMs = Math.round((full.cpuMs / (full.perSecond * seconds)) * 100) / 100
  line(
    `${keys === 1 ? 'one key' : `${keys} keys`} a request: ${full.perSecond} requests/s, ${full.perSecond * keys} keys/s ` +
      `(p50 ${full.p50Ms} ms, p99 ${full.p99Ms} ms, ${hosts} hosts, ${full.failed} failed, ${cpuMs} ms of processors each), ` +
      `empty route with the same requests: ${route.perSecond}/s, ${share} %; ` +
      `at half load: p50 ${half.p50Ms} ms, p99 ${half.p99Ms} ms, ${half.failed} failed`,
  )
  figures[keys === 1 ? 'single' : 'batch'] = { full, route, half, share, cpuMs }
}
await empty.close()
if (flags.json) process.stdout.write(`${JSON.stringify(figures, null, 2)}\n`)
