import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import type { TObject, TSchema } from 'typebox'
import type { AnswerOf, BodyOf, Operation, ParamsOf, QueryOf } from '../api/operation.js'
import type { Access } from './access.js'
import { type App, idempotencyOf } from './app.js'
import { once } from './idempotency.js'

/** The checked parts of a request. Parts that the operation does not have are not to be read. */
export interface OperationInput<O> {
  readonly params: ParamsOf<O>
  readonly query: QueryOf<O>
  readonly body: BodyOf<O>
  /** To ask who the caller is. */
  readonly request: FastifyRequest
}

export interface RouteSettings {
  readonly access: Access
  /** Instead of the limit of the app. */
  readonly bodyLimitOctets?: number
  /** For each address, instead of the limit of the app. */
  readonly requestsPerMinute?: number
}

/** Registers the route of an operation: schemas, status and identifier come from its one description. */
export function addOperation<O extends Operation<TObject, TObject, TSchema, TSchema>>(
  app: App,
  operation: O,
  settings: RouteSettings,
  handle: (input: OperationInput<O>) => Promise<AnswerOf<O>>,
): void {
  const { access, bodyLimitOctets, requestsPerMinute } = settings
  const schema = {
    operationId: operation.id,
    summary: operation.summary,
    ...(operation.params ? { params: operation.params } : {}),
    ...(operation.query ? { querystring: operation.query } : {}),
    ...(operation.body ? { body: operation.body } : {}),
    response: { [operation.status]: operation.answer },
  }
  app.route({
    method: operation.method,
    url: operation.path,
    schema,
    config: {
      access,
      ...(requestsPerMinute ? { rateLimit: { max: requestsPerMinute, timeWindow: 60_000 } } : {}),
    },
    ...(bodyLimitOctets ? { bodyLimit: bodyLimitOctets } : {}),
    handler: async (request, reply) => {
      const work = () =>
        handle({
          params: request.params as ParamsOf<O>,
          query: request.query as QueryOf<O>,
          body: request.body as BodyOf<O>,
          request,
        })
      const repeatable = operation.method === 'POST' ? keyOf(app, access, request) : undefined
      const answer = await (repeatable ? once(repeatable.store, repeatable, work) : work())
      return reply.code(operation.status).send(answer)
    },
  })
}

/** The idempotency key of an operator's request, where there is one and the app keeps answers. */
function keyOf(app: App, access: Access, request: FastifyRequest) {
  const key = request.headers['idempotency-key']
  const store = idempotencyOf(app)
  if (typeof key !== 'string' || !store || typeof access !== 'object') return undefined
  const { authorization = '' } = request.headers
  const caller = createHash('sha256').update(authorization).digest('hex')
  const { params, body, method } = request
  const { url = '' } = request.routeOptions
  return { store, key, scope: `${caller} ${method} ${url}`, content: { params, body } }
}
