import { Type } from 'typebox'
import { beforeAll, beforeEach, expect, test } from 'vitest'
import { operation } from '../../../src/api/operation.js'
import {
  type App,
  addOperation,
  type HostAccess,
  hostAccess,
  type Refusal,
} from '../../../src/http/index.js'
import {
  createDpopProof,
  generateSessionKeys,
  generateSigningKey,
  importJwks,
  jwkThumbprint,
  publicJwks,
  type SessionKeys,
  type SigningKey,
  signAttestationResult,
  type VerificationKeys,
} from '../../../src/tokens/index.js'
import { AUDIENCE, goodClaims, ISSUER, NOW } from '../tokens/forge.js'
import { ADMIN, fixedClock, testApp } from './harness.js'

const PUBLIC_URL = 'https://authority.example:8440'
const PATH = '/key-provider/v1/providers/main/unwrap'
const closed = { additionalProperties: false }

let signing: SigningKey
let keys: SessionKeys
let jwks: VerificationKeys
let token: string
let app: App
let hosts: HostAccess
let refusals: Refusal[]

beforeAll(async () => {
  signing = await generateSigningKey()
  keys = await generateSessionKeys()
  jwks = await importJwks(publicJwks([signing]))
  token = await signAttestationResult(
    goodClaims({ cnf: { jkt: jwkThumbprint(keys.dpop.publicJwk) } }),
    signing,
  )
})

beforeEach(async () => {
  refusals = []
  hosts = hostAccess({
    publicUrl: PUBLIC_URL,
    audience: AUDIENCE,
    keysOf: async (issuer) => (issuer === ISSUER ? jwks : undefined),
    clock: fixedClock(NOW),
    skewSeconds: 5,
    proofMaxAgeSeconds: 30,
    onRefused: async (refusal) => {
      refusals.push(refusal)
    },
  })
  app = await testApp({ hosts })
  const unwrap = operation({
    id: 'unwrap',
    summary: '',
    method: 'POST',
    path: '/key-provider/v1/providers/:provider/unwrap',
    status: 200,
    params: Type.Object({ provider: Type.String({ maxLength: 63 }) }, closed),
    body: Type.Object({}, closed),
    answer: Type.Object({ host: Type.String(), jti: Type.String(), until: Type.Integer() }, closed),
  })
  addOperation(app, unwrap, { access: 'host' }, async ({ request }) => {
    const { claims, proof, recordUntilSeconds } = await hosts.authenticate(request)
    return { host: claims.sub, jti: proof.jti, until: recordUntilSeconds }
  })
})

type ProofChanges = Partial<Parameters<typeof createDpopProof>[0]>

function proofOf(changes: ProofChanges = {}): Promise<string> {
  return createDpopProof({
    key: keys.dpop,
    method: 'POST',
    url: PUBLIC_URL + PATH,
    accessToken: token,
    nowSeconds: NOW,
    ...changes,
  })
}

function call(headers: Record<string, string>, url = PATH) {
  return app.inject({ method: 'POST', url, headers, payload: {} })
}

test('a host with token and proof is let through, and its proof given for the record', async () => {
  const answer = await call({ authorization: `DPoP ${token}`, dpop: await proofOf() })
  expect(answer.statusCode).toBe(200)
  expect(answer.json()).toEqual({
    host: 'host-1',
    jti: expect.stringMatching(/^[\w-]{22}$/),
    until: NOW + 31,
  })
  expect(refusals).toEqual([])
})

test('the Host header does not decide what the proof is for', async () => {
  const headers = { authorization: `DPoP ${token}`, dpop: await proofOf(), host: 'evil.example' }
  expect((await call(headers)).statusCode).toBe(200)
  const url = `https://evil.example${PATH}`
  expect((await call({ ...headers, dpop: await proofOf({ url }) })).statusCode).toBe(401)
})

const attacks: readonly (readonly [
  claim: string,
  code: string,
  headers: () => Promise<Record<string, string>>,
])[] = [
  ['no credentials', 'UNAUTHENTICATED', async () => ({})],
  ['a token without proof', 'UNAUTHENTICATED', async () => ({ authorization: `DPoP ${token}` })],
  [
    'the token as bearer',
    'UNAUTHENTICATED',
    async () => ({ authorization: `Bearer ${token}`, dpop: await proofOf() }),
  ],
  [
    'the token of an operator',
    'UNAUTHENTICATED',
    async () => ({ authorization: `Bearer ${ADMIN}` }),
  ],
  [
    'the token of an operator as DPoP',
    'TOKEN_MALFORMED',
    async () => ({ authorization: `DPoP ${ADMIN}`, dpop: await proofOf() }),
  ],
  [
    'a proof as token',
    'TOKEN_MALFORMED',
    async () => ({ authorization: `DPoP ${await proofOf()}`, dpop: await proofOf() }),
  ],
  [
    'the token as proof',
    'DPOP_TYPE',
    async () => ({ authorization: `DPoP ${token}`, dpop: token }),
  ],
  [
    'two proofs',
    'DPOP_MALFORMED',
    async () => ({
      authorization: `DPoP ${token}`,
      dpop: `${await proofOf()}, ${await proofOf()}`,
    }),
  ],
  [
    'a stolen token with a key of the thief',
    'DPOP_KEY',
    async () => ({
      authorization: `DPoP ${token}`,
      dpop: await proofOf({ key: (await generateSessionKeys()).dpop }),
    }),
  ],
  [
    'a proof for another method',
    'DPOP_METHOD',
    async () => ({ authorization: `DPoP ${token}`, dpop: await proofOf({ method: 'GET' }) }),
  ],
  [
    'a proof for another path',
    'DPOP_URI',
    async () => ({
      authorization: `DPoP ${token}`,
      dpop: await proofOf({ url: `${PUBLIC_URL}/key-provider/v1/providers/main/wrap` }),
    }),
  ],
  [
    'a proof of a minute ago',
    'DPOP_TIME',
    async () => ({ authorization: `DPoP ${token}`, dpop: await proofOf({ nowSeconds: NOW - 60 }) }),
  ],
  [
    'a proof for another token',
    'DPOP_TOKEN_HASH',
    async () => ({ authorization: `DPoP ${token}`, dpop: await proofOf({ accessToken: 'other' }) }),
  ],
  [
    'a token of an issuer that is not trusted',
    'TOKEN_ISSUER',
    async () => withToken({ iss: 'https://evil.example' }),
  ],
  [
    'a token for another service',
    'TOKEN_AUDIENCE',
    async () => withToken({ aud: ['https://other.example'] }),
  ],
  [
    'an expired token',
    'TOKEN_EXPIRED',
    async () => withToken({ iat: NOW - 306, nbf: NOW - 306, exp: NOW - 6 }),
  ],
  [
    'a token signed by the host itself',
    'TOKEN_KEY_UNKNOWN',
    async () => withToken({}, await generateSigningKey()),
  ],
]

test.each(attacks)(
  'refuses %s: the record says %s, the answer nothing',
  async (_, code, headers) => {
    const answer = await call(await headers())
    const { requestId, ...problem } = answer.json()
    expect(problem).toEqual({
      type: 'urn:sigillo:error:UNAUTHENTICATED',
      title: 'the caller is not known',
      status: 401,
      code: 'UNAUTHENTICATED',
    })
    expect(answer.headers['www-authenticate']).toBe('DPoP algs="ES256"')
    expect(refusals).toEqual([
      {
        code,
        message: expect.any(String),
        method: 'POST',
        path: '/key-provider/v1/providers/:provider/unwrap',
        requestId,
      },
    ])
  },
)

test.each([
  '/key-provider/v1/providers/%6dain/unwrap',
  '/key-provider/v1/providers/x%2f..%2fmain/unwrap',
])('a proof for the plain path is not one for %s', async (url) => {
  const answer = await call({ authorization: `DPoP ${token}`, dpop: await proofOf() }, url)
  expect(answer.statusCode).toBe(401)
  expect(refusals[0]?.code).toBe('DPOP_URI')
})

test('nothing is answered when the refusal cannot be recorded', async () => {
  const broken = hostAccess({
    publicUrl: PUBLIC_URL,
    audience: AUDIENCE,
    keysOf: async () => jwks,
    clock: fixedClock(NOW),
    skewSeconds: 5,
    proofMaxAgeSeconds: 30,
    onRefused: async () => {
      throw new Error('disk full')
    },
  })
  const service = await testApp({ hosts: broken })
  const get = operation({
    id: 'g',
    summary: '',
    method: 'GET',
    path: '/g',
    status: 200,
    answer: Type.Object({}, closed),
  })
  addOperation(service, get, { access: 'host' }, async () => ({}))
  const answer = await service.inject('/g')
  expect([answer.statusCode, answer.json().code]).toEqual([500, 'INTERNAL'])
})

async function withToken(
  changes: Parameters<typeof goodClaims>[0],
  key = signing,
): Promise<Record<string, string>> {
  const cnf = { jkt: jwkThumbprint(keys.dpop.publicJwk) }
  const other = await signAttestationResult(goodClaims({ cnf, ...changes }), key)
  return { authorization: `DPoP ${other}`, dpop: await proofOf({ accessToken: other }) }
}
