import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { fromHex, toHex } from '../../src/core/bytes.js'
import { parseEnvelope, unwrapKey, wrapKey } from '../../src/envelope/index.js'

const vector = JSON.parse(
  readFileSync(new URL('./wrapped-key/vector.json', import.meta.url), 'utf8'),
)
const primary = {
  providerId: vector.provider,
  version: vector.version,
  octets: fromHex(vector.primary),
}

test('wraps as an independent implementation does, octet by octet', () => {
  const wrapped = wrapKey({
    primary,
    purpose: vector.purpose,
    context: vector.context,
    dek: fromHex(vector.dek),
    random: fromHex(vector.random),
  })
  expect(wrapped).toBe(vector.wrapped)
})

test('opens what an independent implementation wrapped', () => {
  const envelope = parseEnvelope(vector.wrapped)
  const dek = unwrapKey({ primary, envelope, purpose: vector.purpose, context: vector.context })
  expect(toHex(dek)).toBe(vector.dek)
})
