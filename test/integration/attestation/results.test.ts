import { createHmac } from 'node:crypto'
import { createServer, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { Agent, request } from 'undici'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { getJwks } from '../../../src/api/attestation.js'
import {
  createWebhook,
  listAttestationEvents,
  listWebhooks,
  removeWebhook,
} from '../../../src/api/attestation-events.js'
import { createCluster, listVms, reportVm } from '../../../src/api/control-plane.js'
import { addAnchors } from '../../../src/api/endorsement.js'
import {
  getEvidenceBundle,
  getHost,
  listHosts,
  removeHost,
  revokeHost,
} from '../../../src/api/hosts.js'
import {
  activatePolicyDraft,
  endPolicyTokens,
  getPolicy,
  setPolicyDraft,
} from '../../../src/api/policies.js'
import {
  introspectToken,
  listSigningKeys,
  revokeToken,
  rotateSigningKey,
} from '../../../src/api/tokens.js'
import { DEFAULT_POLICY } from '../../../src/appraisal/index.js'
import { fromBase64url } from '../../../src/core/bytes.js'
import { createAuthority } from '../../../src/host-agent/adapters/authority.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import {
  bootHost,
  CLUSTER,
  GOOD_BOOT,
  type TestHost,
  ticketFor,
  trustHost,
} from '../../helpers/host.js'
import { openTestSite, setPolicy, type TestSite } from '../../helpers/site.js'

let site: TestSite
let lab: Lab
let host: TestHost

beforeAll(async () => {
  lab = await createLab()
  site = await openTestSite()
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  await site.admin.call(createCluster, { body: { name: CLUSTER } })
  host = await bootHost(lab, 'host')
  await trustHost(site, host, 'good')
})
afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await site[Symbol.asyncDispose]()
  await lab[Symbol.asyncDispose]()
})

const introspect = (token: string) => site.admin.call(introspectToken, { body: { token } })
const eventsAfter = async (seq: number) =>
  (await site.admin.call(listAttestationEvents, { query: { after: String(seq), limit: 1000 } }))
    .events
const newestSeq = async () => (await eventsAfter(0)).at(-1)?.seq ?? 0

describe('a token', () => {
  const VM = '11111111-2222-4333-8444-555555555555'
  const useToken = async (session: Awaited<ReturnType<TestHost['attest']>>) => {
    const authority = createAuthority(site.anybody, async () => session, site.clock)
    const report = { name: 'w', state: 'stopped', provider: 'p', disks: [], vtpm: false } as const
    await authority.call(reportVm, { params: { vmId: VM }, body: { ...report, disks: [] } })
  }

  test('counts until it is revoked, at once and everywhere', async () => {
    const session = await host.attest(site.anybody)
    expect(await introspect(session.token)).toMatchObject({ active: true, claims: { sub: 'host' } })
    await useToken(session)
    const { lastVerdict } = await site.admin.call(getHost, { params: { hostId: 'host' } })
    const params = { tokenId: lastVerdict?.tokenId ?? '' }
    const revoke = () => site.admin.call(revokeToken, { params, body: { reason: 'leaked' } })
    await revoke()
    expect(await introspect(session.token)).toMatchObject({ active: false, code: 'TOKEN_REVOKED' })
    await expect(useToken(session)).rejects.toMatchObject({
      code: expect.stringMatching(/TOKEN_REVOKED|UNAUTHENTICATED/),
    })
    await expect(revoke()).rejects.toMatchObject({ code: 'CONFLICT' })
    await useToken(await host.attest(site.anybody))
    expect((await site.admin.call(listVms, { query: {} })).vms).toHaveLength(1)
  })

  test('counts no longer when its time is over, its policy changed, or it is no token', async () => {
    const { token } = await host.attest(site.anybody)
    await setPolicy(site, CLUSTER, { ...DEFAULT_POLICY, tokenTtlSeconds: 299 })
    expect(await introspect(token)).toMatchObject({ active: false, code: 'KEY_STALE_POLICY' })
    const { token: next } = await host.attest(site.anybody)
    expect(await introspect(next)).toMatchObject({ active: true })
    site.clock.advance(300_000)
    expect(await introspect(next)).toMatchObject({ active: false, code: 'TOKEN_EXPIRED' })
    expect(await introspect('x.y.z')).toMatchObject({ active: false })
    await setPolicy(site, CLUSTER, DEFAULT_POLICY)
  })
})

test('all tokens of a cluster end at once, and its hosts attest again', async () => {
  const { token } = await host.attest(site.anybody)
  const params = { cluster: CLUSTER }
  const before = await site.admin.call(getPolicy, { params })
  const after = await site.admin.call(endPolicyTokens, { params, body: { reason: 'drill' } })
  expect(after).toEqual({ ...before, epoch: before.epoch + 1, updatedAt: expect.any(String) })
  expect(await introspect(token)).toMatchObject({ active: false, code: 'KEY_STALE_POLICY' })
  const { token: next } = await host.attest(site.anybody)
  expect(await introspect(next)).toMatchObject({ active: true })
})

describe('signing keys', () => {
  test.each(['ES384', 'EdDSA', 'ES256'] as const)(
    'are rotated to %s; tokens of the one before stay valid, and its key is published until they end',
    async (algorithm) => {
      const { token: before } = await host.attest(site.anybody)
      const { kid } = await site.admin.call(rotateSigningKey, { body: { algorithm } })
      const { token: after } = await host.attest(site.anybody)
      expect(
        JSON.parse(Buffer.from(after.split('.')[0] ?? '', 'base64url').toString()),
      ).toMatchObject({ kid, alg: algorithm })
      expect(await introspect(before)).toMatchObject({ active: true })
      expect(await introspect(after)).toMatchObject({ active: true })
      const { keys } = await site.anybody.call(getJwks, {})
      expect(keys.map((key) => key['kid'])).toContain(kid)
      expect(JSON.stringify(keys)).not.toContain('"d"')
    },
  )

  test('survive a restart; retired ones are forgotten when their last token has ended', async () => {
    const { token } = await host.attest(site.anybody)
    const { keys: all } = await site.admin.call(listSigningKeys, {})
    expect(all.filter(({ retiredAt }) => retiredAt === undefined)).toHaveLength(1)
    await site.stop()
    await site.start()
    expect(await introspect(token)).toMatchObject({ active: true })
    site.clock.advance(600_000)
    await expect
      .poll(async () => (await site.admin.call(listSigningKeys, {})).keys.length, {
        timeout: 10_000,
      })
      .toBe(1)
  })
})

describe('what happens to hosts', () => {
  test('is told as events: refused, rebooted, trusted again, late, revoked', async () => {
    const { token: before } = await host.attest(site.anybody)
    const since = await newestSeq()
    await host.tpm.extend(8, Buffer.from('x'))
    await host.attest(site.anybody).catch(() => undefined)
    await host.tpm.boot(GOOD_BOOT)
    await host.reopen()
    await host.attest(site.anybody)
    expect((await eventsAfter(since)).map(({ type }) => type)).toEqual([
      'host.refused',
      'host.rebooted',
      'host.trusted',
    ])
    expect((await eventsAfter(since))[0]?.detail['reasons']).toMatchObject([
      expect.stringContaining('EVENTLOG_REPLAY'),
      expect.stringContaining('BASE_IMAGE_PCR'),
    ])

    // what a host had before it fell out does not come back with it
    expect(await introspect(before)).toMatchObject({ active: false, code: 'HOST_STATUS' })

    const { token } = await host.attest(site.anybody)
    site.clock.advance(601_000)
    const stateOf = async () =>
      (await site.admin.call(getHost, { params: { hostId: 'host' } })).state
    await expect.poll(stateOf, { timeout: 10_000 }).toBe('late')
    expect(await introspect(token)).toMatchObject({ active: false })
    expect((await eventsAfter(since)).at(-1)).toMatchObject({
      type: 'host.late',
      hostId: 'host',
      cluster: CLUSTER,
    })
    await host.attest(site.anybody)
    expect(await stateOf()).toBe('trusted')
  })

  test('late is what the policy says', async () => {
    await setPolicy(site, CLUSTER, { ...DEFAULT_POLICY, maxAgeSeconds: 60 })
    await host.attest(site.anybody)
    site.clock.advance(61_000)
    const stateOf = async () =>
      (await site.admin.call(getHost, { params: { hostId: 'host' } })).state
    await expect.poll(stateOf, { timeout: 10_000 }).toBe('late')
    await setPolicy(site, CLUSTER, DEFAULT_POLICY)
    await host.attest(site.anybody)
  })

  test('streams to whoever listens, and goes on where a lost connection ended', async () => {
    const from = await newestSeq()
    const seen: string[] = []
    const listen = async (after: number, until: number) => {
      const dispatcher = new Agent({ connect: { ca: site.caPem } })
      const token = (await import('node:fs'))
        .readFileSync(`${site.folder}/admin.token`, 'utf8')
        .trim()
      const answer = await request(`${site.url}/attestation/v1/events/stream`, {
        dispatcher,
        headers: { authorization: `Bearer ${token}`, 'last-event-id': String(after) },
      })
      expect(answer.headers['content-type']).toContain('text/event-stream')
      let text = ''
      for await (const chunk of answer.body) {
        text += String(chunk)
        if ((text.match(/^id: /gm) ?? []).length >= until) break
      }
      await dispatcher.destroy()
      seen.push(...[...text.matchAll(/^event: (.*)$/gm)].map(([, type]) => type ?? ''))
    }
    const streaming = listen(from, 2)
    const { policy } = await site.admin.call(getPolicy, { params: { cluster: CLUSTER } })
    await setPolicy(site, CLUSTER, policy)
    await setPolicy(site, CLUSTER, policy)
    await streaming
    expect(seen).toEqual(['policy.activated', 'policy.activated'])
    await listen(from + 1, 1)
    expect(seen).toHaveLength(3)
    const nobody = await request(`${site.url}/attestation/v1/events/stream`, {
      dispatcher: new Agent({ connect: { ca: site.caPem } }),
    })
    expect(nobody.statusCode).toBe(401)
    await nobody.body.dump()
  })
})

describe('a webhook', () => {
  test('gets every event once it accepts, in order and signed; refuses bad URLs', async () => {
    const received: { id: string; body: string; signature: string; time: string }[] = []
    let refuse = 2
    const server = createServer((incoming: IncomingMessage, answer) => {
      let body = ''
      incoming.on('data', (chunk) => {
        body += chunk
      })
      incoming.on('end', () => {
        refuse -= 1
        if (refuse >= 0) {
          answer.writeHead(500).end()
          return
        }
        const header = (name: string) => String(incoming.headers[name])
        received.push({
          id: header('webhook-id'),
          body,
          signature: header('webhook-signature'),
          time: header('webhook-timestamp'),
        })
        answer.writeHead(204).end()
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address() as { port: number }
    const create = (url: string) => site.admin.call(createWebhook, { body: { url } })
    for (const url of [
      'ftp://x.example',
      'http://x.example/',
      'https://user:pw@x.example/',
      'text',
    ]) {
      await expect(create(url)).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
    }
    const { secret, webhook } = await create(`http://127.0.0.1:${address.port}/hook?x=1`)
    const params = { cluster: CLUSTER }
    for (let time = 0; time < 2; time += 1) {
      const { digest } = await site.admin.call(setPolicyDraft, { params, body: DEFAULT_POLICY })
      await site.admin.call(activatePolicyDraft, { params, body: { digest } })
    }
    await expect.poll(() => received.length, { timeout: 30_000 }).toBe(2)
    const key = Buffer.from(secret.replace('whsec_', ''), 'base64')
    for (const { id, time, body, signature } of received) {
      const mac = createHmac('sha256', key).update(`${id}.${time}.${body}`).digest('base64')
      expect(signature).toBe(`v1,${mac}`)
      expect(JSON.parse(body)).toMatchObject({
        type: 'policy.activated',
        data: { cluster: CLUSTER },
      })
    }
    expect(received.map(({ id }) => id)).toEqual([...received.map(({ id }) => id)].sort())
    await expect
      .poll(async () => (await site.admin.call(listWebhooks, {})).webhooks[0]?.failures)
      .toBe(0)
    await site.admin.call(removeWebhook, { params: { webhookId: webhook.webhookId } })
    server.close()
    expect(JSON.stringify(await site.auditOf('host'))).not.toContain(secret)
  })
})

test('a revoked host is told of too', async () => {
  await using gone = await bootHost(lab, 'gone')
  await gone.enrol(site.anybody, await ticketFor(site))
  const since = await newestSeq()
  await site.admin.call(revokeHost, { params: { hostId: 'gone' }, body: { reason: 'stolen' } })
  expect(await eventsAfter(since)).toMatchObject([
    { type: 'host.revoked', hostId: 'gone', detail: { reason: 'stolen', operator: 'admin' } },
  ])
})

describe('event logs of bundles', () => {
  test('are kept once, and gone with the last bundle that has them', async () => {
    const sqlite = new Database(join(site.folder, 'sigillo.db'), { readonly: true })
    const count = () =>
      sqlite.prepare('select count(*) from attestation_event_logs').pluck().get() as number
    try {
      await using first = await bootHost(lab, 'log-1')
      await using second = await bootHost(lab, 'log-2')
      const before = count()
      for (const host of [first, second]) {
        await host.enrol(site.anybody, await ticketFor(site))
        for (let round = 0; round < 5; round += 1) {
          await host.attest(site.anybody).catch(() => undefined)
        }
      }
      expect(count()).toBeLessThanOrEqual(before + 1)
      const { lastVerdict } = await site.admin.call(getHost, { params: { hostId: 'log-2' } })
      const params = { hostId: 'log-2', bundleId: lastVerdict?.bundleId ?? '' }
      const bundle = await site.admin.call(getEvidenceBundle, { params })
      expect(fromBase64url(bundle.evidence.eventLog ?? '')).toEqual(GOOD_BOOT)
      for (const host of (await site.admin.call(listHosts, { query: {} })).hosts) {
        const { hostId } = host
        const gone = { params: { hostId } }
        await site.admin.call(revokeHost, { ...gone, body: { reason: 'end' } })
        await site.admin.call(removeHost, gone)
      }
      expect(count()).toBe(0)
    } finally {
      sqlite.close()
    }
  })
})
