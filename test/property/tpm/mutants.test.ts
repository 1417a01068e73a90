import { expect, test } from 'vitest'
import { equalBytes, fromHex } from '../../../src/core/bytes.js'
import { DecodeError } from '../../../src/core/errors.js'
import { failures } from '../../../src/core/finding.js'
import {
  encodePublicArea,
  nameOf,
  parseAttest,
  parsePublicArea,
  parseSignature,
  parseTpm2bPublic,
  verifyQuote,
} from '../../../src/tpm/index.js'
import {
  chance,
  fastest,
  limitOf,
  MUTANTS,
  MUTANTS_TIMEOUT_MS,
  mutant,
} from '../../helpers/mutants.js'
import { MEASURED_BOOT_NONCE, measuredBoot, measuredPcrs } from '../../helpers/vectors.js'

/** Changed structures of a TPM by the hundred thousand: nothing but refusals of ours, none slow, none accepted. */
const VARIANT = '01-uki-sb-off'
const file = (name: string) => measuredBoot(VARIANT, name)
const keys = {
  ecdsa: parseTpm2bPublic(file('ak.tpmt.pub')),
  rsa: parseTpm2bPublic(file('akr.tpmt.pub')),
}
const areas = [encodePublicArea(keys.ecdsa), encodePublicArea(keys.rsa)] as const
const attests = [file('quote.msg'), file('quote-rsa.msg')] as const
const signatures = [file('quote.sig'), file('quote-rsa.sig')] as const
const values = measuredPcrs(VARIANT)

/** Whether the quote of one of the two keys is accepted with these octets in its place. */
function isAccepted(index: 0 | 1, attest: Uint8Array, signature: Uint8Array): boolean {
  const pcrs = Array.from({ length: index === 0 ? 24 : 15 }, (_, pcr) => pcr)
  const { findings } = verifyQuote({
    attest,
    signature,
    ak: index === 0 ? keys.ecdsa : keys.rsa,
    expectedExtraData: fromHex(MEASURED_BOOT_NONCE),
    selection: { bank: 'sha256', pcrs },
    pcrValues: new Map(pcrs.map((pcr) => [pcr, values.get(pcr) ?? new Uint8Array()])),
  })
  return failures(findings).length === 0
}

test('the quotes are accepted as the TPM made them', () => {
  expect([0, 1].map((index) => isAccepted(index as 0 | 1, ...pair(index)))).toEqual([true, true])
})

const pair = (index: number): [Uint8Array, Uint8Array] => [
  attests[index] ?? new Uint8Array(),
  signatures[index] ?? new Uint8Array(),
]

interface Codec {
  readonly name: string
  readonly samples: readonly [Uint8Array, Uint8Array]
  readonly parse: (octets: Uint8Array) => unknown
  /** Whether what could be read is taken for what the TPM made. */
  readonly accepts: (octets: Uint8Array, index: 0 | 1) => boolean
}

const CODECS: readonly Codec[] = [
  {
    name: 'TPMS_ATTEST',
    samples: attests,
    parse: parseAttest,
    accepts: (octets, index) => isAccepted(index, octets, pair(index)[1]),
  },
  {
    name: 'TPMT_SIGNATURE',
    samples: signatures,
    parse: parseSignature,
    accepts: (octets, index) => isAccepted(index, pair(index)[0], octets),
  },
  {
    name: 'TPMT_PUBLIC',
    samples: areas,
    parse: parsePublicArea,
    // A key is known by its name, which is over all of its octets
    accepts: (octets, index) =>
      equalBytes(nameOf(parsePublicArea(octets)), nameOf(index === 0 ? keys.ecdsa : keys.rsa)),
  },
]

test.each(CODECS)(
  `${MUTANTS} changed $name: none accepted, each read or refused soon`,
  ({ name, samples, parse, accepts }) => {
    const next = chance(name.length)
    const counts = { read: 0, slow: 0, accepted: 0 }
    for (let count = 0; count < MUTANTS; count += 1) {
      const index = next(2) === 0 ? 0 : 1
      const octets = mutant(samples[index], samples[1 - index] ?? samples[0], next)
      if (equalBytes(octets, samples[index])) continue
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
