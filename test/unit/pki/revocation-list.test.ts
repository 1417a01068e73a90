import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import {
  createAuthority,
  issueRevocationList,
  parseCertificate,
  parseRevocationList,
  verifyRevocationList,
} from '../../../src/pki/index.js'
import {
  authority,
  basicConstraints,
  certificate,
  commonName,
  ecKeys,
  extension,
  integer,
  keyUsage,
  pemOf,
  RSA_SHA1,
  revocationList,
  sequence,
} from '../../helpers/certificates.js'
import { processorMsOf } from '../../helpers/processor-time.js'

const issuer = authority('Issuer')
const CRL = 'X509 CRL'

describe('a revocation list', () => {
  test('has its authority, its dates and the serial numbers of what was revoked', () => {
    const list = parseRevocationList(revocationList(issuer, { serials: [1, 'ff01'] }))
    expect(list.issuer).toBe('CN=Issuer')
    expect([...list.serials]).toEqual(['01', '00ff01'])
    expect(list.nextUpdateMs).toBeGreaterThan(list.thisUpdateMs)
    expect(verifyRevocationList(list, parseCertificate(issuer.der))).toBeUndefined()
  })

  test('may be empty, and may be PEM', () => {
    const octets = revocationList(issuer)
    const list = parseRevocationList(Buffer.from(pemOf(CRL, octets)))
    expect(list.serials.size).toBe(0)
    expect(list.der).toEqual(octets)
  })

  test('may have ten thousand entries, and is read in less than a second', async () => {
    const serials = Array.from({ length: 10_000 }, (_, index) => index + 1)
    const octets = revocationList(issuer, { serials })
    const took = await processorMsOf(() => {
      expect(parseRevocationList(octets).serials.size).toBe(10_000)
    })
    expect(took).toBeLessThan(1000)
  })

  test.each<[string, string, Uint8Array]>([
    ['nothing', 'CRL_UNREADABLE', new Uint8Array()],
    ['a certificate', 'CRL_UNREADABLE', issuer.der],
    [
      'a list with something after it',
      'CRL_UNREADABLE',
      Buffer.concat([revocationList(issuer), Uint8Array.of(0)]),
    ],
    ['half of a list', 'CRL_UNREADABLE', revocationList(issuer).subarray(0, 90)],
    ['version 1', 'CRL_UNREADABLE', revocationList(issuer, { version: 0 })],
    ['too much', 'CRL_TOO_LARGE', new Uint8Array(17 * 1024 * 1024)],
    ['two lists', 'CRL_UNREADABLE', Buffer.from(pemOf(CRL, revocationList(issuer)).repeat(2))],
    ['the changes of a list', 'CRL_DELTA', withExtension('2.5.29.27', integer(1))],
    ['a list of some certificates', 'CRL_SCOPE', withExtension('2.5.29.28', sequence())],
    [
      'what nobody knows and is critical',
      'CRL_CRITICAL_EXTENSION',
      withExtension('1.2.3.4', sequence()),
    ],
    [
      'certificates of others',
      'CRL_CRITICAL_EXTENSION',
      revocationList(issuer, {
        serials: [1],
        entryExtensions: [extension('2.5.29.29', sequence(), true)],
      }),
    ],
  ])('is not %s (%s)', (_, code, octets) => {
    expect(() => parseRevocationList(octets)).toThrow(expect.objectContaining({ code }))
  })
})

function withExtension(id: string, value: Uint8Array): Uint8Array {
  return revocationList(issuer, { extensions: [extension(id, value, true)] })
}

describe('the word of an authority', () => {
  const list = parseRevocationList(revocationList(issuer, { serials: [1] }))

  test('is not that of one with the same name and another key', () => {
    const other = parseCertificate(authority('Issuer').der)
    expect(verifyRevocationList(list, other)).toBe('CHAIN_SIGNATURE')
  })

  test('is not that of one with another name and the same key', () => {
    const other = parseCertificate(authority('Other', { keys: issuer.keys }).der)
    expect(verifyRevocationList(list, other)).toBe('CRL_ISSUER')
  })

  test('is not that of a certificate that is of no authority', () => {
    const octets = certificate({
      issuer,
      subject: commonName('Issuer'),
      publicKey: issuer.keys.publicKey,
      extensions: [basicConstraints(false)],
    })
    expect(verifyRevocationList(list, parseCertificate(octets))).toBe('CRL_ISSUER')
  })

  test('is not that of one that may not sign lists', () => {
    const keys = ecKeys()
    const some = authority('Some', { keys, extensions: [basicConstraints(true), keyUsage(5)] })
    const octets = revocationList(some)
    expect(verifyRevocationList(parseRevocationList(octets), parseCertificate(some.der))).toBe(
      'CHAIN_KEY_USAGE',
    )
  })

  test('is not signed with SHA-1', () => {
    const rsa = authority('RSA', { keys: generateKeyPairSync('rsa', { modulusLength: 2048 }) })
    const octets = revocationList(rsa, { algorithm: RSA_SHA1, hash: 'sha1' })
    expect(verifyRevocationList(parseRevocationList(octets), parseCertificate(rsa.der))).toBe(
      'CHAIN_SHA1',
    )
  })

  test('is not what was changed in any bit', () => {
    const octets = revocationList(issuer, { serials: [1] })
    const trusted = parseCertificate(issuer.der)
    for (let bit = 0; bit < octets.length * 8; bit += 1) {
      const changed = octets.slice()
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(outcome(changed, trusted), `bit ${bit}`).not.toBe('accepted')
    }
  })
})

function outcome(octets: Uint8Array, trusted: ReturnType<typeof parseCertificate>): string {
  try {
    return verifyRevocationList(parseRevocationList(octets), trusted) ?? 'accepted'
  } catch (error) {
    expect(error).toMatchObject({ code: expect.stringMatching(/^CRL_/) })
    return 'refused'
  }
}

describe('the list of an authority of this site', () => {
  const now = Date.UTC(2026, 10, 26, 3)
  const HOUR = 3_600_000
  const revoked = [
    { serial: '4a01', revokedAtMs: now - HOUR, reason: 'key-compromise' },
    { serial: '00ff02', revokedAtMs: now, reason: 'superseded' },
  ] as const

  test.each(['p256', 'p384', 'rsa3072'] as const)(
    'is read back, signed with %s',
    async (keyType) => {
      const ca = await createAuthority({
        commonName: 'Größe & Söhne',
        keyType,
        validityDays: 9,
        now,
      })
      const der = issueRevocationList(ca, {
        ...{ number: 2 ** 40, thisUpdateMs: now, nextUpdateMs: now + HOUR, revoked },
      })
      const list = parseRevocationList(der)
      expect([...list.serials]).toEqual(['4a01', '00ff02'])
      expect(list.thisUpdateMs).toBe(now)
      expect(list.nextUpdateMs).toBe(now + HOUR)
      expect(verifyRevocationList(list, parseCertificate(ca.certificateDer))).toBeUndefined()
      const other = await createAuthority({
        ...{ commonName: 'Größe & Söhne', keyType, validityDays: 9, now },
      })
      expect(verifyRevocationList(list, parseCertificate(other.certificateDer))).toBe(
        'CHAIN_SIGNATURE',
      )
    },
  )

  test('has no entries rather than an empty sequence of them, and dates beyond 2049', async () => {
    const ca = await createAuthority({
      ...{ commonName: 'Site', keyType: 'p256', validityDays: 20_000, now },
    })
    const nextUpdateMs = Date.UTC(2050, 0, 1)
    const list = parseRevocationList(
      issueRevocationList(ca, {
        number: 1,
        thisUpdateMs: nextUpdateMs - 1000,
        nextUpdateMs,
        revoked: [],
      }),
    )
    expect(list.serials.size).toBe(0)
    expect(list.nextUpdateMs).toBe(nextUpdateMs)
    expect(list.thisUpdateMs).toBe(nextUpdateMs - 1000)
  })

  test('may have that of thousands of virtual TPMs on it', async () => {
    const ca = await createAuthority({ commonName: 'Site', keyType: 'p384', validityDays: 9, now })
    const many = Array.from({ length: 20_000 }, (_, index) => ({
      serial: `40${index.toString(16).padStart(30, '0')}`,
      ...{ revokedAtMs: now, reason: 'cessation-of-operation' as const },
    }))
    const list = issueRevocationList(ca, {
      ...{ number: 1, thisUpdateMs: now, nextUpdateMs: now + HOUR, revoked: many },
    })
    expect(parseRevocationList(list).serials.size).toBe(many.length)
  })
})
