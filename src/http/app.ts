import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import rateLimit, { normalizeIP } from '@fastify/rate-limit'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  fastify,
  LogController,
  type RouteHandlerMethod,
} from 'fastify'
import type { Registry } from 'prom-client'
import { parseUtf8 } from '../core/bytes.js'
import { isPlatformError, PlatformError } from '../core/errors.js'
import type { Logger } from '../core/logger.js'
import { newUuid } from '../core/random.js'
import { type JsonLimits, parseStrictJson } from '../core/strict-json.js'
import { admit, type Doors } from './access.js'
import type { CallerAccess } from './caller-access.js'
import type { IdempotencyStore } from './idempotency.js'
import { requestTimer } from './metrics.js'
import { sendProblem } from './problem.js'
import { checkRoute, type RouteEntry } from './route-rules.js'
import { serializerCompiler } from './serialization.js'
import { validatorCompiler } from './validation.js'

export type App = FastifyInstance<
  Server,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>

export interface AppOptions extends Doors {
  readonly logger: Logger
  /** Name of the service: `key-provider`. */
  readonly name: string
  readonly bodyLimitOctets: number
  readonly registry?: Registry
  /** Lets operators repeat a POST by its `Idempotency-Key`. */
  readonly idempotency?: IdempotencyStore
  /** For each public route and each address (IPv6: each /64). */
  readonly publicRequestsPerMinute?: number
  /** What a path without a route is answered with, whatever was sent there; `NOT_FOUND` where it is not said. */
  readonly elsewhere?: () => PlatformError
}

const JSON_LIMITS: JsonLimits = { maxDepth: 16, maxItems: 50_000 }
const MAX_PARAMETER_CHARACTERS = 128
const PUBLIC_REQUESTS_PER_MINUTE = 600

const HEADERS = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' } as const

const routeTables = new WeakMap<object, readonly RouteEntry[]>()
const localApps = new WeakSet<object>()
const requestsUnderWay = new WeakMap<object, Set<Promise<unknown>>>()
const idempotencyStores = new WeakMap<object, IdempotencyStore>()
const callerDoors = new WeakMap<object, CallerAccess>()

/**
 * An HTTP application that denies by default.
 *
 * Each route must declare `config.access` and closed, bounded schemas, or it does not register. Callers are admitted
 * before their body is read. Bodies are JSON, read strictly. Errors are problem documents that tell unknown callers
 * nothing. The app trusts no proxy header and opens no socket: `listen` does.
 */
export async function createApp(options: AppOptions): Promise<App> {
  const known = new WeakSet<FastifyRequest>()
  const audienceOf = (request: FastifyRequest) =>
    options.local ? 'owner' : known.has(request) ? 'known' : 'unknown'
  const answer = (error: unknown, request: FastifyRequest, reply: FastifyReply) =>
    sendProblem(options.logger, error, request, reply, audienceOf(request))
  const loggerInstance: FastifyBaseLogger = options.logger

  const app = fastify({
    loggerInstance,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: options.bodyLimitOctets,
    trustProxy: false,
    genReqId: newUuid,
    requestIdHeader: false,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: MAX_PARAMETER_CHARACTERS },
    frameworkErrors: (error, request, reply) => {
      answer(error, request, reply.headers(HEADERS).header('x-request-id', request.id))
    },
  }).withTypeProvider<TypeBoxTypeProvider>()

  app.setValidatorCompiler(validatorCompiler)
  app.setSerializerCompiler(serializerCompiler)
  app.setErrorHandler(answer)
  app.setNotFoundHandler((request, reply) =>
    answer(new PlatformError('NOT_FOUND', 'there is no such route'), request, reply),
  )
  readJsonOnly(app)

  const routes: RouteEntry[] = []
  const underWay = new Set<Promise<unknown>>()
  app.addHook('onRoute', (route) => {
    const entry = checkRoute(route, options)
    routes.push(entry)
    route.handler = remembered(route.handler, underWay)
    if (entry.access === 'public') {
      const max = options.publicRequestsPerMinute ?? PUBLIC_REQUESTS_PER_MINUTE
      route.config = { rateLimit: { max, timeWindow: 60_000 }, ...route.config }
    }
  })
  app.addHook('onRequest', async (request, reply) => {
    reply.headers(HEADERS).header('x-request-id', request.id)
    if (request.is404) {
      if (options.elsewhere) throw options.elsewhere()
      return
    }
    const { access } = request.routeOptions.config
    if (access === undefined) throw new TypeError('a route without access was registered')
    try {
      if (await admit(request, access, options)) known.add(request)
    } catch (error) {
      // who is forbidden something is known, and may be told what is missing
      if (isPlatformError(error, 'FORBIDDEN')) known.add(request)
      throw error
    }
  })
  await app.register(rateLimit, {
    global: false,
    keyGenerator: ({ ip }: { readonly ip?: string }) => (ip ? normalizeIP(ip) : 'local'),
    errorResponseBuilder: () => new PlatformError('RATE_LIMITED', 'too many requests'),
  })
  recordRequests(app, options)

  routeTables.set(app, routes)
  requestsUnderWay.set(app, underWay)
  if (options.idempotency) idempotencyStores.set(app, options.idempotency)
  if (options.callers) callerDoors.set(app, options.callers)
  if (options.local) localApps.add(app)
  return app
}

/** The routes of an app with their access, for the documents and for tests. */
export function routesOf(app: App): readonly RouteEntry[] {
  return routeTables.get(app) ?? []
}

/**
 * Waits until no route of the app is at work, also for callers who are gone. Who closes a service that still gets
 * requests sends them elsewhere first.
 */
export async function quiet(app: App): Promise<void> {
  const underWay = requestsUnderWay.get(app)
  while (underWay && underWay.size > 0) await Promise.allSettled(underWay)
}

/** Where the app keeps answers that may be asked for again. */
export function idempotencyOf(app: App): IdempotencyStore | undefined {
  return idempotencyStores.get(app)
}

/** How people are known to the app. */
export function callersOf(app: App): CallerAccess | undefined {
  return callerDoors.get(app)
}

/** Whether an app has been made for a unix socket and must not be served elsewhere. */
export function isLocalApp(app: App): boolean {
  return localApps.has(app)
}

/** The handler, known to be at work until what it returned is settled. */
function remembered(
  handler: RouteHandlerMethod,
  underWay: Set<Promise<unknown>>,
): RouteHandlerMethod {
  return function remember(request, reply) {
    const answered = handler.call(this, request, reply)
    if (answered instanceof Promise) {
      underWay.add(answered)
      const forget = () => underWay.delete(answered)
      answered.then(forget, forget)
    }
    return answered
  }
}

function readJsonOnly(app: App): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer' },
    async (_request: FastifyRequest, body: Buffer) => {
      try {
        return parseStrictJson(parseUtf8(body), JSON_LIMITS)
      } catch (cause) {
        if (!(cause instanceof PlatformError)) throw cause
        throw new PlatformError('REQUEST_INVALID', `body: ${cause.message}`, { cause })
      }
    },
  )
}

function recordRequests(app: App, { registry, logger, name }: AppOptions): void {
  const timer = registry ? requestTimer(registry, name) : undefined
  app.addHook('onResponse', async (request, reply) => {
    const { method } = request
    const route = request.routeOptions.url ?? 'none'
    const status = reply.statusCode
    timer?.observe({ method, route, status }, reply.elapsedTime / 1000)
    logger.debug(
      {
        event: 'request.answered',
        requestId: request.id,
        method,
        route,
        status,
        tookMs: reply.elapsedTime,
      },
      'request answered',
    )
  })
}
