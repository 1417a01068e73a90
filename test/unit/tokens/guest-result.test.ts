import type { KeyObject } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  type AttestationResultClaims,
  exportSigningKey,
  type GuestResultClaims,
  type GuestResultExpectations,
  generateSigningKey,
  importJwks,
  publicJwks,
  type SigningKey,
  signAttestationResult,
  signGuestResult,
  type VerificationKeys,
  verifyAttestationResult,
  verifyGuestResult,
} from '../../../src/tokens/index.js'
import { AUDIENCE, forge, goodClaims, ISSUER, importPkcs8, NOW } from './forge.js'

const VM = '5f0c8f0a-1b2c-4d3e-8f90-123456789abc'
const OTHER_VM = '00000000-0000-4000-8000-000000000000'

let key: SigningKey
let raw: KeyObject
let jwks: VerificationKeys

beforeAll(async () => {
  key = await generateSigningKey()
  raw = importPkcs8(await exportSigningKey(key))
  jwks = await importJwks(publicJwks([key]))
})

const hostToken = (changes: Partial<AttestationResultClaims> = {}, by = key) =>
  signAttestationResult(goodClaims(changes), by)

async function guestClaims(changes: Partial<GuestResultClaims> = {}): Promise<GuestResultClaims> {
  return {
    iss: ISSUER,
    sub: `urn:uuid:${VM}`,
    aud: [AUDIENCE],
    iat: NOW,
    nbf: NOW,
    exp: NOW + 120,
    jti: '7c9e6679-7425-40de-944b-e07fc1f90ae7',
    eat_profile: 'tag:sigillo,2026:guest-attestation-result#1',
    eat_nonce: 'bm9uY2Utbm9uY2U',
    ear_verifier_id: { developer: 'sigillo', build: '0.1.0' },
    submods: {
      vm: {
        ear_status: 'affirming',
        ear_trustworthiness_vector: { 'instance-identity': 2 },
        ear_appraisal_policy_ids: ['guests:lab#0'],
      },
      host: goodClaims().submods.host,
    },
    sigillo: {
      vm: { id: VM, ek: 'ab'.repeat(32), certificate: 'cd'.repeat(32) },
      host: { id: 'host-1', token: await hostToken() },
      insecure_test: true,
      policy: { id: 'lab', revision: 0, digest: 'ef'.repeat(32) },
      checks: [{ check: 'quote.signature', ok: true }],
    },
    ...changes,
  }
}

async function withHost(
  host: Partial<GuestResultClaims['sigillo']['host']>,
  changes: Partial<GuestResultClaims> = {},
): Promise<string> {
  const claims = await guestClaims(changes)
  const sigillo = { ...claims.sigillo, host: { ...claims.sigillo.host, ...host } }
  return signGuestResult({ ...claims, sigillo }, key)
}

function verify(token: string, changes: Partial<GuestResultExpectations> = {}) {
  return verifyGuestResult(token, {
    jwks,
    issuer: ISSUER,
    audience: AUDIENCE,
    nowSeconds: NOW,
    skewSeconds: 5,
    vmId: VM,
    ...changes,
  })
}

describe('a token about a VM', () => {
  test('gives back what it says of the VM and of its host', async () => {
    const claims = await guestClaims()
    const { vm, host } = await verify(await signGuestResult(claims, key))
    expect(vm).toEqual(claims)
    expect(host).toEqual(goodClaims())
  })

  test('may be bound to a key of the guest', async () => {
    const claims = await guestClaims({ cnf: { jkt: 'B'.repeat(43) } })
    expect((await verify(await signGuestResult(claims, key))).vm.cnf).toEqual(claims.cnf)
  })

  test('is no token of a host, and the reverse', async () => {
    const expected = { jwks, issuer: ISSUER, audience: AUDIENCE, nowSeconds: NOW, skewSeconds: 5 }
    const token = await signGuestResult(await guestClaims(), key)
    await expect(verifyAttestationResult(token, expected)).rejects.toMatchObject({
      code: expect.stringMatching(/^TOKEN_TYPE$/),
    })
    await expect(verify(await hostToken())).rejects.toMatchObject({ code: 'TOKEN_TYPE' })
  })
})

describe('refuses', () => {
  test('a token about another VM', async () => {
    const token = await signGuestResult(await guestClaims(), key)
    await expect(verify(token, { vmId: OTHER_VM })).rejects.toMatchObject({ code: 'TOKEN_VM' })
    const claims = await guestClaims({ sub: `urn:uuid:${OTHER_VM}` })
    await expect(verify(await signGuestResult(claims, key))).rejects.toMatchObject({
      code: 'TOKEN_CLAIMS',
    })
  })

  test('a token that has expired, or is for somebody else', async () => {
    const token = await signGuestResult(await guestClaims(), key)
    const refused = async (changes: Partial<GuestResultExpectations>, code: string) =>
      expect(verify(token, changes)).rejects.toMatchObject({ code })
    await refused({ nowSeconds: NOW + 126 }, 'TOKEN_EXPIRED')
    await refused({ audience: 'https://other.example' }, 'TOKEN_AUDIENCE')
    await refused({ issuer: 'https://other.example' }, 'TOKEN_ISSUER')
    await refused(
      { jwks: await importJwks(publicJwks([await generateSigningKey()])) },
      'TOKEN_KEY_UNKNOWN',
    )
  })

  test('a host part that has expired', async () => {
    const token = await withHost({ token: await hostToken({ exp: NOW + 60 }) }, { exp: NOW + 60 })
    await verify(token)
    // An issuer that lets the outer token live longer is found out before that
    const longer = await withHost({ token: await hostToken({ exp: NOW + 60 }) })
    await expect(verify(longer)).rejects.toMatchObject({ code: 'TOKEN_HOST_PART' })
    await expect(verify(longer, { nowSeconds: NOW + 66 })).rejects.toMatchObject({
      code: 'TOKEN_HOST_EXPIRED',
    })
  })

  test('a host part of another issuer, or by another key', async () => {
    const foreign = await withHost({ token: await hostToken({ iss: 'https://other.example' }) })
    await expect(verify(foreign)).rejects.toMatchObject({
      code: 'TOKEN_HOST_PART',
      cause: { code: 'TOKEN_ISSUER' },
    })
    const byOther = await withHost({ token: await hostToken({}, await generateSigningKey()) })
    await expect(verify(byOther)).rejects.toMatchObject({
      code: 'TOKEN_HOST_PART',
      cause: { code: 'TOKEN_KEY_UNKNOWN' },
    })
  })

  test('a host part of another host, or with another appraisal than it says', async () => {
    await expect(verify(await withHost({ id: 'host-2' }))).rejects.toMatchObject({
      code: 'TOKEN_HOST_PART',
    })
    const { submods } = await guestClaims()
    const better = { ...submods, host: { ...submods.host, ear_status: 'none' as const } }
    await expect(verify(await withHost({}, { submods: better }))).rejects.toMatchObject({
      code: 'TOKEN_HOST_PART',
    })
  })

  test('a token that hides that a test authority stands behind the host', async () => {
    const claims = await guestClaims()
    const sigillo = { ...claims.sigillo, insecure_test: false }
    const token = await signGuestResult({ ...claims, sigillo }, key)
    await expect(verify(token)).rejects.toMatchObject({ code: 'TOKEN_HOST_PART' })
  })

  test('claims beyond the profile, at every level', async () => {
    const claims = await guestClaims()
    const header = { alg: 'ES256', kid: key.kid, typ: 'guest-attest-result+jwt' }
    for (const payload of [
      { ...claims, admin: true },
      { ...claims, sigillo: { ...claims.sigillo, admin: true } },
      { ...claims, submods: { ...claims.submods, other: claims.submods.vm } },
      { ...claims, submods: { vm: claims.submods.vm } },
      { ...claims, eat_profile: 'tag:sigillo,2026:attestation-result#1' },
    ]) {
      await expect(verify(forge(header, payload, raw))).rejects.toMatchObject({
        code: 'TOKEN_CLAIMS',
      })
    }
  })
})
