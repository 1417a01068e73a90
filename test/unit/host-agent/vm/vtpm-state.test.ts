import { createCipheriv, createHmac, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isPlatformError } from '../../../../src/core/errors.js'
import { ByteWriter } from '../../../../src/core/reader.js'
import { Secret } from '../../../../src/core/secret.js'
import {
  decryptVtpmState,
  parseVtpmState,
  verifyVtpmState,
} from '../../../../src/host-agent/vm/vtpm-state.js'

const KEY = randomBytes(32)
const PLAIN = randomBytes(320)
const dek = () => new Secret(Uint8Array.from(KEY))

test('a state verifies and decrypts with the key that it was written under', () => {
  const state = parseVtpmState(writeState())
  expect(verifyVtpmState(state, dek())).toBe(true)
  decryptVtpmState(state, dek()).use((plain) => expect(PLAIN.equals(plain)).toBe(true))
})

test('a state does not verify with another key', () => {
  expect(verifyVtpmState(parseVtpmState(writeState()), new Secret(new Uint8Array(32)))).toBe(false)
})

test('a state with any bit of another value is refused', () => {
  const octets = writeState()
  for (let bit = 0; bit < octets.length * 8; bit += 1) {
    const altered = octets.slice()
    altered[bit >> 3] = (altered[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    expect(isAccepted(altered), `bit ${bit}`).toBe(false)
  }
})

test.each([
  ['a plain state', 0x0000],
  ['a state with a key of 128 bits', 0x0001],
  ['a migration blob', 0x0016],
])('%s is refused', (_, flags) => {
  expect(() => parseVtpmState(writeState(flags))).toThrow(
    expect.objectContaining({ code: 'DECODE_VALUE' }),
  )
})

test('an empty, a cut and a prolonged state are refused', () => {
  const octets = writeState()
  const prolonged = Buffer.concat([octets, Buffer.alloc(1)])
  for (const wrong of [octets.subarray(0, 0), octets.subarray(0, -1), prolonged]) {
    expect(isAccepted(wrong)).toBe(false)
  }
})

test('any octets are either a state or refused with a code', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (octets) => !isAccepted(octets)))
})

function isAccepted(octets: Uint8Array): boolean {
  try {
    return verifyVtpmState(parseVtpmState(octets), dek())
  } catch (error) {
    if (isPlatformError(error)) return false
    throw error
  }
}

/** As swtpm 0.7.1 writes it: header, ciphertext, HMAC over ciphertext and IV, IV stored in 32 octets. */
function writeState(flags = 0x0009): Uint8Array {
  const iv = randomBytes(32)
  const cipher = createCipheriv('aes-256-cbc', KEY, iv.subarray(0, 16)).setAutoPadding(false)
  const ciphertext = Buffer.concat([cipher.update(PLAIN), cipher.final()])
  const hmac = createHmac('sha256', KEY).update(ciphertext).update(iv).digest()
  const body = new ByteWriter('big')
  for (const [tag, octets] of [
    [2, ciphertext],
    [3, hmac],
    [6, iv],
  ] as const) {
    body.u16(tag).u32(octets.length).put(octets)
  }
  const elements = body.finish()
  const header = new ByteWriter('big')
    .u8(2)
    .u8(1)
    .u16(10)
    .u16(flags)
    .u32(elements.length + 10)
  return header.put(elements).finish()
}
