import { Agent, request } from 'undici'
import { createAttestation } from '../../src/api/attestation.js'
import { createClient } from '../../src/api/client.js'
import { type LoadReport, reportOf } from './fork-load.js'
import { createSoftwareHost, type SoftwareBoot } from './software-host.js'

/** What the load process is told. */
export interface LoadOrder {
  readonly what: 'attestations' | 'empty'
  readonly url: string
  readonly caPem: string
  readonly adminToken: string
  readonly ticket: string
  readonly emptyUrl?: string
  readonly boot: SoftwareBoot
  readonly hosts: number
  readonly seconds: number
  readonly warmUpSeconds: number
}

async function run(order: LoadOrder): Promise<LoadReport> {
  const { url, caPem } = order
  const anybody = createClient({ baseUrl: url, caPem })
  const admin = createClient({ baseUrl: url, caPem, bearerToken: order.adminToken })
  const dispatcher = new Agent({ connect: { ca: caPem } })
  const times: number[] = []
  let failed = 0

  const attestations = async (name: string): Promise<() => Promise<void>> => {
    const host = await createSoftwareHost(name, order.boot)
    await host.enrol(anybody, admin, order.ticket)
    return async () => {
      const body = await host.answer(anybody)
      const started = performance.now()
      await anybody.call(createAttestation, { body })
      times.push(performance.now() - started)
    }
  }
  const empty = async (name: string): Promise<() => Promise<void>> => {
    const host = await createSoftwareHost(name, order.boot)
    const body = JSON.stringify(
      host.evidence({
        nonce: new Uint8Array(40),
        verifier: url,
        policy: { bank: 'sha256', pcrs: [0, 4, 7], bindingPcrs: [7] },
      }),
    )
    return async () => {
      const started = performance.now()
      const answer = await request(order.emptyUrl ?? '', {
        dispatcher,
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body,
      })
      await answer.body.dump()
      times.push(performance.now() - started)
    }
  }
  const make = order.what === 'attestations' ? attestations : empty
  const rounds: (() => Promise<void>)[] = []
  for (let index = 0; index < order.hosts; index += 1) rounds.push(await make(`load-${index}`))

  const load = async (seconds: number): Promise<number> => {
    const started = performance.now()
    const endMs = started + seconds * 1000
    await Promise.all(
      rounds.map(async (round) => {
        while (performance.now() < endMs) {
          await round().catch((error: unknown) => {
            if (failed < 3) process.stderr.write(`${String(error)}\n`)
            failed += 1
          })
        }
      }),
    )
    return (performance.now() - started) / 1000
  }

  // keys are made, connections are open, workers are awake and code is compiled before the clock runs
  for (const round of rounds) await round()
  await load(order.warmUpSeconds)
  times.length = 0
  process.send?.('begun')
  const took = await load(order.seconds)
  await Promise.all([
    anybody[Symbol.asyncDispose](),
    admin[Symbol.asyncDispose](),
    dispatcher.close(),
  ])
  return reportOf(times, took, failed)
}

process.once('message', async (order: LoadOrder) => {
  const report = await run(order)
  process.send?.(report)
  process.disconnect()
})
