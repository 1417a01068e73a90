import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { toHex } from '../../../src/core/bytes.js'
import type { Encrypted } from '../../../src/kmip/client/calls.js'
import { settingsOf } from '../../../src/kmip/client/options.js'
import { KmipServer } from '../../../src/kmip/client/server.js'
import { encodeTtlv } from '../../../src/kmip/encode.js'
import { RESULT_STATUS } from '../../../src/kmip/enumerations.js'
import { KmipError, startKmipServer } from '../../../src/kmip/index.js'
import { TAG } from '../../../src/kmip/tags.js'
import { child, children, requiredChild, structure, type Ttlv } from '../../../src/kmip/ttlv.js'
import { versionFromTtlv } from '../../../src/kmip/version.js'
import { saySkipped } from '../../helpers/vectors.js'
import { oasisCases } from '../../vectors/kmip/oasis.js'
import { type Certificate, TestAuthority } from './client-certificates.js'
import { caseMessages } from './oasis-case.js'
import { clientCall } from './oasis-client-call.js'
import { caseBefore, whySkipped } from './oasis-scope.js'

const NOW_MS = Date.UTC(2026, 0, 1)
const all = oasisCases()
if (all.length === 0) saySkipped('kmip', 499)

/** Cases whose every request our client would send as it stands, one at a time. */
const cases = all.flatMap((one) => {
  const isOurs = whySkipped(one, all) === undefined && caseBefore(one, all) === undefined
  if (!isOurs || one.xml.includes('[REPEAT]') || one.xml.includes('$DATA')) return []
  const messages = caseMessages(one.xml, NOW_MS)
  const requests = messages.filter(({ tag }) => tag === TAG.RequestMessage)
  return requests.every(isSentByClient) ? [{ ...one, messages }] : []
})

describe.skipIf(all.length === 0)('the cases of the standard, with our client', () => {
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
    const counts = new Map<string, number>()
    for (const { version } of cases) counts.set(version, (counts.get(version) ?? 0) + 1)
    const text = [...counts].map(([version, count]) => `KMIP ${version}: ${count}`).join(', ')
    process.stderr.write(`cases with our client and our server: ${text}\n`)
  })

  test('are many', () => {
    expect(cases.length).toBeGreaterThan(100)
  })

  test.each(cases)('$version $name ends as the standard says', async ({ messages }) => {
    const [first] = messages
    if (first === undefined) throw new Error('expected messages')
    const version = versionOf(first)
    await using running = await startKmipServer({
      tls: {
        authorities: authority.authority.certificate,
        certificate: server.certificate,
        privateKey: server.key,
      },
      clock: { nowMs: () => NOW_MS, monotonicMs: () => performance.now() },
    })
    const address = { name: 'reference', host: 'localhost', port: running.port }
    const settings = settingsOf({
      servers: [address],
      tls: {
        authorities: authority.authority.certificate,
        certificate: client.certificate,
        privateKey: client.key,
      },
      versions: [version],
    })
    using kmip = new KmipServer(address, settings)
    const chosen: Chosen = { ids: new Map(), data: new Map() }
    for (let index = 0; index < messages.length; index += 2) {
      const [request, expected] = [messages[index], messages[index + 1]]
      if (request === undefined || expected === undefined) throw new Error('expected a pair')
      const item = bound(requiredChild(request, TAG.BatchItem), chosen)
      const wanted = requiredChild(expected, TAG.BatchItem)
      const call = clientCall(item, version)
      if (call === undefined) throw new Error('expected a call')
      const outcome: unknown = await kmip
        .call(call, performance.now() + 10_000)
        .catch((error: unknown) => error)
      const where = `message ${index / 2 + 1}`
      if (requiredChild(wanted, TAG.ResultStatus).value === RESULT_STATUS.Success) {
        expect(outcome, where).not.toBeInstanceOf(Error)
        note(chosen, requiredChild(wanted, TAG.ResponsePayload), outcome)
      } else {
        expect(outcome, where).toBeInstanceOf(KmipError)
        expect(outcome, where).toMatchObject({
          reason: requiredChild(wanted, TAG.ResultReason).value,
        })
      }
    }
  })
})

/** Whether the client would send these very octets in the payload, alone in its batch. */
function isSentByClient(request: Ttlv): boolean {
  const [item, ...others] = children(request, TAG.BatchItem)
  if (item === undefined || others.length > 0) return false
  const header = requiredChild(request, TAG.RequestHeader)
  if (child(header, TAG.Authentication) ?? child(item, TAG.MessageExtension)) return false
  if (child(header, TAG.MaximumResponseSize) !== undefined) return false
  const version = versionOf(request)
  try {
    const call = clientCall(item, version)
    if (call === undefined) return false
    const ours = structure(TAG.RequestPayload, call.payload(version))
    const theirs = requiredChild(item, TAG.RequestPayload)
    return Buffer.from(encodeTtlv(ours)).equals(encodeTtlv(theirs))
  } catch (error) {
    if (error instanceof KmipError) return false
    throw error
  }
}

function versionOf(message: Ttlv) {
  const header = requiredChild(message, TAG.RequestHeader)
  return versionFromTtlv(requiredChild(header, TAG.ProtocolVersion))
}

/** What the server chose, by what the case has in its place. */
interface Chosen {
  readonly ids: Map<string, string>
  /** What was encrypted, in hexadecimal. */
  readonly data: Map<string, Uint8Array>
}

function bound(item: Ttlv, chosen: Chosen): Ttlv {
  if (item.type === 'Structure') {
    return { ...item, value: item.value.map((one) => bound(one, chosen)) }
  }
  if (item.type === 'TextString') {
    return { ...item, value: chosen.ids.get(item.value) ?? item.value }
  }
  if (item.type !== 'ByteString') return item
  return { ...item, value: chosen.data.get(toHex(item.value)) ?? item.value }
}

/** Keeps the id, or what was encrypted, that the server gave for the one of the case. */
function note({ ids, data }: Chosen, payload: Ttlv, outcome: unknown): void {
  const encrypted = child(payload, TAG.Data)
  if (encrypted?.type === 'ByteString' && isEncrypted(outcome)) {
    data.set(toHex(encrypted.value), outcome.data)
  }
  const [item] = children(payload, TAG.UniqueIdentifier)
  if (item?.type !== 'TextString' || ids.has(item.value)) return
  if (typeof outcome === 'string') ids.set(item.value, outcome)
  else if (Array.isArray(outcome) && typeof outcome[0] === 'string') ids.set(item.value, outcome[0])
}

function isEncrypted(outcome: unknown): outcome is Encrypted {
  return typeof outcome === 'object' && outcome !== null && 'data' in outcome
}
