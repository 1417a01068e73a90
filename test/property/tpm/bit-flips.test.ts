import { describe, expect, test } from 'vitest'
import { equalBytes, fromHex } from '../../../src/core/bytes.js'
import { DecodeError } from '../../../src/core/errors.js'
import { failures } from '../../../src/core/finding.js'
import { nameOf, parseTpm2bPublic, verifyQuote } from '../../../src/tpm/index.js'
import { MEASURED_BOOT_NONCE, measuredBoot, measuredPcrs } from '../../helpers/vectors.js'

const VARIANT = '01-uki-sb-off'
const enrolledName = measuredBoot(VARIANT, 'ak.name')
const pcrs = Array.from({ length: 24 }, (_, pcr) => pcr)

/** All octets that a verifier relies on when it judges the quote of a real boot. */
const bundle = {
  attest: measuredBoot(VARIANT, 'quote.msg'),
  signature: measuredBoot(VARIANT, 'quote.sig'),
  key: measuredBoot(VARIANT, 'ak.tpmt.pub'),
  nonce: fromHex(MEASURED_BOOT_NONCE),
  values: Uint8Array.from([...measuredPcrs(VARIANT).values()].flatMap((value) => [...value])),
}
type Bundle = typeof bundle

/** The quote is verified by the key that was enrolled, which is known by its name. */
function isAccepted({ attest, signature, key, nonce, values }: Bundle): boolean {
  try {
    const ak = parseTpm2bPublic(key)
    const { findings } = verifyQuote({
      attest,
      signature,
      ak,
      expectedExtraData: nonce,
      selection: { bank: 'sha256', pcrs },
      pcrValues: new Map(pcrs.map((pcr) => [pcr, values.subarray(pcr * 32, (pcr + 1) * 32)])),
    })
    return failures(findings).length === 0 && equalBytes(nameOf(ak), enrolledName)
  } catch (error) {
    if (error instanceof DecodeError) return false
    throw error
  }
}

/** Values reach the verdict through one hash: a bit of each octet shows as much as all do. `SLOW=1` tries all. */
function bitsOf(part: keyof Bundle, index: number): readonly number[] {
  return part === 'values' && process.env['SLOW'] !== '1' ? [index % 8] : [0, 1, 2, 3, 4, 5, 6, 7]
}

test('accepts the bundle as the TPM made it', () => {
  expect(isAccepted(bundle)).toBe(true)
})

describe.each(Object.keys(bundle) as readonly (keyof Bundle)[])('%s', (part) => {
  test('is refused with any single bit of it changed', () => {
    const accepted: string[] = []
    for (let index = 0; index < bundle[part].length; index += 1) {
      for (const bit of bitsOf(part, index)) {
        const octet = bundle[part][index] ?? 0
        const changed = { ...bundle, [part]: bundle[part].with(index, octet ^ (1 << bit)) }
        if (isAccepted(changed)) accepted.push(`octet ${index}, bit ${bit}`)
      }
    }
    expect(accepted).toEqual([])
  })

  test('is refused with an octet more or less at its end', () => {
    const longer = Uint8Array.from([...bundle[part], 0])
    // values are cut into PCRs by the caller: what follows the last one is never looked at
    if (part !== 'values') expect(isAccepted({ ...bundle, [part]: longer })).toBe(false)
    expect(isAccepted({ ...bundle, [part]: bundle[part].subarray(0, -1) })).toBe(false)
  })
})
