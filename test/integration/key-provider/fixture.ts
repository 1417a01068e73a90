import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Transaction } from 'kysely'
import { openTpm } from '../../../native/index.js'
import type { Operation } from '../../../src/api/operation.js'
import { utf8 } from '../../../src/core/bytes.js'
import { createLogger } from '../../../src/core/logger.js'
import { newUuid } from '../../../src/core/random.js'
import { Secret } from '../../../src/core/secret.js'
import {
  type App,
  callerAccess,
  createApp,
  createRegistry,
  hostAccess,
  type Registry,
} from '../../../src/http/index.js'
import { openKeyProvider } from '../../../src/key-provider/index.js'
import { findCaller, missingPrivilege } from '../../../src/people/index.js'
import { passphraseSealer } from '../../../src/seals/index.js'
import { configuredTpm } from '../../../src/server/index.js'
import {
  createOperator,
  createRootKey,
  type FoundationTables,
  idempotentAnswers,
  openStore,
  type RootKey,
  type Store,
  unsealRootKey,
  writeHostStatus,
} from '../../../src/store/index.js'
import {
  ATTESTATION_RESULT_PROFILE,
  type AttestationResultClaims,
  createDpopProof,
  generateSessionKeys,
  generateSigningKey,
  importJwks,
  publicJwks,
  type SessionKeys,
  type SigningKey,
  signAttestationResult,
} from '../../../src/tokens/index.js'

export const URL_OF_AUTHORITY = 'https://authority.test'
export const ISSUER = `${URL_OF_AUTHORITY}/attestation`
export const CLUSTER = 'lab'
export const NOW_MS = 1_800_000_000_000

/** A key provider on a real store, with an attestation service's signing key to issue tokens by. */
export interface Fixture extends AsyncDisposable {
  readonly folder: string
  readonly store: Store
  readonly app: App
  readonly registry: Registry
  /** Lets the service do what is due now. */
  tick(): Promise<void>
  readonly clock: { nowMs(): number; monotonicMs(): number; advance(ms: number): void }
  readonly signingKey: SigningKey
  readonly operatorToken: string
  trustHost(hostId: string, change?: Partial<StatusChange>): Promise<void>
}

interface StatusChange {
  readonly state: 'trusted' | 'refused' | 'revoked'
  readonly newEpoch: boolean
  readonly policyEpoch: number
}

/**
 * @param startMs the time of its clock, which stands until it is advanced
 * @param from a folder with the files of another one, for a start with its database; it goes away with this one
 * @param tpmTcti the TPM of the authority; where nothing is said there is none
 */
export async function openFixture(
  startMs = NOW_MS,
  from?: string,
  hostRequestsPerMinute = 60_000,
  tpmTcti = 'swtpm:path=/nonexistent/sock',
): Promise<Fixture> {
  const folder = from ?? mkdtempSync(join(tmpdir(), 'sigillo-kp-'))
  const store = await openStore({ file: join(folder, 'kp.db') })
  using passphrase = new Secret(utf8('correct horse battery staple'))
  const sealer = passphraseSealer(passphrase)
  const rootKey: RootKey = await (from === undefined
    ? createRootKey(store, 'key-provider', [sealer], startMs)
    : unsealRootKey(store, 'key-provider', sealer))
  let nowMs = startMs
  const clock = {
    nowMs: () => nowMs,
    monotonicMs: () => nowMs,
    advance: (ms: number) => {
      nowMs += ms
    },
  }
  const signingKey = await generateSigningKey()
  const keys = await importJwks(publicJwks([signingKey]))
  const callers = callerAccess({
    find: (token, service) => findCaller(store, { token, service, nowMs }),
    missing: (caller, needs) => missingPrivilege(store.tables(), caller, needs, nowMs),
  })
  const hosts = hostAccess({
    publicUrl: URL_OF_AUTHORITY,
    audience: URL_OF_AUTHORITY,
    keysOf: async (issuer) => (issuer === ISSUER ? keys : undefined),
    clock,
    skewSeconds: 5,
    proofMaxAgeSeconds: 30,
  })
  const registry = createRegistry()
  const logger = createLogger({ name: 'test', level: 'silent' })
  const app = await createApp({
    logger,
    name: 'key-provider',
    bodyLimitOctets: 64 * 1024,
    callers,
    hosts,
    idempotency: idempotentAnswers(store, { service: 'key-provider', rootKey, clock }),
  })
  const keyProvider = await openKeyProvider({
    ...{ store, rootKey, registry, build: '1.2.3', clock, logger },
    config: { hostRequestsPerMinute },
    tombstoneFile: join(folder, 'kp.db.tombstones'),
    tpm: { sealer: configuredTpm(tpmTcti, openTpm), pcrs: [0, 7] },
  })
  keyProvider.addRoutes(app, { hosts, callers })
  await app.ready()
  const { token } = await createOperator(store, {
    name: from === undefined ? 'admin' : `admin-${newUuid()}`,
    role: 'administrator',
    services: ['key-provider'],
    nowMs,
  })
  return {
    folder,
    store,
    app,
    registry,
    clock,
    signingKey,
    operatorToken: token,
    tick: () => keyProvider.tick(nowMs),
    async trustHost(hostId, change = {}) {
      await store.transaction((tx: Transaction<FoundationTables>) =>
        writeHostStatus(tx, {
          issuer: ISSUER,
          hostId,
          cluster: CLUSTER,
          state: change.state ?? 'trusted',
          newEpoch: change.newEpoch ?? false,
          policyEpoch: change.policyEpoch ?? 0,
          atMs: nowMs,
        }),
      )
    },
    async [Symbol.asyncDispose]() {
      await app.close()
      await keyProvider[Symbol.asyncDispose]()
      rootKey[Symbol.dispose]()
      await store[Symbol.asyncDispose]()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** An attested host: a token and the keys that it is bound to. */
export interface TestHost {
  readonly hostId: string
  readonly keys: SessionKeys
  readonly claims: AttestationResultClaims
  readonly token: string
}

export async function attestedHost(
  fixture: Fixture,
  hostId: string,
  change: (claims: AttestationResultClaims) => AttestationResultClaims = (claims) => claims,
): Promise<TestHost> {
  const keys = await generateSessionKeys()
  const { jwkThumbprint } = await import('../../../src/tokens/index.js')
  const iat = Math.floor(fixture.clock.nowMs() / 1000)
  const claims = change({
    iss: ISSUER,
    sub: hostId,
    aud: [URL_OF_AUTHORITY],
    iat,
    nbf: iat,
    exp: iat + 300,
    jti: newUuid(),
    eat_profile: ATTESTATION_RESULT_PROFILE,
    eat_nonce: 'AAAAAAAAAAAAAAAA',
    cnf: { jkt: jwkThumbprint(keys.dpop.publicJwk) },
    ear_verifier_id: { developer: 'sigillo', build: 'test' },
    submods: {
      host: {
        ear_status: 'affirming',
        ear_trustworthiness_vector: { 'instance-identity': 2 },
        ear_appraisal_policy_ids: ['lab#0'],
      },
    },
    sigillo: {
      cluster: CLUSTER,
      ek: 'ca',
      insecure_test: true,
      policy: { id: CLUSTER, revision: 0, digest: '0'.repeat(64) },
      policy_epoch: 0,
      host_epoch: 1,
      boot: { reset_count: 1, restart_count: 0 },
      session_jwk: keys.session.publicJwk,
      checks: [{ check: 'quote.signature', ok: true }],
    },
  })
  return { hostId, keys, claims, token: await signAttestationResult(claims, fixture.signingKey) }
}

export interface Answer {
  readonly status: number
  readonly body: Record<string, unknown>
}

/** Calls an operation as a host; `headers` replace what an honest host would send. */
export async function callAsHost(
  fixture: Fixture,
  host: TestHost,
  operation: Operation,
  path: string,
  body: unknown,
  headers?: Record<string, string>,
): Promise<Answer> {
  const proof = await createDpopProof({
    key: host.keys.dpop,
    method: operation.method,
    url: URL_OF_AUTHORITY + path,
    accessToken: host.token,
    nowSeconds: Math.floor(fixture.clock.nowMs() / 1000),
  })
  const response = await fixture.app.inject({
    method: operation.method,
    url: path,
    headers: {
      'content-type': 'application/json',
      authorization: `DPoP ${host.token}`,
      dpop: proof,
      ...headers,
    },
    payload: JSON.stringify(body),
  })
  return { status: response.statusCode, body: response.json() }
}

/** Calls an operation as the administrator. */
export async function callAsAdministrator(
  fixture: Fixture,
  operation: Operation,
  path: string,
  body?: unknown,
): Promise<Answer> {
  const response = await fixture.app.inject({
    method: operation.method,
    url: path,
    headers: {
      authorization: `Bearer ${fixture.operatorToken}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { payload: JSON.stringify(body) }),
  })
  return { status: response.statusCode, body: response.json() }
}
