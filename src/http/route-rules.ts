import type { RouteOptions } from 'fastify'
import type { ErrorCode } from '../core/error-codes.js'
import { type Access, checkAccess, type Doors } from './access.js'

/** One registered route, for the table of routes and the tests that walk it. */
export interface RouteEntry {
  readonly method: string
  readonly path: string
  readonly access: Access
  readonly schema: NonNullable<RouteOptions['schema']> & {
    readonly operationId?: string
    readonly summary?: string
  }
  /** Codes of its own that it answers with, beside those that follow from how it is called. */
  readonly errors?: readonly ErrorCode[]
  /** A body that it takes, for its description. */
  readonly example?: unknown
}

const WITH_BODY: readonly string[] = ['POST', 'PUT', 'PATCH']
const EMPTY = { type: 'object', properties: {}, additionalProperties: false }

interface JsonSchema {
  readonly [keyword: string]: unknown
}

/**
 * Checks a route before it exists: who may call it, and that its schemas leave nothing open.
 *
 * A route without a query schema gets the empty one: no query is allowed. Throws `TypeError`, which stops the start.
 */
export function checkRoute(route: RouteOptions, doors: Doors): RouteEntry {
  const { method, url: path } = route
  if (typeof method !== 'string') throw new TypeError(`${path}: one method for each route`)
  const name = `${method} ${path}`
  const access = route.config?.access
  if (access === undefined) throw new TypeError(`${name} does not declare who may call it`)
  if (path.includes('*')) throw new TypeError(`${name}: no wildcards in paths`)
  checkAccess(access, doors)
  checkSchemas(route, name)
  const { errors, example } = route.config ?? {}
  return {
    ...{ method, path, access, schema: route.schema ?? {} },
    ...(errors ? { errors } : {}),
    ...(example === undefined ? {} : { example }),
  }
}

function checkSchemas(route: RouteOptions, name: string): void {
  const schema = { ...route.schema, querystring: route.schema?.querystring ?? EMPTY }
  route.schema = schema
  if (schema.response === undefined) throw new TypeError(`${name} has no schema for its answer`)
  if (WITH_BODY.includes(String(route.method)) && schema.body === undefined) {
    throw new TypeError(`${name} has no schema for its body`)
  }
  if (route.url.includes(':') && schema.params === undefined) {
    throw new TypeError(`${name} has no schema for its parameters`)
  }
  for (const part of ['body', 'querystring', 'params'] as const) {
    if (schema[part] !== undefined) checkClosed(schema[part] as JsonSchema, `${name} ${part}`)
  }
}

/** Every object is closed; every text and list has an end. */
function checkClosed(schema: JsonSchema, where: string): void {
  const variants = schema['anyOf'] ?? schema['allOf'] ?? schema['oneOf']
  if (Array.isArray(variants)) {
    variants.forEach((variant: JsonSchema, index) => {
      checkClosed(variant, `${where}|${index}`)
    })
    return
  }
  if ('const' in schema || 'enum' in schema) return
  switch (schema['type']) {
    case 'object':
      checkObject(schema, where)
      return
    case 'array':
      requireKeyword(schema, ['maxItems'], where)
      checkClosed((schema['items'] ?? {}) as JsonSchema, `${where}[]`)
      return
    case 'string':
      requireKeyword(schema, ['maxLength', 'pattern'], where)
      return
    case 'integer':
    case 'number':
    case 'boolean':
    case 'null':
      return
    default:
      throw new TypeError(`${where}: the schema allows anything`)
  }
}

function checkObject(schema: JsonSchema, where: string): void {
  if (schema['additionalProperties'] !== false) {
    throw new TypeError(`${where}: additionalProperties must be false`)
  }
  if (schema['patternProperties'] !== undefined) requireKeyword(schema, ['maxProperties'], where)
  for (const keyword of ['properties', 'patternProperties']) {
    const members = (schema[keyword] ?? {}) as Readonly<Record<string, JsonSchema>>
    for (const [name, member] of Object.entries(members)) checkClosed(member, `${where}.${name}`)
  }
}

function requireKeyword(schema: JsonSchema, keywords: readonly string[], where: string): void {
  if (!keywords.some((keyword) => schema[keyword] !== undefined)) {
    throw new TypeError(`${where}: ${keywords.join(' or ')} is missing`)
  }
}
