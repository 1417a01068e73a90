import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import type { TObject, TSchema } from 'typebox'
import type { AnswerOf, BodyOf, Operation, ParamsOf, QueryOf } from '../api/operation.js'
import { isPlatformError } from '../core/errors.js'
import type { Access, PersonRule } from './access.js'
import { type App, callersOf, idempotencyOf } from './app.js'
import { wasChecked } from './caller.js'
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
  /** For people, the service that is called: what they need is said by the operation. */
  readonly access: Exclude<Access, PersonRule> | { readonly people: string }
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
  const { bodyLimitOctets, requestsPerMinute } = settings
  const access = accessOf(operation, settings)
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
      ...(operation.errors ? { errors: operation.errors } : {}),
      ...(operation.example === undefined ? {} : { example: operation.example }),
      ...(requestsPerMinute ? { rateLimit: { max: requestsPerMinute, timeWindow: 60_000 } } : {}),
    },
    ...(bodyLimitOctets ? { bodyLimit: bodyLimitOctets } : {}),
    handler: async (request, reply) => {
      const work = () =>
        checking(app, access, request, () =>
          handle({
            params: request.params as ParamsOf<O>,
            query: request.query as QueryOf<O>,
            body: request.body as BodyOf<O>,
            request,
          }),
        )
      const repeatable = operation.method === 'POST' ? keyOf(app, access, request) : undefined
      const answer = await recordingRefusals(app, access, request, () =>
        repeatable ? once(repeatable.store, repeatable, work) : work(),
      )
      return reply.code(operation.status).send(answer)
    },
  })
}

/** Throws `TypeError` where the operation does not say what people need, or says so although it is not for people. */
function accessOf(operation: Operation, { access }: RouteSettings): Access {
  const { needs, id } = operation
  if (typeof access === 'string') {
    if (needs !== undefined) throw new TypeError(`${id} is for people: its route is not`)
    return access
  }
  if (needs === undefined) throw new TypeError(`${id} declares no privileges`)
  return { needs, service: access.people }
}

/**
 * Does what a person asked for: an operation on an object that answers without having asked what its caller may do is a
 * mistake of ours.
 */
async function checking<T>(
  app: App,
  access: Access,
  request: FastifyRequest,
  work: () => Promise<T>,
): Promise<T> {
  const answer = await work()
  if (typeof access !== 'object' || access.needs.on !== 'object') return answer
  const caller = callersOf(app)?.callerOf(request)
  if (caller && wasChecked(caller)) return answer
  throw new TypeError('the operation did not check what its caller may do')
}

/** Answers the request of a person; a refusal is recorded first. */
async function recordingRefusals<T>(
  app: App,
  access: Access,
  request: FastifyRequest,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (typeof access === 'object' && isPlatformError(error, 'FORBIDDEN')) {
      await callersOf(app)?.refused(request, access, error)
    }
    throw error
  }
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
