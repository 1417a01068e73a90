import type { Registry } from 'prom-client'
import { Type } from 'typebox'
import type { Access } from './access.js'
import type { App } from './app.js'

export interface HealthOptions {
  /** Before `/health` and `/metrics`: `/attestation`, or empty. */
  readonly prefix: string
  readonly state: () => 'ok' | 'sealed'
  /** Whether trust anchors for tests are accepted here; absent where the service has none. */
  readonly insecureTest?: () => boolean
  /** Both, or no `/metrics`. */
  readonly metrics?: { readonly registry: Registry; readonly access: Exclude<Access, 'public'> }
}

/**
 * `/health`: one word to anybody, with status 200, or 503 while the service is sealed and does nothing else; and whether what the service says is for
 * tests only. `/metrics`: figures in the text format of Prometheus, to known callers.
 */
export function addHealthRoutes(
  app: App,
  { prefix, state, insecureTest, metrics }: HealthOptions,
): void {
  const Health = Type.Object(
    {
      status: Type.Union([Type.Literal('ok'), Type.Literal('sealed')]),
      insecureTest: Type.Optional(Type.Boolean()),
    },
    { additionalProperties: false },
  )
  app.get(
    `${prefix}/health`,
    { config: { access: 'public' }, schema: { response: { 200: Health, 503: Health } } },
    async (_request, reply) => {
      const status = state()
      const health = { status, ...(insecureTest ? { insecureTest: insecureTest() } : {}) }
      return reply.code(status === 'ok' ? 200 : 503).send(health)
    },
  )
  if (!metrics) return
  const { registry, access } = metrics
  app.get(
    `${prefix}/metrics`,
    { config: { access }, schema: { response: { 200: Type.String() } } },
    async (_request, reply) => reply.type(registry.contentType).send(await registry.metrics()),
  )
}
