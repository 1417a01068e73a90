import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { PlatformError } from '../core/errors.js'
import type { Access } from './access.js'
import type { App } from './app.js'

/** One event of a stream; `id` is what a client that lost its connection goes on from. */
export interface StreamedEvent {
  readonly id: number
  readonly type: string
  readonly data: unknown
  /** Whether this caller may not see it: the stream goes on behind it. */
  readonly hidden?: boolean
}

export interface EventStreamRoute {
  /** The operationId of OpenAPI. */
  readonly id: string
  readonly summary: string
  readonly path: string
  readonly access: Access
  /** The next events after `id`, oldest first; none where there are none yet. What it throws ends the stream. */
  readonly eventsAfter: (id: number, request: FastifyRequest) => Promise<readonly StreamedEvent[]>
  /** Where a client begins that names no event: after the newest. */
  readonly newestId: () => Promise<number>
}

const POLL_MS = 1_000
const HEARTBEAT_MS = 15_000
const MAX_STREAMS = 64

const QUERY = Type.Object(
  { after: Type.Optional(Type.Integer({ minimum: 0 })) },
  { additionalProperties: false },
)

/**
 * Server-Sent Events: a client gets each event once it is committed, whichever process of the site wrote it, within a
 * second or so. A client that comes back says by `Last-Event-ID` (or `?after=`) what it has.
 *
 * A comment is sent every 15 s, so that a dead connection is noticed. At most 64 streams are open at once.
 *
 * @see WHATWG HTML, section 9.2 (server-sent events)
 */
export function addEventStream(app: App, route: EventStreamRoute): void {
  const closing = new AbortController()
  let open = 0
  app.addHook('preClose', async () => closing.abort())
  app.route({
    method: 'GET',
    url: route.path,
    schema: {
      operationId: route.id,
      summary: route.summary,
      querystring: QUERY,
      response: { 200: Type.String() },
    } as const,
    config: { access: route.access },
    handler: async (request, reply) => {
      if (open >= MAX_STREAMS) throw new PlatformError('RATE_LIMITED', 'too many open streams')
      const after = request.query.after ?? lastEventId(request.headers['last-event-id'])
      const from = after ?? (await route.newestId())
      open += 1
      const ended = new AbortController()
      const signal = AbortSignal.any([closing.signal, ended.signal])
      const stream = Readable.from(follow(route, request, from, signal), { objectMode: false })
      stream.once('close', () => {
        open -= 1
        ended.abort()
      })
      // the type of the answer is for callers of JSON; this one is text as it comes
      return reply.type('text/event-stream; charset=utf-8').send(stream as unknown as string)
    },
  })
}

async function* follow(
  route: EventStreamRoute,
  request: FastifyRequest,
  from: number,
  signal: AbortSignal,
): AsyncGenerator<string> {
  let last = from
  let quietSince = performance.now()
  yield ': connected\n\n'
  while (!signal.aborted) {
    const events = await route.eventsAfter(last, request)
    for (const event of events) {
      last = event.id
      if (event.hidden) continue
      yield `id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(event.data)}\n\n`
    }
    if (events.length > 0) {
      quietSince = performance.now()
    } else if (performance.now() - quietSince > HEARTBEAT_MS) {
      quietSince = performance.now()
      yield ': still here\n\n'
    }
    if (events.length === 0) await pause(signal)
  }
}

async function pause(signal: AbortSignal): Promise<void> {
  try {
    await delay(POLL_MS, undefined, { signal })
  } catch (error) {
    if (!signal.aborted) throw error
  }
}

function lastEventId(header: string | string[] | undefined): number | undefined {
  if (typeof header !== 'string') return undefined
  return /^\d{1,15}$/.test(header) ? Number(header) : undefined
}
