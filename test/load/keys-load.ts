import { Agent, request } from 'undici'
import { createAttestation } from '../../src/api/attestation.js'
import { createClient } from '../../src/api/client.js'
import { wrapKeys } from '../../src/api/key-provider.js'
import { toBase64url } from '../../src/core/bytes.js'
import { randomOctets } from '../../src/core/random.js'
import { createDpopProof } from '../../src/tokens/index.js'
import { reportOf } from './fork-load.js'
import { createSoftwareHost, type SoftwareBoot } from './software-host.js'

/** What the load process is told. */
export interface KeysOrder {
  readonly url: string
  readonly caPem: string
  readonly adminToken: string
  readonly ticket: string
  /** What the names of its hosts begin with. */
  readonly names: string
  readonly provider: string
  /** Where the same requests go that are to be answered with nothing. */
  readonly emptyUrl?: string
  readonly boot: SoftwareBoot
  readonly hosts: number
  /** Keys of one request. */
  readonly keys: number
  readonly seconds: number
  readonly warmUpSeconds: number
  /** Requests of a second, however long they take; without it, each host sends its next when it was answered. */
  readonly perSecond?: number
}

/** Sends requests as attested hosts do, each with a proof of its own. */
async function run(order: KeysOrder) {
  const { url, caPem, provider } = order
  const anybody = createClient({ baseUrl: url, caPem })
  const admin = createClient({ baseUrl: url, caPem, bearerToken: order.adminToken })
  const dispatcher = new Agent({ connect: { ca: caPem } })
  const target = anybody.urlOf(wrapKeys, { provider })

  const sender = async (name: string): Promise<() => Promise<void>> => {
    const host = await createSoftwareHost(name, order.boot)
    await host.enrol(anybody, admin, order.ticket)
    const body = await host.answer(anybody)
    const { token: accessToken } = await anybody.call(createAttestation, { body })
    const items = Array.from({ length: order.keys }, (_, index) => ({
      purpose: 'vm-disk',
      context: { vm: name, object: `disk-${index}` },
      dek: toBase64url(randomOctets(32)),
    }))
    const text = JSON.stringify({ items })
    return async () => {
      const nowSeconds = Math.floor(Date.now() / 1000)
      const proof = { key: host.proofKey, method: 'POST', url: target, accessToken, nowSeconds }
      const answer = await request(order.emptyUrl ?? target, {
        dispatcher,
        method: 'POST',
        headers: {
          authorization: `DPoP ${accessToken}`,
          dpop: await createDpopProof(proof),
          'content-type': 'application/json',
        },
        body: text,
      })
      const answered = await answer.body.text()
      const wrapped = answered.split('"ok":true').length - 1
      if (answer.statusCode !== 200 || (!order.emptyUrl && wrapped !== order.keys)) {
        throw new Error(`${answer.statusCode} ${answered.slice(0, 200)}`)
      }
    }
  }

  const senders: (() => Promise<void>)[] = []
  for (let index = 0; index < order.hosts; index += 1)
    senders.push(await sender(`${order.names}-${index}`))
  // keys are made, connections are open, code is compiled before the clock runs
  await load(senders, order.warmUpSeconds, undefined)
  process.send?.('begun')
  const { times, failed, took } = await load(senders, order.seconds, order.perSecond)
  await Promise.all([
    anybody[Symbol.asyncDispose](),
    admin[Symbol.asyncDispose](),
    dispatcher.close(),
  ])
  return reportOf(times, took, failed)
}

async function load(
  senders: readonly (() => Promise<void>)[],
  seconds: number,
  perSecond: number | undefined,
) {
  const times: number[] = []
  let failed = 0
  const started = performance.now()
  const endMs = started + seconds * 1000
  const send = async (one: () => Promise<void>, dueMs: number): Promise<void> => {
    try {
      await one()
      times.push(performance.now() - dueMs)
    } catch (error) {
      if (failed < 3) process.stderr.write(`${String(error)}\n`)
      failed += 1
    }
  }
  if (perSecond === undefined) {
    await Promise.all(
      senders.map(async (one) => {
        while (performance.now() < endMs) await send(one, performance.now())
      }),
    )
  } else {
    const open: Promise<void>[] = []
    const everyMs = 1000 / perSecond
    for (let sent = 0; started + sent * everyMs < endMs; sent += 1) {
      const dueMs = started + sent * everyMs
      const waitMs = dueMs - performance.now()
      if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs))
      const one = senders[sent % senders.length]
      // Measured from when it was due: a request that had to wait for another has waited, too.
      if (one) open.push(send(one, dueMs))
    }
    await Promise.all(open)
  }
  return { times, failed, took: (performance.now() - started) / 1000 }
}

process.once('message', async (order: KeysOrder) => {
  const report = await run(order)
  process.send?.(report)
  process.disconnect()
})
