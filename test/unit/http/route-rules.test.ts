import type { RouteOptions } from 'fastify'
import { Type } from 'typebox'
import { describe, expect, test } from 'vitest'
import * as attestation from '../../../src/api/attestation.js'
import * as controlPlane from '../../../src/api/control-plane.js'
import * as keyProvider from '../../../src/api/key-provider.js'
import type { Needs } from '../../../src/api/needs.js'
import type { Operation } from '../../../src/api/operation.js'
import { addOperation, type PersonRule, routesOf } from '../../../src/http/index.js'
import { testApp } from './harness.js'

const closed = { additionalProperties: false }
const answer = { 200: Type.Object({}, closed) }
const body = Type.Object({ a: Type.Integer() }, closed)

const good = {
  method: 'POST',
  url: '/things/:id',
  config: { access: 'public' },
  schema: {
    params: Type.Object({ id: Type.String({ maxLength: 8 }) }, closed),
    body,
    response: answer,
  },
  handler: async () => ({}),
} as const satisfies RouteOptions

const withBody = (schema: unknown): RouteOptions => ({
  ...good,
  schema: { ...good.schema, body: schema },
})

test('a route that says who may call it and what it takes is registered', async () => {
  const app = await testApp()
  app.route(good)
  expect(routesOf(app)).toMatchObject([{ method: 'POST', path: '/things/:id', access: 'public' }])
})

describe('what does not register', () => {
  const { body: _, ...noBody } = good.schema
  const { response: __, ...noAnswer } = good.schema
  const { params: ___, ...noParams } = good.schema
  const nothing = { on: 'site', privileges: [] } as unknown as Needs
  const cases: readonly (readonly [claim: string, message: string, route: RouteOptions])[] = [
    ['a route without access', 'does not declare who may call it', { ...good, config: {} }],
    ['a route without config', 'does not declare', { ...good, config: undefined as never }],
    ['a wildcard', 'no wildcards', { ...good, url: '/things/*' }],
    ['two methods in one', 'one method', { ...good, method: ['POST', 'PUT'] }],
    [
      'a host route without host access',
      'no access for hosts',
      { ...good, config: { access: 'host' } },
    ],
    [
      'a local route on an app for TCP',
      'no access for a unix socket',
      { ...good, config: { access: 'local' } },
    ],
    [
      'a route for people that needs no privilege',
      'needs no privilege',
      { ...good, config: { access: { needs: nothing, service: 'test' } } },
    ],
    [
      'a route for people that does not say what they need',
      'declares no privileges',
      { ...good, config: { access: { service: 'test' } as unknown as PersonRule } },
    ],
    ['a body without schema', 'no schema for its body', { ...good, schema: noBody }],
    ['an answer without schema', 'no schema for its answer', { ...good, schema: noAnswer }],
    ['parameters without schema', 'no schema for its parameters', { ...good, schema: noParams }],
    ['an open object', 'additionalProperties', withBody(Type.Object({}))],
    [
      'an open object inside',
      'additionalProperties',
      withBody(Type.Object({ a: Type.Object({}) }, closed)),
    ],
    [
      'an open object in a union',
      'additionalProperties',
      withBody(Type.Union([body, Type.Object({})])),
    ],
    [
      'a record that lets other names through',
      'additionalProperties',
      withBody(
        Type.Record(Type.String({ pattern: '^[a-z]$' }), Type.Integer(), { maxProperties: 3 }),
      ),
    ],
    [
      'a record without end',
      'maxProperties',
      withBody(Type.Record(Type.String({ pattern: '^[a-z]+$' }), Type.Integer(), closed)),
    ],
    ['text without end', 'maxLength', withBody(Type.Object({ a: Type.String() }, closed))],
    [
      'a list without end',
      'maxItems',
      withBody(Type.Object({ a: Type.Array(Type.Integer()) }, closed)),
    ],
    ['anything', 'allows anything', withBody(Type.Object({ a: Type.Unknown() }, closed))],
  ]

  test.each(cases)('%s', async (_, message, route) => {
    const app = await testApp()
    expect(() => app.route(route)).toThrow(message)
    expect(routesOf(app)).toEqual([])
  })

  test('a route in a plugin without access', async () => {
    const app = await testApp()
    app.register((scope, _options, done) => {
      expect(() => scope.get('/hidden', async () => 'here')).toThrow('does not declare')
      done()
    })
    await app.ready()
    expect.assertions(1)
  })
})

test('every operation of the API has closed and bounded schemas', async () => {
  const app = await testApp()
  const operations = [attestation, keyProvider, controlPlane].flatMap((api) =>
    Object.values(api as Readonly<Record<string, unknown>>).filter(isOperation),
  )
  expect(operations.length).toBeGreaterThan(20)
  const refused = operations.flatMap((operation) => {
    try {
      const access = operation.needs ? { people: 'test' } : 'public'
      addOperation(app, operation, { access }, async () => ({}))
      return []
    } catch (error) {
      return [String(error)]
    }
  })
  expect(refused).toEqual([])
})

function isOperation(value: unknown): value is Operation {
  return typeof value === 'object' && value !== null && 'answer' in value && 'path' in value
}
