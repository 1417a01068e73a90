import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TObject, TSchema } from 'typebox'
import { Agent, request } from 'undici'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createCluster } from '../../../src/api/control-plane.js'
import type { Operation } from '../../../src/api/operation.js'
import { deleteAccount, setAccountState } from '../../../src/api/people.js'
import { deleteStoragePolicy } from '../../../src/api/storage-policies.js'
import { ERROR_CODES } from '../../../src/core/error-codes.js'
import { openTestSite, type TestSite } from '../../helpers/site.js'

let site: TestSite
let dispatcher: Agent
let token: string
/** The codes of refusals that the OpenAPI documents have, by operation. */
const described = new Map<string, ReadonlySet<string>>()

beforeAll(async () => {
  site = await openTestSite()
  dispatcher = new Agent({ connect: { ca: site.caPem }, connections: 4 })
  token = readFileSync(join(site.folder, 'admin.token'), 'utf8').trim()
  await site.admin.call(createCluster, { body: { name: 'lab' } })
  for (const app of ['attestation', 'key-provider', 'control-plane', 'operator', 'people']) {
    const answer = await request(`${site.url}/${app}/v1/openapi.json`, { dispatcher })
    const { paths } = (await answer.body.json()) as Described
    const all = Object.values(paths).flatMap((methods) => Object.values(methods))
    for (const { operationId, responses } of all) {
      const codes = Object.values(responses).flatMap(({ content }) => {
        const [, own] = content?.['application/problem+json']?.schema?.allOf ?? []
        return own?.properties?.code?.enum ?? []
      })
      described.set(operationId, new Set(codes))
    }
  }
})
afterAll(async () => {
  await dispatcher?.destroy()
  await site?.[Symbol.asyncDispose]()
})

interface Described {
  readonly paths: Readonly<Record<string, Readonly<Record<string, DescribedOperation>>>>
}

interface DescribedOperation {
  readonly operationId: string
  readonly responses: Readonly<Record<string, { readonly content?: ProblemContent }>>
}

type ProblemContent = Readonly<
  Record<
    string,
    {
      readonly schema?: {
        readonly allOf?: readonly {
          readonly properties?: { readonly code?: { readonly enum: readonly string[] } }
        }[]
      }
    }
  >
>

const modules = await Promise.all(
  readdirSync('src/api').map(
    (file) => import(`../../../src/api/${file.replace('.ts', '')}.ts`) as Promise<object>,
  ),
)
/** Every operation that people call. */
const operations = modules
  .flatMap((module) => Object.values(module) as readonly Operation[])
  .filter((one) => typeof one === 'object' && one !== null && 'answer' in one && one.needs)

const UUID = '00000000-0000-4000-8000-000000000000'
/** Text that is no name, no number and no id. */
const ODD = [
  ...[
    '',
    ' ',
    '.',
    '..',
    '../../etc/passwd',
    'a/b',
    'A',
    'ä',
    '名前',
    '\u0000',
    'a\nb',
    "' or 1=1 --",
  ],
  ...['-1', '0', '1e9', '99999999999999999999', 'NaN', 'null', '__proto__', 'constructor'],
  ...['x'.repeat(300), 'x'.repeat(5000), '\ud800', '%00', '%', UUID.toUpperCase()],
]
/** Values that are of another kind than what is asked for, or far outside of it. */
const VALUES = [
  ...[
    null,
    true,
    0,
    -1,
    1.5,
    1e308,
    Number.MAX_SAFE_INTEGER,
    '',
    'x',
    'x'.repeat(100_000),
    'ä',
    '\ud800',
  ],
  ...[
    [],
    [[]],
    {},
    { a: 1 },
    Array.from({ length: 2000 }, () => 'x'),
    JSON.parse('{"__proto__": {"a": 1}}'),
  ],
]

/** One request of so many is sent; with `SLOW=1`, each. */
const EVERY = process.env['SLOW'] === '1' ? 1 : 11

interface Sent {
  readonly operation: Operation
  readonly path: string
  readonly body?: unknown
}

/** What fits a schema, as little as there is: names and ids of nothing that exists. */
function sample(schema: TSchema): unknown {
  const {
    type,
    anyOf,
    properties,
    required = [],
    pattern = '',
    minLength = 0,
  } = schema as {
    readonly type?: string
    readonly anyOf?: readonly TSchema[]
    readonly properties?: Readonly<Record<string, TSchema>>
    readonly required?: readonly string[]
    readonly pattern?: string
    readonly minLength?: number
  }
  if ('const' in schema) return schema['const']
  if (anyOf?.[0]) return sample(anyOf[0])
  if (properties) {
    const members = Object.entries(properties).filter(([name]) => required.includes(name))
    return Object.fromEntries(members.map(([name, member]) => [name, sample(member)]))
  }
  if (type === 'array') return []
  if (type === 'integer' || type === 'number') return (schema as { minimum?: number }).minimum ?? 1
  if (type === 'boolean') return false
  if (pattern.includes('{8}-')) return UUID
  if (pattern.startsWith('^[0-9]') || pattern.startsWith('^[1-9]')) return '1'
  return 'nothing'.padEnd(minLength, '-')
}

function pathOf(
  { path, params }: Operation,
  change: Readonly<Record<string, string>> = {},
): string {
  const values = params ? (sample(params) as Readonly<Record<string, string>>) : {}
  return path.replace(/:([A-Za-z]+)/g, (_, name: string) =>
    encodeOdd(change[name] ?? String(values[name])),
  )
}

function encodeOdd(text: string): string {
  // what cannot be encoded, and what already is, goes as it stands
  if (/^%|\p{Surrogate}/u.test(text)) return '%ED%A0%80%'
  return encodeURIComponent(text)
}

async function send({ operation, path, body }: Sent): Promise<{ status: number; code: string }> {
  const answer = await request(`${site.url}${path}`, {
    dispatcher,
    method: operation.method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(operation.body ? { 'content-type': 'application/json' } : {}),
    },
    body: operation.body ? JSON.stringify(body) : null,
  })
  const text = await answer.body.text()
  const { code = '' } = (text.startsWith('{') ? JSON.parse(text) : {}) as { readonly code?: string }
  return { status: answer.statusCode, code }
}

/** Sends all of it, and tells of what was answered by an error of our own, or in no form that is known. */
async function failuresOf(all: readonly Sent[]): Promise<readonly string[]> {
  const failures: string[] = []
  for (const one of all.filter((_, index) => index % EVERY === 0)) {
    const { status, code } = await send(one)
    const isRefusal = status >= 400 && status < 500 && Object.hasOwn(ERROR_CODES, code)
    const isDone = status < 300
    // key servers, TPMs, providers elsewhere that are not there
    const isElsewhere = status === 502 || status === 503 || status === 504
    const isOwn = isRefusal || isDone || (isElsewhere && code !== 'INTERNAL')
    if (isOwn && (isDone || described.get(one.operation.id)?.has(code))) continue
    const why = isOwn ? 'which its description does not have' : 'an error of our own'
    const sent = JSON.stringify(one.body)?.slice(0, 100)
    failures.push(
      `${one.operation.id} ${one.path.slice(0, 100)} ${sent}: ${status} ${code}, ${why}`,
    )
  }
  return failures
}

test('odd names and ids in a path are refused by a code that is described, and never by an error of our own', async () => {
  const all = operations.flatMap((operation) =>
    Object.keys((operation.params as TObject | undefined)?.properties ?? {}).flatMap((name) =>
      ODD.map((odd): Sent => {
        const body = operation.body && sample(operation.body)
        return { operation, path: pathOf(operation, { [name]: odd }), body }
      }),
    ),
  )
  expect(all.length).toBeGreaterThan(500)
  expect(await failuresOf(all)).toEqual([])
})

test('names that would be steps of a path call no other operation', async () => {
  for (const name of ['', '.', '..']) {
    const user = { kind: 'user' as const, name }
    for (const call of [
      () => site.admin.call(deleteAccount, { params: user }),
      () => site.admin.call(deleteStoragePolicy, { params: { policy: name } }),
      () => site.admin.call(setAccountState, { params: user, body: { state: 'disabled' } }),
    ]) {
      await expect(call()).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
    }
  }
})

test('odd values in a query are refused by a code that is described, and never by an error of our own', async () => {
  const all = operations.flatMap((operation) => {
    const path = pathOf(operation)
    const names = Object.keys((operation.query as TObject | undefined)?.properties ?? {})
    return [...names, 'no-such-member', '__proto__'].flatMap((name) =>
      ODD.map((odd): Sent => {
        const body = operation.body && sample(operation.body)
        return { operation, path: `${path}?${name}=${encodeOdd(odd)}`, body }
      }),
    )
  })
  expect(await failuresOf(all)).toEqual([])
})

test('odd members of a body are refused by a code that is described, and never by an error of our own', async () => {
  const all = operations.flatMap((operation) => {
    if (!operation.body) return []
    const path = pathOf(operation)
    const fits = sample(operation.body) as Readonly<Record<string, unknown>>
    const { properties = {} } = operation.body as TObject
    const bodies = [
      ...VALUES,
      { ...fits, noSuchMember: 1 },
      ...Object.keys(properties).flatMap((name) =>
        VALUES.map((value) => ({ ...fits, [name]: value })),
      ),
    ]
    return bodies.map((body): Sent => ({ operation, path, body }))
  })
  expect(await failuresOf(all)).toEqual([])
})
