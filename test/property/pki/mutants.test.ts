import { expect, test } from 'vitest'
import { equalBytes } from '../../../src/core/bytes.js'
import { DecodeError } from '../../../src/core/errors.js'
import { failures } from '../../../src/core/finding.js'
import {
  parseCertificate,
  parseRevocationList,
  readCertificates,
  spkiOf,
  verifyEkCertificate,
  verifyRevocationList,
} from '../../../src/pki/index.js'
import { authority, revocationList } from '../../helpers/certificates.js'
import {
  chance,
  fastest,
  limitOf,
  MUTANTS,
  MUTANTS_TIMEOUT_MS,
  mutant,
} from '../../helpers/mutants.js'
import { measuredBoot } from '../../helpers/vectors.js'

/** Changed certificates and lists by the hundred thousand: nothing but refusals of ours, none slow, none accepted. */
const VARIANT = '01-uki-sb-off'
const rsa = measuredBoot(VARIANT, 'ek-rsa-cert.der')
const ecc = measuredBoot(VARIANT, 'ek-ecc384-cert.der')
const ca = (name: string) => readCertificates(measuredBoot('ca', `${name}.pem`)).all
const trust = {
  anchors: ca('root'),
  intermediates: [...ca('rsa'), ...ca('ec')],
  revocation: { lists: [], mode: 'present' },
} as const
const keyOf = (octets: Uint8Array) => spkiOf(parseCertificate(octets).publicKey)
const keys = [keyOf(rsa), keyOf(ecc)] as const
const now = Date.parse('2026-11-24')

function isAccepted(octets: Uint8Array, index: number): boolean {
  const ekPublicKeySpki = keys[index] ?? keys[0]
  const { findings } = verifyEkCertificate({ certificate: octets, ekPublicKeySpki, trust, now })
  return failures(findings).length === 0
}

const issuer = authority('Issuer')
const issuerCertificate = parseCertificate(issuer.der)
const lists = [
  revocationList(issuer, { serials: [1, 2, 'abcdef'] }),
  revocationList(issuer),
] as const

interface Codec {
  readonly name: string
  readonly samples: readonly [Uint8Array, Uint8Array]
  readonly parse: (octets: Uint8Array) => unknown
  /** Whether what could be read is taken for something that an authority signed. */
  readonly accepts: (octets: Uint8Array, index: number) => boolean
  /** What was signed: octets around it may differ. */
  readonly signed: (octets: Uint8Array) => Uint8Array
}

const CODECS: readonly Codec[] = [
  {
    name: 'endorsement certificates',
    samples: [rsa, ecc],
    parse: parseCertificate,
    accepts: isAccepted,
    signed: (octets) => parseCertificate(octets).der,
  },
  {
    name: 'revocation lists',
    samples: lists,
    parse: parseRevocationList,
    accepts: (octets) =>
      verifyRevocationList(parseRevocationList(octets), issuerCertificate) === undefined,
    signed: (octets) => parseRevocationList(octets).der,
  },
]

test('the certificates are accepted as they are', () => {
  expect([isAccepted(rsa, 0), isAccepted(ecc, 1)]).toEqual([true, true])
})

test.each(CODECS)(
  `${MUTANTS} changed $name: none accepted, each read or refused soon`,
  ({ name, samples, parse, accepts, signed }) => {
    const next = chance(name.length)
    const counts = { read: 0, slow: 0, accepted: 0 }
    for (let count = 0; count < MUTANTS; count += 1) {
      const index = next(2)
      const original = samples[index] ?? samples[0]
      const octets = mutant(original, samples[1 - index] ?? original, next)
      let isRead = false
      const limit = limitOf(octets)
      const took = fastest(limit, () => {
        isRead = false
        try {
          parse(octets)
          isRead = true
        } catch (error) {
          if (!(error instanceof DecodeError)) throw error
        }
      })
      if (took > limit) counts.slow += 1
      if (!isRead) continue
      counts.read += 1
      if (samples.some((one) => equalBytes(signed(octets), one))) continue
      if (accepts(octets, index)) counts.accepted += 1
    }
    process.stderr.write(
      `mutants of ${name}: ${MUTANTS}, ${counts.read} read, ${counts.accepted} accepted, ${counts.slow} slow\n`,
    )
    expect(counts).toMatchObject({ accepted: 0, slow: 0 })
    expect(counts.read).toBeGreaterThan(MUTANTS / 100)
    expect(counts.read).toBeLessThan(MUTANTS)
  },
  MUTANTS_TIMEOUT_MS,
)
