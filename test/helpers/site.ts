import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Static } from 'typebox'
import { listAttestationAudit } from '../../src/api/attestation.js'
import { type Client, createClient } from '../../src/api/client.js'
import type { Operation } from '../../src/api/operation.js'
import {
  activatePolicyDraft,
  type Policy,
  type PolicyView,
  setPolicyDraft,
} from '../../src/api/policies.js'
import { loadConfig } from '../../src/core/config.js'
import { createLogger } from '../../src/core/logger.js'
import {
  AuthorityConfig,
  createSite,
  type ServiceName,
  startAuthority,
} from '../../src/server/index.js'
import { freePort } from './free-port.js'

export const silent = createLogger({ name: 'test', level: 'silent' })

/** A clock that a test can set ahead, and that can stand still meanwhile, however long the test takes. */
export function movableClock() {
  let aheadMs = 0
  let stoodAtMs: number | undefined
  return {
    nowMs: () => (stoodAtMs ?? Date.now()) + aheadMs,
    monotonicMs: () => performance.now() + aheadMs,
    advance(ms: number) {
      aheadMs += ms
    },
    /** Goes on, by what passed, when that is disposed of. */
    standStill(): Disposable {
      stoodAtMs = Date.now()
      return {
        [Symbol.dispose]() {
          stoodAtMs = undefined
        },
      }
    },
  }
}

/** An authority of its own, in this process, on a real port with TLS. */
export interface TestSite extends AsyncDisposable {
  readonly folder: string
  readonly url: string
  readonly caPem: string
  readonly caFile: string
  readonly clock: ReturnType<typeof movableClock>
  readonly admin: Client
  /** Without any credential, as hosts come. */
  readonly anybody: Client
  /** The newest audit records of the attestation service about a host, newest last. */
  auditOf(hostId: string): Promise<readonly AuditLine[]>
  start(changed?: { readonly mode: 'production' | 'lab' }): Promise<void>
  stop(): Promise<void>
}

export interface AuditLine {
  readonly action: string
  readonly outcome: string
  readonly detail: Readonly<Record<string, unknown>>
}

export async function openTestSite(
  options: {
    readonly mode?: 'production' | 'lab'
    readonly services?: readonly ServiceName[]
    /** Settings that differ, as environment variables: `SIGILLO_…`. */
    readonly settings?: Readonly<Record<string, string>>
  } = {},
): Promise<TestSite> {
  const parent = mkdtempSync(join(tmpdir(), 'sgl-site-'))
  const folder = join(parent, 'site')
  const clock = movableClock()
  const made = await createSite({
    folder,
    listen: `127.0.0.1:${await freePort()}`,
    mode: options.mode ?? 'lab',
    nowMs: clock.nowMs(),
  })
  const { config } = loadConfig(AuthorityConfig, {
    file: made.configFile,
    prefix: 'SIGILLO',
    env: options.settings ?? {},
  })
  const caFile = join(folder, 'tls-ca.pem')
  const caPem = readFileSync(caFile, 'utf8')
  const bearerToken = readFileSync(join(folder, 'admin.token'), 'utf8').trim()
  const admin = createClient({ baseUrl: made.url, caPem, bearerToken })
  const anybody = createClient({ baseUrl: made.url, caPem })
  let authority: Awaited<ReturnType<typeof startAuthority>> | undefined
  const start: TestSite['start'] = async (changed) => {
    const given = config as Static<typeof AuthorityConfig>
    authority = await startAuthority({
      config: { ...given, attestation: { ...given.attestation, ...changed } },
      services: options.services ?? ['attestation', 'key-provider', 'control-plane'],
      build: 'test',
      clock,
      logger: silent,
    })
  }
  const stop = async (): Promise<void> => {
    await authority?.close()
    authority = undefined
  }
  await start()
  return {
    ...{ folder, url: made.url, caPem, caFile, clock, admin, anybody, start, stop },
    async auditOf(hostId) {
      const query = { subject: `host:${hostId}`, limit: 1000 }
      return (await admin.call(listAttestationAudit, { query })).records
    },
    async [Symbol.asyncDispose]() {
      await admin[Symbol.asyncDispose]()
      await anybody[Symbol.asyncDispose]()
      await stop()
      rmSync(parent, { recursive: true, force: true })
    },
  }
}

/** A client that sends another body than it was told to, for one operation: what a lying host would do. */
export function lying<O extends Operation>(
  client: Client,
  operation: O,
  change: (body: never) => unknown,
): Client {
  const call: Client['call'] = (called, input, headers, signal) =>
    client.call(
      called,
      called.id === operation.id ? { ...input, body: change(input.body as never) as never } : input,
      headers,
      signal,
    )
  return { ...client, call }
}

/** Makes a policy the one of a cluster: drafts and activates it. */
export async function setPolicy(
  site: TestSite,
  cluster: string,
  policy: Policy,
): Promise<PolicyView> {
  const params = { cluster }
  const { digest } = await site.admin.call(setPolicyDraft, { params, body: policy })
  return site.admin.call(activatePolicyDraft, { params, body: { digest } })
}
