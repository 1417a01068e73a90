import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import {
  createKmipClient,
  encodeTtlv,
  type KmipClient,
  type KmipPool,
  OPERATION,
  TAG,
} from '../../src/kmip/index.js'
import { requestToTtlv } from '../../src/kmip/message.js'
import { structure, textString } from '../../src/kmip/ttlv.js'
import { TestAuthority } from '../integration/kmip/client-certificates.js'
import { hasPykmip, PykmipServer } from '../integration/kmip/client-pykmip.js'
import { RawLoad, type RawTarget } from './raw-kmip.js'
import { median } from './turns.js'

/*
 * `npm run bench:kmip -- [--requests 200] [--turns 7] [--json]`
 *
 * How many keys a second our client fetches, beside what the server can give at all: the same request, encoded once and
 * sent by a loop that reads nothing of the answers. Turn by turn against PyKMIP, and against our reference server in a
 * process of its own.
 */
const { values: flags } = parseArgs({
  options: {
    requests: { type: 'string', default: '200' },
    turns: { type: 'string', default: '7' },
    json: { type: 'boolean', default: false },
  },
})
const turns = Number(flags.turns)
const VERSION = { major: 1, minor: 4 }
/** One request at a time, and pipelined: connections, and requests under way on each. */
const SHAPES: readonly (readonly [connections: number, inFlight: number])[] = [
  [1, 1],
  [4, 1],
  [4, 8],
]

interface Figures {
  readonly server: string
  readonly connections: number
  readonly inFlight: number
  readonly perSecond: number
  readonly rawPerSecond: number
  readonly share: number
}

async function measure(server: string, target: RawTarget, requests: number): Promise<Figures[]> {
  const figures: Figures[] = []
  for (const [connections, inFlight] of SHAPES) {
    await using client = open(target, { connections, inFlight })
    const id = await client.create()
    using raw = await RawLoad.open(target, connections, getFrame(id))
    const workers = connections * inFlight
    // Both warm up: connections, versions, code.
    await clientRate(client, id, requests, workers)
    await raw.rate(requests, inFlight)
    const rates: [number[], number[]] = [[], []]
    for (let turn = 0; turn < turns; turn += 1) {
      rates[0].push(await clientRate(client, id, requests, workers))
      rates[1].push(await raw.rate(requests, inFlight))
    }
    const [perSecond, rawPerSecond] = [median(rates[0]), median(rates[1])]
    const share = Math.round((perSecond / rawPerSecond) * 100)
    figures.push({ server, connections, inFlight, perSecond, rawPerSecond, share })
  }
  return figures
}

function open(target: RawTarget, pool: Partial<KmipPool>): KmipClient {
  return createKmipClient({
    servers: [{ name: 'bench', host: 'localhost', port: target.port }],
    tls: {
      authorities: target.authority,
      certificate: target.certificate,
      privateKey: target.key,
    },
    versions: [VERSION],
    pool,
  })
}

/** Keys a second, fetched by so many callers that each wait for their own. */
async function clientRate(
  client: KmipClient,
  id: string,
  requests: number,
  workers: number,
): Promise<number> {
  let left = requests
  const begin = performance.now()
  await Promise.all(
    Array.from({ length: workers }, async () => {
      while (left > 0) {
        left -= 1
        const { material } = await client.get(id)
        material.dispose()
      }
    }),
  )
  return (requests / (performance.now() - begin)) * 1000
}

function getFrame(id: string): Uint8Array {
  return encodeTtlv(
    requestToTtlv({
      version: VERSION,
      items: [
        {
          operation: OPERATION.Get,
          batchItemId: new Uint8Array(8),
          payload: structure(TAG.RequestPayload, [textString(TAG.UniqueIdentifier, id)]),
        },
      ],
    }),
  )
}

async function foreign(): Promise<Figures[]> {
  if (!hasPykmip()) {
    process.stderr.write('skipped: PyKMIP, which is not installed\n')
    return []
  }
  using authority = new TestAuthority()
  await using server = await PykmipServer.start(authority)
  const { certificate, key } = authority.client()
  const target = {
    port: server.port,
    authority: authority.authority.certificate,
    certificate,
    key,
  }
  return await measure('PyKMIP', target, Number(flags.requests))
}

/** Our server is many times faster: it gets more requests, so that a turn lasts. */
async function own(): Promise<Figures[]> {
  const program = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))
  const options = ['--json', '--listen', '127.0.0.1:0', '--log-level', 'silent']
  const child = spawn(process.execPath, [program, 'kmip', 'serve', ...options], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  try {
    const line = await new Promise<string>((resolve, reject) => {
      child.stdout.once('data', (chunk) => resolve(String(chunk)))
      child.once('exit', () => reject(new Error('the reference server ended')))
    })
    const ready = JSON.parse(line) as {
      port: number
      caFile: string
      clientCertificateFile: string
      clientKeyFile: string
    }
    const target = {
      port: ready.port,
      authority: readFileSync(ready.caFile, 'utf8'),
      certificate: readFileSync(ready.clientCertificateFile, 'utf8'),
      key: readFileSync(ready.clientKeyFile, 'utf8'),
    }
    return await measure('reference', target, Number(flags.requests) * 10)
  } finally {
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGTERM')
    await ended
  }
}

const figures = [...(await foreign()), ...(await own())]
if (flags.json) process.stdout.write(`${JSON.stringify(figures, null, 2)}\n`)
else {
  for (const { server, connections, inFlight, perSecond, rawPerSecond, share } of figures) {
    const shape = `${connections} connections, ${inFlight} requests under way on each`
    process.stdout.write(`${server}, ${shape}: ${perSecond}/s of ${rawPerSecond}/s, ${share} %\n`)
  }
}
