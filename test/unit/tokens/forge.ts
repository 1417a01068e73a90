import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
} from 'node:crypto'
import type { AttestationResultClaims } from '../../../src/tokens/index.js'
import { imported } from '../../helpers/key-pair.js'

export const ISSUER = 'https://authority.example/attestation'
export const AUDIENCE = 'https://authority.example/key-provider'
export const NOW = 1_795_000_000

export const THUMBPRINT = 'A'.repeat(43)

/** Claims that a key provider accepts, apart from keys. */
export function goodClaims(
  changes: Partial<AttestationResultClaims> = {},
): AttestationResultClaims {
  return {
    iss: ISSUER,
    sub: 'host-1',
    aud: [AUDIENCE],
    iat: NOW,
    nbf: NOW,
    exp: NOW + 300,
    jti: '0f8fad5b-d9cb-469f-a165-70867728950e',
    eat_profile: 'tag:sigillo,2026:attestation-result#1',
    eat_nonce: 'bm9uY2Utbm9uY2U',
    cnf: { jkt: THUMBPRINT },
    ear_verifier_id: { developer: 'sigillo', build: '0.1.0' },
    submods: {
      host: {
        ear_status: 'affirming',
        ear_trustworthiness_vector: { 'instance-identity': 2, executables: 3 },
        ear_appraisal_policy_ids: ['default'],
      },
    },
    sigillo: {
      cluster: 'lab',
      ek: 'ca',
      insecure_test: true,
      policy: { id: 'default', revision: 1, digest: 'ab'.repeat(32) },
      policy_epoch: 1,
      host_epoch: 1,
      boot: { reset_count: 1, restart_count: 0, clock: 1000 },
      session_jwk: { kty: 'EC', crv: 'P-256', x: 'A'.repeat(43), y: 'A'.repeat(43) },
      checks: [{ check: 'quote.signature', ok: true }],
    },
    ...changes,
  }
}

export interface TestKey {
  readonly privateKey: KeyObject
  readonly jwk: {
    readonly kty: string
    readonly crv: string
    readonly x: string
    readonly y: string
  }
}

export function ecKey(namedCurve: 'P-256' | 'P-384' | 'secp256k1' = 'P-256'): TestKey {
  const { privateKey } = imported(generateKeyPairSync('ec', { namedCurve }))
  return { privateKey, jwk: jwkOf(privateKey) }
}

export function importPkcs8(pkcs8: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.from(pkcs8), format: 'der', type: 'pkcs8' })
}

export function jwkOf(privateKey: KeyObject): TestKey['jwk'] {
  const {
    kty = '',
    crv = '',
    x = '',
    y = '',
  } = createPublicKey(privateKey).export({ format: 'jwk' })
  return { kty, crv, x, y }
}

/** JWS compact serialisation of whatever is given, by node:crypto alone. Text parts are taken as they are. */
export function forge(
  header: object | string,
  payload: object | string,
  key: KeyObject,
  digest: string | null = 'sha256',
): string {
  const input = `${part(header)}.${part(payload)}`
  const signature = sign(digest, Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' })
  return `${input}.${signature.toString('base64url')}`
}

export function part(content: object | string): string {
  const text = typeof content === 'string' ? content : JSON.stringify(content)
  return Buffer.from(text).toString('base64url')
}
