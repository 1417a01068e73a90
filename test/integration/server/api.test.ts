import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Validator } from '@seriousme/openapi-schema-validator'
import { Agent, request } from 'undici'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as attestationApi from '../../../src/api/attestation.js'
import * as controlPlaneApi from '../../../src/api/control-plane.js'
import * as endorsementApi from '../../../src/api/endorsement.js'
import * as keyProviderApi from '../../../src/api/key-provider.js'
import type { Operation } from '../../../src/api/operation.js'
import * as referenceValuesApi from '../../../src/api/reference-values.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import { bootHost, ticketFor } from '../../helpers/host.js'
import { openTestSite, type TestSite } from '../../helpers/site.js'

const SERVICES = {
  attestation: { ...attestationApi, ...endorsementApi, ...referenceValuesApi },
  'key-provider': keyProviderApi,
  'control-plane': controlPlaneApi,
} as const

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
  readonly paths: Readonly<
    Record<string, Readonly<Record<string, { readonly operationId: string }>>>
  >
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

describe.each(Object.entries(SERVICES))('the OpenAPI document of %s', (service, api) => {
  test('is a valid one, and has every operation of the service where it says', async () => {
    const document = await get(`/${service}/v1/openapi.json`)
    const verdict = await new Validator().validate({ ...document })
    expect(verdict.errors).toBeUndefined()
    expect(verdict.valid).toBe(true)
    for (const { id, method, path } of operationsOf(api)) {
      const place = path.replace(/:([A-Za-z]+)/g, '{$1}')
      expect([id, document.paths[place]?.[method.toLowerCase()]?.operationId]).toEqual([id, id])
    }
  })

  test('is the only one: every route of the service is in it, and answers as it says', async () => {
    const document = await get(`/${service}/v1/openapi.json`)
    const ids = new Set(operationsOf(api).map(({ id }) => id))
    const others = Object.values(document.paths)
      .flatMap((methods) => Object.values(methods))
      .map(({ operationId }) => operationId)
      .filter((id) => !ids.has(id))
    const known = [/health$/, /metrics$/, /openapi-json$/, /^stream/]
    expect(others.filter((id) => !known.some((pattern) => pattern.test(id)))).toEqual([])
    // the client checks each answer against the schema of its operation
    for (const operation of operationsOf(api)) {
      if (operation.method !== 'GET' || operation.params) continue
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

describe('lists of hosts', () => {
  let lab: Lab
  beforeAll(async () => {
    lab = await createLab()
    await site.admin.call(endorsementApi.addAnchors, {
      body: { pem: lab.anchorsPem, insecureTest: true },
    })
    for (const name of ['a', 'b', 'c']) {
      await using host = await bootHost(lab, name)
      await host.enrol(site.anybody, await ticketFor(site))
    }
  })
  afterAll(() => lab[Symbol.asyncDispose]())

  test('come in pages', async () => {
    const list = (query: object) => site.admin.call(attestationApi.listHosts, { query })
    const first = await list({ limit: 2 })
    expect([first.hosts.map(({ hostId }) => hostId), first.next]).toEqual([['a', 'b'], 'b'])
    const second = await list({ limit: 2, after: first.next })
    expect([second.hosts.map(({ hostId }) => hostId), second.next]).toEqual([['c'], undefined])
    expect((await list({ cluster: 'elsewhere' })).hosts).toEqual([])
    await expect(list({ limit: 0 })).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
  })
})
