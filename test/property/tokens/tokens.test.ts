import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PlatformError } from '../../../src/core/errors.js'
import { parseStrictJson } from '../../../src/core/strict-json.js'
import {
  decryptSession,
  decryptWithContentKey,
  encryptToSession,
  generateSessionKeys,
  generateSigningKey,
  importJwks,
  peekAttestationResult,
  publicJwks,
  signAttestationResult,
  verifyAttestationResult,
  verifyDpopProof,
} from '../../../src/tokens/index.js'
import { AUDIENCE, goodClaims, ISSUER, NOW, part, THUMBPRINT } from '../../unit/tokens/forge.js'

const numRuns = process.env['SLOW'] ? 100_000 : 400

const signing = await generateSigningKey()
const jwks = await importJwks(publicJwks([signing]))
const session = await generateSessionKeys()
const good = await signAttestationResult(goodClaims(), signing)

const verifyToken = (token: string) =>
  verifyAttestationResult(token, {
    jwks,
    issuer: ISSUER,
    audience: AUDIENCE,
    nowSeconds: NOW,
    skewSeconds: 0,
  })
const verifyProof = (proof: string) =>
  verifyDpopProof(proof, {
    method: 'POST',
    url: 'https://authority.example/a',
    accessToken: good,
    expectedJkt: THUMBPRINT,
    nowSeconds: NOW,
    maxAgeSeconds: 30,
  })
const openSession = (jwe: string) => decryptSession(jwe, session.session.privateKey)
const openTpm = (jwe: string) => decryptWithContentKey(jwe, async () => new Uint8Array(32))

async function refuses(read: () => unknown): Promise<void> {
  const outcome = await Promise.resolve()
    .then(read)
    .then(
      () => 'accepted',
      (error: unknown) => error,
    )
  expect(outcome).toBeInstanceOf(PlatformError)
}

/** Text, text with dots, and parts that are JSON: as near to a token as chance comes. */
const anyToken = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 200 }),
  fc
    .array(fc.string({ maxLength: 40 }), { minLength: 2, maxLength: 6 })
    .map((all) => all.join('.')),
  fc
    .array(fc.jsonValue(), { minLength: 3, maxLength: 5 })
    .map((all) => all.map((value) => part(JSON.stringify(value))).join('.')),
  fc
    .record(
      {
        alg: fc.constantFrom('ES256', 'none', 'HS256', 'ECDH-ES', 'RSA-OAEP-256', 'dir'),
        typ: fc.constantFrom('attest-result+jwt', 'dpop+jwt', 'JWT'),
        kid: fc.constantFrom(signing.kid, 'x'),
        enc: fc.constantFrom('A256GCM', 'A128GCM'),
        jwk: fc.jsonValue(),
        epk: fc.jsonValue(),
      },
      { requiredKeys: ['alg'] },
    )
    .chain((header) => fc.tuple(fc.constant(part(header)), fc.jsonValue(), fc.base64String()))
    .map(([head, claims, rest]) => `${head}.${part(JSON.stringify(claims))}.${rest}`),
)

test('no text of chance is a token, a proof or an answer, and none breaks the reader', async () => {
  await fc.assert(
    fc.asyncProperty(anyToken, async (text) => {
      await refuses(() => verifyToken(text))
      await refuses(() => verifyProof(text))
      await refuses(() => openSession(text))
      await refuses(() => openTpm(text))
      await Promise.resolve()
        .then(() => peekAttestationResult(text))
        .catch((error: unknown) => expect(error).toBeInstanceOf(PlatformError))
    }),
    { numRuns },
  )
})

test('a token with one character changed anywhere is refused', async () => {
  const character = fc.constantFrom(...'ABCxyz019-_.= \n\u00e9')
  await fc.assert(
    fc.asyncProperty(fc.nat(good.length - 1), character, async (index, replacement) => {
      fc.pre(good[index] !== replacement)
      await refuses(() => verifyToken(good.slice(0, index) + replacement + good.slice(index + 1)))
    }),
    { numRuns },
  )
})

test('an answer opens to the octets that went in', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 2000 }), async (octets) => {
      const jwe = await encryptToSession(session.session.publicJwk, octets)
      expect(await openSession(jwe)).toEqual(octets)
    }),
    { numRuns: numRuns / 4 },
  )
})

test('strict JSON reads what JSON.stringify writes, and refuses all else in one way', () => {
  const limits = { maxDepth: 20, maxItems: 10_000 }
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
      const text = JSON.stringify(value)
      let read: unknown
      try {
        read = parseStrictJson(text, limits)
      } catch (error) {
        expect(error).toBeInstanceOf(PlatformError)
        return
      }
      expect(read).toEqual(JSON.parse(text))
    }),
    { numRuns },
  )
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...'{}[]",:\\u0e-1a ') }), (text) => {
      try {
        expect(parseStrictJson(text, limits)).toEqual(JSON.parse(text))
      } catch (error) {
        expect(error).toBeInstanceOf(PlatformError)
      }
    }),
    { numRuns: numRuns * 5 },
  )
})
