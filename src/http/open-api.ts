import type { Access } from './access.js'
import type { App } from './app.js'
import { routesOf } from './app.js'
import { PROBLEM_RESPONSE, PROBLEM_SCHEMA, refusalsOf } from './open-api-errors.js'
import type { RouteEntry } from './route-rules.js'

interface JsonSchema {
  readonly [keyword: string]: unknown
}

/** What of an OpenAPI document is not in the routes. */
export interface OpenApiInfo {
  readonly title: string
  readonly version: string
  /** `https://authority.example:8440` */
  readonly serverUrl: string
}

/**
 * The routes of an app as an OpenAPI 3.1 document: paths, schemas and answers are those that the app checks and sends,
 * not a description beside them.
 *
 * @see OpenAPI Specification 3.1.0
 */
export function openApiOf(app: App, info: OpenApiInfo): Readonly<Record<string, unknown>> {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const route of routesOf(app)) {
    const path = route.path.replace(/:([A-Za-z]+)/g, '{$1}')
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operationOf(route) }
  }
  return {
    openapi: '3.1.0',
    info: { title: info.title, version: info.version },
    servers: [{ url: info.serverUrl }],
    paths,
    components: {
      schemas: { Problem: PROBLEM_SCHEMA },
      responses: { Problem: PROBLEM_RESPONSE },
      securitySchemes: {
        person: {
          type: 'http',
          scheme: 'bearer',
          description:
            'token of a user, a service account or an operator, or of the outside provider (OIDC)',
        },
        host: {
          type: 'http',
          scheme: 'DPoP',
          description: 'attestation result token, with a proof of possession (RFC 9449)',
        },
      },
    },
  }
}

/** Serves the document of the app at `path` to anybody. Call it last: it describes the routes that exist. */
export function addOpenApiRoute(app: App, path: string, info: OpenApiInfo): void {
  let document: string | undefined
  app.get(
    path,
    { config: { access: 'public' }, schema: { response: { 200: { type: 'string' } } } },
    async (_request, reply) => {
      document ??= JSON.stringify(openApiOf(app, info))
      return reply.type('application/json').serializer(String).send(document)
    },
  )
}

function operationOf(route: RouteEntry): JsonSchema {
  const { schema, access, method, path, example } = route
  const { operationId, summary } = schema
  const body = schema.body as JsonSchema | undefined
  const answers = Object.entries((schema.response ?? {}) as Record<string, JsonSchema>)
  return {
    operationId: operationId ?? `${method.toLowerCase()}${path.replace(/[^A-Za-z]+/g, '-')}`,
    ...(summary === undefined ? {} : { summary }),
    security: securityOf(access),
    ...needsOf(access),
    parameters: [
      ...parametersOf(schema.params, 'path'),
      ...parametersOf(schema.querystring, 'query'),
    ],
    ...(body === undefined
      ? {}
      : {
          requestBody: { required: true, content: { 'application/json': bodyOf(body, example) } },
        }),
    responses: {
      ...Object.fromEntries(answers.map(([status, answer]) => [status, answerOf(answer)])),
      ...refusalsOf(route),
      default: { $ref: '#/components/responses/Problem' },
    },
  }
}

function bodyOf(schema: JsonSchema, example: unknown): JsonSchema {
  return { schema, ...(example === undefined ? {} : { example }) }
}

function answerOf(schema: JsonSchema): JsonSchema {
  const { contentMediaType } = schema
  const type = schema['type'] === 'string' ? 'text/plain' : 'application/json'
  return { description: 'the answer', content: { [String(contentMediaType ?? type)]: { schema } } }
}

function parametersOf(schema: unknown, place: 'path' | 'query'): readonly JsonSchema[] {
  const { properties = {}, required = [] } = (schema ?? {}) as {
    readonly properties?: Readonly<Record<string, JsonSchema>>
    readonly required?: readonly string[]
  }
  return Object.entries(properties).map(([name, member]) => ({
    name,
    in: place,
    required: place === 'path' || required.includes(name),
    schema: member,
  }))
}

function securityOf(access: Access): readonly JsonSchema[] {
  if (access === 'public' || access === 'local') return []
  return [access === 'host' ? { host: [] } : { person: [] }]
}

/** What a person must have, for programs: `x-privileges`, and `x-checked-on` (`self`, `site`, `object`). */
function needsOf(access: Access): JsonSchema {
  if (typeof access !== 'object') return {}
  const { needs } = access
  const privileges = needs.on === 'self' ? [] : needs.privileges
  return { 'x-privileges': privileges, 'x-checked-on': needs.on }
}
