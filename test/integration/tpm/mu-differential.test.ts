import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type MuType, muRoundTrip } from '../../../native/index.js'
import { toHex } from '../../../src/core/bytes.js'
import { DecodeError } from '../../../src/core/errors.js'
import {
  attestationKeyTemplate,
  bindingKeyTemplate,
  EK_TEMPLATES,
  encodeAttest,
  encodePcrSelections,
  encodePublicArea,
  encodeSignature,
  encodeTpm2bPublic,
  makeCredential,
  parseAttest,
  parsePcrSelections,
  parsePublicArea,
  parseSignature,
  parseTpm2bPublic,
  STORAGE_PRIMARY_TEMPLATE,
} from '../../../src/tpm/index.js'
import { softwareKey } from '../../helpers/software-key.js'
import { MEASURED_BOOT_VARIANTS, measuredBoot } from '../../helpers/vectors.js'

const files = (...names: readonly string[]) =>
  MEASURED_BOOT_VARIANTS.flatMap((variant) => names.map((name) => measuredBoot(variant, name)))

interface Compared {
  readonly type: MuType
  /** Reads and writes again with the code under test. */
  readonly again: (octets: Uint8Array) => Uint8Array
  readonly samples: readonly Uint8Array[]
}

const COMPARED: readonly Compared[] = [
  {
    type: 'TPMS_ATTEST',
    again: (octets) => encodeAttest(parseAttest(octets)),
    samples: files('quote.msg', 'quote-rsa.msg'),
  },
  {
    type: 'TPMT_SIGNATURE',
    again: (octets) => encodeSignature(parseSignature(octets)),
    samples: files('quote.sig', 'quote-rsa.sig'),
  },
  {
    type: 'TPM2B_PUBLIC',
    again: (octets) => encodeTpm2bPublic(parseTpm2bPublic(octets)),
    samples: files('ak.tpmt.pub', 'akr.tpmt.pub', 'ek.tpm2b_public'),
  },
  {
    type: 'TPMT_PUBLIC',
    again: (octets) => encodePublicArea(parsePublicArea(octets)),
    samples: [
      ...Object.values(EK_TEMPLATES).map(({ publicArea }) => publicArea),
      ...(['ecc-p256', 'ecc-p384', 'rsa-2048', 'rsa-2048-pss', 'rsa-3072'] as const).map(
        attestationKeyTemplate,
      ),
      bindingKeyTemplate(new Uint8Array(32)),
      STORAGE_PRIMARY_TEMPLATE,
    ],
  },
  {
    type: 'TPML_PCR_SELECTION',
    again: (octets) => encodePcrSelections(parsePcrSelections(octets)),
    samples: [
      encodePcrSelections([]),
      encodePcrSelections([{ bank: 'sha256', pcrs: [] }]),
      encodePcrSelections([
        { bank: 'sha1', pcrs: [0] },
        { bank: 'sha256', pcrs: [0, 7, 23] },
        { bank: 'sha384', pcrs: [8] },
        { bank: 'sha512', pcrs: [16] },
      ]),
    ],
  },
]

function outcome(read: (octets: Uint8Array) => Uint8Array, octets: Uint8Array): string {
  try {
    return toHex(read(octets))
  } catch (error) {
    if (error instanceof DecodeError) return 'refused'
    throw error
  }
}

describe.each(COMPARED)('$type', ({ type, again, samples }) => {
  test('is read and written by tpm2-tss and by us to the same octets', () => {
    for (const sample of samples) {
      expect(toHex(muRoundTrip(type, sample))).toBe(toHex(sample))
      expect(toHex(again(sample))).toBe(toHex(sample))
    }
  })

  test('is read by tpm2-tss, to the same octets, wherever it is read by us', () => {
    let read = 0
    const changed = fc
      .tuple(
        fc.constantFrom(...samples),
        fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 2 }),
        fc.nat({ max: 3 }),
      )
      .map(([sample, edits, cut]) => {
        const octets = sample.slice(0, sample.length - (cut === 3 ? 1 : 0))
        for (const [position, value] of edits) octets[position % octets.length] = value
        return octets
      })
    fc.assert(
      fc.property(changed, (octets) => {
        const ours = outcome(again, octets)
        if (ours === 'refused') return
        read += 1
        expect(outcome((wire) => muRoundTrip(type, wire), octets)).toBe(ours)
      }),
      { numRuns: 500 },
    )
    expect(read).toBeGreaterThan(50)
  })
})

test('a credential is two structures that tpm2-tss reads to their ends', () => {
  for (const { area } of Object.values(EK_TEMPLATES)) {
    const ek = softwareKey(area).area
    const akName = new Uint8Array(34).fill(1)
    const made = makeCredential({ ek, akName, secret: new Uint8Array(32) })
    const { credentialBlob, encryptedSecret } = made
    expect(toHex(muRoundTrip('TPM2B_ID_OBJECT', credentialBlob))).toBe(toHex(credentialBlob))
    expect(toHex(muRoundTrip('TPM2B_ENCRYPTED_SECRET', encryptedSecret))).toBe(
      toHex(encryptedSecret),
    )
  }
})
