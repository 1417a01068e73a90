import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Validator } from '@seriousme/openapi-schema-validator'
import type { TObject } from 'typebox'
import { Value } from 'typebox/value'
import { Agent, request } from 'undici'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as attestationBase from '../../../src/api/attestation.js'
import * as attestationEvents from '../../../src/api/attestation-events.js'
import * as baseImagesApi from '../../../src/api/base-images.js'
import * as controlPlaneApi from '../../../src/api/control-plane.js'
import * as endorsementApi from '../../../src/api/endorsement.js'
import { everyPage } from '../../../src/api/every-page.js'
import * as hostsApi from '../../../src/api/hosts.js'
import type { Operation } from '../../../src/api/operation.js'
import * as policiesApi from '../../../src/api/policies.js'
import * as referenceValuesApi from '../../../src/api/reference-values.js'
import * as tokensApi from '../../../src/api/tokens.js'
import { DEFAULT_POLICY } from '../../../src/appraisal/index.js'
import { toBase64url } from '../../../src/core/bytes.js'
import { ERROR_CODES } from '../../../src/core/error-codes.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import { authority, pemOf, revocationList } from '../../helpers/certificates.js'
import { publicPem } from '../../helpers/corim.js'
import { bootHost, ticketFor } from '../../helpers/host.js'
import { openTestSite, setPolicy, type TestSite } from '../../helpers/site.js'
import { sigillo } from '../cli/sigillo.js'

const attestationApi = {
  ...attestationBase,
  ...attestationEvents,
  ...baseImagesApi,
  ...hostsApi,
  ...policiesApi,
  ...tokensApi,
}

const SERVICES = ['attestation', 'key-provider', 'control-plane', 'people'] as const

/** Every operation that is described anywhere in the API. */
const modules = await Promise.all(
  readdirSync('src/api').map(
    (file) => import(`../../../src/api/${file.replace('.ts', '')}.ts`) as Promise<object>,
  ),
)
const described = modules.flatMap((module) => operationsOf(module as Record<string, unknown>))

let site: TestSite
let dispatcher: Agent
let token: string

beforeAll(async () => {
  site = await openTestSite()
  dispatcher = new Agent({ connect: { ca: site.caPem } })
  token = readFileSync(join(site.folder, 'admin.token'), 'utf8').trim()
})
afterAll(async () => {
  await dispatcher.destroy()
  await site[Symbol.asyncDispose]()
})

interface Document {
  readonly [member: string]: unknown
  readonly paths: Readonly<Record<string, Readonly<Record<string, DescribedOperation>>>>
}

interface DescribedOperation {
  readonly operationId: string
  readonly security?: readonly object[]
  readonly responses?: Readonly<Record<string, object>>
  readonly requestBody?: {
    readonly content: Readonly<Record<string, { readonly example?: unknown }>>
  }
}

async function get(path: string): Promise<Document> {
  const answer = await request(site.url + path, { dispatcher })
  expect(answer.statusCode).toBe(200)
  return (await answer.body.json()) as Document
}

function operationsOf(module: Readonly<Record<string, unknown>>): readonly Operation[] {
  return Object.values(module).filter(
    (value): value is Operation =>
      typeof value === 'object' && value !== null && 'answer' in value && 'id' in value,
  )
}

function isForHosts({ paths }: Document, { path }: Operation): boolean {
  const security = paths[path]?.['get']?.security ?? []
  return security.some((scheme) => 'host' in scheme)
}

describe.each(SERVICES)('the OpenAPI document of %s', (service) => {
  const operations = described.filter(({ path }) => path.startsWith(`/${service}/`))

  test('is a valid one, and has every operation of the service where it says', async () => {
    const document = await get(`/${service}/v1/openapi.json`)
    const verdict = await new Validator().validate({ ...document })
    expect(verdict.errors).toBeUndefined()
    expect(verdict.valid).toBe(true)
    for (const { id, method, path } of operations) {
      const place = path.replace(/:([A-Za-z]+)/g, '{$1}')
      expect([id, document.paths[place]?.[method.toLowerCase()]?.operationId]).toEqual([id, id])
    }
  })

  test('says of every operation what it is refused with, and gives bodies that it takes', async () => {
    const document = await get(`/${service}/v1/openapi.json`)
    for (const { id, method, path, needs, errors = [], body, example } of operations) {
      const place = path.replace(/:([A-Za-z]+)/g, '{$1}')
      const { responses, requestBody } = document.paths[place]?.[method.toLowerCase()] ?? {}
      const privileges = needs && needs.on !== 'self' ? ['403'] : []
      const statuses = errors.map((code) => String(ERROR_CODES[code].status))
      const expected = [
        '400',
        '429',
        'default',
        ...(needs ? ['401'] : []),
        ...privileges,
        ...statuses,
      ]
      expect([id, Object.keys(responses ?? {})]).toEqual([id, expect.arrayContaining(expected)])
      const text = JSON.stringify(responses)
      for (const code of errors)
        expect([id, text]).toEqual([id, expect.stringContaining(`"${code}"`)])
      if (example === undefined) continue
      expect([id, body && Value.Check(body, example)]).toEqual([id, true])
      expect(requestBody?.content['application/json']?.example).toEqual(example)
    }
  })

  test('is the only one: every route of the service is in it, and answers as it says', async () => {
    const document = await get(`/${service}/v1/openapi.json`)
    const ids = new Set(operations.map(({ id }) => id))
    const others = Object.values(document.paths)
      .flatMap((methods) => Object.values(methods))
      .map(({ operationId }) => operationId)
      .filter((id) => !ids.has(id))
    // the last: what is no JSON
    const known = [/health$/, /metrics$/, /openapi-json$/, /^stream/, /File$/]
    expect(others.filter((id) => !known.some((pattern) => pattern.test(id)))).toEqual([])
    // the client checks each answer against the schema of its operation
    for (const operation of operations) {
      if (operation.method !== 'GET' || operation.params || isForHosts(document, operation))
        continue
      await expect(site.admin.call(operation, {})).resolves.toBeDefined()
    }
  })
})

describe('a request with an Idempotency-Key', () => {
  const create = (key: string, body: object) =>
    request(`${site.url}/attestation/v1/tickets`, {
      dispatcher,
      method: 'POST',
      headers: {
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        'idempotency-key': key,
      },
      body: JSON.stringify(body),
    }).then(async (answer) => ({
      status: answer.statusCode,
      body: (await answer.body.json()) as { readonly code?: string; readonly ticket?: string },
    }))
  const count = async () => (await site.admin.call(attestationApi.listTickets, {})).tickets.length

  test('is done once, and answered the same again, also after a restart', async () => {
    const before = await count()
    const first = await create('key-number-1', { cluster: 'lab' })
    expect(first.status).toBe(201)
    expect(await create('key-number-1', { cluster: 'lab' })).toEqual(first)
    await site.stop()
    await site.start()
    expect(await create('key-number-1', { cluster: 'lab' })).toEqual(first)
    expect(await count()).toBe(before + 1)
    const database = readFileSync(join(site.folder, 'sigillo.db'))
    expect(database.includes(first.body.ticket ?? 'none')).toBe(false)
  })

  test('of another request, or of one that is under way, is refused', async () => {
    await create('key-number-2', { cluster: 'lab' })
    expect(await create('key-number-2', { cluster: 'other' })).toMatchObject({
      status: 422,
      body: { code: 'IDEMPOTENCY_MISMATCH' },
    })
    expect(await create('short', { cluster: 'lab' })).toMatchObject({
      status: 400,
      body: { code: 'REQUEST_INVALID' },
    })
    const before = await count()
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => create('key-number-3', { cluster: 'lab' })),
    )
    expect(await count()).toBe(before + 1)
    for (const { status, body } of answers)
      expect([201, 'IDEMPOTENCY_UNKNOWN']).toContain(status === 201 ? 201 : body.code)
  })

  test('that failed may be tried again with the same key', async () => {
    const post = (name: string) =>
      request(`${site.url}/control-plane/v1/clusters`, {
        dispatcher,
        method: 'POST',
        headers: {
          authorization: `Bearer ${token}`,
          'content-type': 'application/json',
          'idempotency-key': `cluster-${name}`,
        },
        body: JSON.stringify({ name }),
      }).then(async (answer) => {
        await answer.body.dump()
        return answer.statusCode
      })
    await site.admin.call(controlPlaneApi.createCluster, { body: { name: 'taken' } })
    expect(await post('taken')).toBe(409)
    expect(await post('taken')).toBe(409)
    expect(await post('free')).toBe(201)
    expect(await post('free')).toBe(201)
  })
})

/** Lists of the attestation service, with what they are of. */
const LISTS: readonly (readonly [Operation, string, Record<string, unknown>])[] = [
  [attestationApi.listTickets, 'tickets', {}],
  [attestationApi.listHosts, 'hosts', {}],
  [attestationApi.getHostHistory, 'verdicts', { hostId: 'a' }],
  [attestationApi.listEvidenceBundles, 'bundles', { hostId: 'a' }],
  [attestationApi.listBaseImages, 'baseImages', {}],
  [attestationApi.testPolicyDraft, 'hosts', { cluster: 'lab' }],
  [attestationApi.listPolicyRevisions, 'revisions', { cluster: 'lab' }],
  [attestationApi.listSigningKeys, 'keys', {}],
  [attestationApi.listAttestationEvents, 'events', {}],
  [attestationApi.listWebhooks, 'webhooks', {}],
  [attestationApi.listAttestationAudit, 'records', {}],
  [endorsementApi.listAnchors, 'anchors', {}],
  [endorsementApi.listRevocationLists, 'lists', {}],
  [endorsementApi.listEndorsementKeys, 'keys', {}],
  [endorsementApi.listRevokedKeys, 'keys', {}],
  [referenceValuesApi.listReferenceSigners, 'signers', {}],
]

describe('every list of the attestation service', () => {
  let lab: Lab
  beforeAll(async () => {
    lab = await createLab()
    const call = site.admin.call
    await call(endorsementApi.addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
    const made = ['1', '2', '3'].map((name) => authority(`Maker ${name}`))
    for (const [index, maker] of made.entries()) {
      const note = `number ${index}`
      const publicKey = publicPem(maker.keys.publicKey)
      await call(endorsementApi.addAnchors, { body: { pem: pemOf('CERTIFICATE', maker.der) } })
      const list = pemOf('X509 CRL', revocationList(maker))
      await call(endorsementApi.addRevocationList, { body: { list } })
      await call(endorsementApi.addEndorsementKey, { body: { pem: publicKey, note } })
      const key = String(index).repeat(64)
      await call(endorsementApi.addRevokedKey, { body: { key, reason: note } })
      await call(referenceValuesApi.addReferenceSigner, { body: { pem: publicKey, note } })
      const url = `https://siem.example/${index}`
      await call(attestationApi.createWebhook, { body: { url } })
      await call(attestationApi.rotateSigningKey, { body: {} })
      await setPolicy(site, 'lab', { ...DEFAULT_POLICY, tokenTtlSeconds: 100 + index })
      const values = { name: `image-${index}`, bank: 'sha256', pcrs: { 0: ['00'.repeat(32)] } }
      const content = toBase64url(Buffer.from(JSON.stringify(values)))
      const body = { cluster: index === 0 ? 'another' : 'lab', format: 'json', content } as const
      await call(referenceValuesApi.importBaseImages, { body })
      await ticketFor(site)
    }
    for (const name of ['a', 'b', 'c']) {
      await using host = await bootHost(lab, name)
      await host.enrol(site.anybody, await ticketFor(site))
      for (let time = 0; time < 3; time += 1) {
        await host.attest(site.anybody).catch(() => undefined)
      }
    }
    await call(attestationApi.setPolicyDraft, { params: { cluster: 'lab' }, body: DEFAULT_POLICY })
  })
  afterAll(() => lab[Symbol.asyncDispose]())

  test('is known here', () => {
    const lists = described
      .filter(({ path }) => path.startsWith('/attestation/'))
      .filter(
        ({ id, method, answer }) =>
          method === 'GET' && (id.startsWith('list') || 'next' in (answer as TObject).properties),
      )
    // pages of guests are tried where there are guests
    const known = ['listGuests', ...LISTS.map(([{ id }]) => id)]
    expect(lists.map(({ id }) => id).sort()).toEqual([...known].sort())
  })

  test.each(LISTS.map((list) => [list[0].id, ...list] as const))(
    'comes in pages: %s',
    async (_, operation, member, params) => {
      const page = async (query: Record<string, unknown>) =>
        (await site.admin.call(operation, { params, query })) as Record<string, unknown>
      const whole = await page({ limit: 1000 })
      const items = whole[member] as readonly unknown[]
      expect(items.length).toBeGreaterThanOrEqual(3)
      expect(whole['next']).toBeUndefined()
      const seen: unknown[] = []
      for (let next: unknown; ; ) {
        const one = await page({ limit: 2, ...(next === undefined ? {} : { after: next }) })
        expect((one[member] as unknown[]).length).toBeLessThanOrEqual(2)
        seen.push(...(one[member] as unknown[]))
        next = one['next']
        if (next === undefined) break
      }
      expect(seen).toEqual(items)
      expect(await everyPage(site.admin, operation, { params }, member)).toEqual(whole)
      await expect(page({ limit: 0 })).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
      await expect(page({ limit: 1001 })).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
    },
  )

  test('of hosts and base images may be of one cluster', async () => {
    const list = (operation: Operation, query: Record<string, unknown>) =>
      site.admin.call(operation, { query })
    expect(await list(attestationApi.listHosts, { cluster: 'elsewhere' })).toEqual({ hosts: [] })
    expect(await list(attestationApi.listBaseImages, { cluster: 'another' })).toMatchObject({
      baseImages: [{ name: 'image-0' }],
    })
    const first = await list(attestationApi.listHosts, { limit: 2 })
    expect(first).toMatchObject({ hosts: [{ hostId: 'a' }, { hostId: 'b' }], next: 'b' })
  })

  test('is printed whole by the command line, or as much of it as it is told', async () => {
    const made = Array.from({ length: 120 }, () => ticketFor(site))
    await Promise.all(made)
    const run = async (...args: readonly string[]) => {
      const { out, err } = await sigillo(...args, '--site', site.folder)
      expect(err).toBe('')
      return out
    }
    const { tickets } = JSON.parse(await run('ticket', 'list', '--json'))
    expect(tickets.length).toBeGreaterThanOrEqual(120)
    const few = await run('ticket', 'list', '--limit', '2')
    expect(few.trimEnd().split('\n')).toHaveLength(4)
    expect(few).toContain('there are more: --after ')
  })

  test('goes on by numbers where its items have numbers', async () => {
    const query = { after: 'x' }
    await expect(site.admin.call(attestationApi.listAttestationEvents, { query })).rejects.toThrow(
      'after',
    )
    const revision = { cluster: 'lab', revision: '2' }
    expect(
      await site.admin.call(attestationApi.getPolicyRevision, { params: revision }),
    ).toMatchObject({ revision: 2, policy: { tokenTtlSeconds: 101 } })
    await expect(
      site.admin.call(attestationApi.getPolicyRevision, {
        params: { ...revision, revision: '99' },
      }),
    ).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })
})
