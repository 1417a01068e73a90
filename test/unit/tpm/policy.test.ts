import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { concat, fromHex, toHex } from '../../../src/core/bytes.js'
import { ByteWriter } from '../../../src/core/reader.js'
import {
  EK_TEMPLATES,
  ENDORSEMENT_NAME,
  encodeSized,
  type HashName,
  policyAuthorizeNvDigest,
  policyOrDigest,
  policyPcrDigest,
  policySecretDigest,
} from '../../../src/tpm/index.js'

/** Policies as the TCG EK Credential Profile prints them in annexes B.3 and B.6. */
const POLICY_A = {
  sha256: '837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa',
  sha384:
    '8bbf2266537c171cb56e403c4dc1d4b64f432611dc386e6f532050c3278c930e143e8bb1133824ccb431053871c6db53',
} as const
const POLICY_C = {
  sha256: '3767e2edd43ff45a3a7e1eaefcef78643dca964632e7aad82c673a30d8633fde',
  sha384:
    'd6032ce61f2fb3c240eb3cf6a33237ef2b6a16f4293c22b455e261cffd217ad5b4947c2d73e63005eed2dc2b3593d165',
} as const
const POLICY_B = {
  sha256: 'ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0',
  sha384:
    'b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12',
} as const
const HASHES = ['sha256', 'sha384'] as const

/** Name of the NV index with the policy that an owner may set: 0x01c07f01 for SHA-256, 0x01c07f02 for SHA-384. */
function policyIndexName(hash: HashName & keyof typeof POLICY_A): Uint8Array {
  const algorithm = hash === 'sha256' ? 0x000b : 0x000c
  const policy = fromHex(POLICY_A[hash])
  const nvPublic = new ByteWriter('big')
    .u32(hash === 'sha256' ? 0x01c07f01 : 0x01c07f02)
    .u16(algorithm)
    .u32(0x220f1008)
    .put(encodeSized(policy))
    .u16(policy.length + 2)
    .finish()
  const digest = createHash(hash).update(nvPublic).digest()
  return concat(new ByteWriter('big').u16(algorithm).finish(), digest)
}

test.each(HASHES)('computes PolicyA of the endorsement key profile for %s', (hash) => {
  expect(toHex(policySecretDigest(ENDORSEMENT_NAME, hash))).toBe(POLICY_A[hash])
})

test.each(HASHES)('computes PolicyC of the endorsement key profile for %s', (hash) => {
  expect(toHex(policyAuthorizeNvDigest(policyIndexName(hash), hash))).toBe(POLICY_C[hash])
})

test.each(HASHES)('computes PolicyB of the endorsement key profile for %s', (hash) => {
  const either = [fromHex(POLICY_A[hash]), fromHex(POLICY_C[hash])]
  expect(toHex(policyOrDigest(either, hash))).toBe(POLICY_B[hash])
})

test('gives the templates of endorsement keys the policies of the profile', () => {
  expect(toHex(EK_TEMPLATES.rsa2048.area.authPolicy)).toBe(POLICY_A.sha256)
  expect(toHex(EK_TEMPLATES.eccP256.area.authPolicy)).toBe(POLICY_A.sha256)
  expect(toHex(EK_TEMPLATES.eccP384.area.authPolicy)).toBe(POLICY_B.sha384)
})

test('gives other PCRs, other values and another bank other policies', () => {
  const values = new Uint8Array(32)
  const policies = [
    policyPcrDigest({ bank: 'sha256', pcrs: [0, 7] }, values),
    policyPcrDigest({ bank: 'sha256', pcrs: [0, 4] }, values),
    policyPcrDigest({ bank: 'sha384', pcrs: [0, 7] }, values),
    policyPcrDigest({ bank: 'sha256', pcrs: [0, 7] }, values.with(0, 1)),
  ]
  expect(new Set(policies.map(toHex)).size).toBe(policies.length)
})
