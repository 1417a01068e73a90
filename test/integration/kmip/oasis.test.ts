import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { decodeTtlv } from '../../../src/kmip/decode.js'
import { encodeTtlv } from '../../../src/kmip/encode.js'
import { startKmipServer } from '../../../src/kmip/index.js'
import { saySkipped } from '../../helpers/vectors.js'
import { oasisCases } from '../../vectors/kmip/oasis.js'
import { type Certificate, TestAuthority } from './client-certificates.js'
import { type CaseClock, runCases } from './oasis-case.js'
import { caseBefore, whySkipped } from './oasis-scope.js'
import { RawConnection } from './raw-connection.js'

const all = oasisCases()
if (all.length === 0) saySkipped('kmip', 499)
const judged = all.map((one) => ({ one, why: whySkipped(one, all) }))
const cases = judged.flatMap(({ one, why }) => (why === undefined ? [one] : []))

describe.skipIf(all.length === 0)('the cases of the standard, over mutual TLS', () => {
  let authority: TestAuthority
  let server: Certificate
  let client: Certificate
  beforeAll(() => {
    authority = new TestAuthority()
    server = authority.server()
    client = authority.client()
  })
  afterAll(() => {
    authority[Symbol.dispose]()
    process.stderr.write(summary())
  })

  test.each(cases)('$version $name is answered as the standard says', async (one) => {
    const clock: CaseClock = { nowMs: Date.UTC(2026, 0, 1) }
    const faults: string[] = []
    await using running = await startKmipServer({
      tls: {
        authorities: authority.authority.certificate,
        certificate: server.certificate,
        privateKey: server.key,
      },
      clock: { nowMs: () => clock.nowMs, monotonicMs: () => clock.nowMs },
      events: (event) => {
        if (event.event === 'kmip.fault') faults.push(event.message)
      },
    })
    using connection = await RawConnection.open(running.port, authority, client)
    const before = caseBefore(one, all)
    const differences = await runCases(
      before === undefined ? [one] : [before, one],
      async (request) => {
        const response = await connection.exchange(encodeTtlv(request))
        if (response === undefined) throw new Error('the server closed the connection')
        return decodeTtlv(response)
      },
      clock,
    )
    expect(differences).toEqual([])
    expect(faults).toEqual([])
  })

  test('are so many in each version, and each that is left out has a reason', () => {
    const counts = Object.fromEntries(
      versions().map((version) => [version, cases.filter((one) => one.version === version).length]),
    )
    expect(counts).toEqual({ '1.0': 41, '1.1': 41, '1.2': 38, '1.4': 95, '2.0': 38, '2.1': 56 })
  })
})

function versions(): readonly string[] {
  return [...new Set(all.map(({ version }) => version))]
}

/** How many cases were run in each version, and why others were not. */
function summary(): string {
  const lines = versions().map((version) => {
    const ofVersion = judged.filter(({ one }) => one.version === version)
    const reasons = new Map<string, number>()
    for (const { why } of ofVersion) {
      if (why !== undefined) reasons.set(why, (reasons.get(why) ?? 0) + 1)
    }
    const run = ofVersion.filter(({ why }) => why === undefined).length
    const left = [...reasons].map(([why, count]) => `    ${count} × ${why}\n`).join('')
    return `KMIP ${version}: ${run} cases run, ${ofVersion.length - run} left out\n${left}`
  })
  return lines.join('')
}
