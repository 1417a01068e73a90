import type { FastifyRequest } from 'fastify'
import {
  generateKeys,
  releaseKeys,
  rewrapKeys,
  unwrapKeys,
  wrapKeys,
} from '../../api/key-provider.js'
import { fromBase64url } from '../../core/bytes.js'
import type { Clock } from '../../core/clock.js'
import {
  type App,
  addOperation,
  type HostAccess,
  type HostRate,
  RateLimitedError,
} from '../../http/index.js'
import {
  type Caller,
  generateForHost,
  type ReleaseDeps,
  releaseForHost,
  rewrapForHost,
  unwrapForHost,
  wrapForHost,
} from '../domain/release.js'

/** A batch of 1000 wrapped keys with their contexts. */
const BATCH_BODY_OCTETS = 4 * 1024 * 1024

/** What attested hosts call. */
export function addHostRoutes(
  app: App,
  deps: {
    readonly release: ReleaseDeps
    readonly hosts: HostAccess
    readonly rate: HostRate
    readonly clock: Clock
  },
): void {
  const { release, clock } = deps
  const settings = { access: 'host', bodyLimitOctets: BATCH_BODY_OCTETS } as const
  const callerOf = async (request: FastifyRequest): Promise<Caller> => {
    const { claims, proof, recordUntilSeconds } = await deps.hosts.authenticate(request)
    const waitSeconds = deps.rate.take(`${claims.iss} ${claims.sub}`, clock.nowMs())
    if (waitSeconds !== undefined) {
      release.metrics.request('any', 'RATE_LIMITED', 0)
      throw new RateLimitedError('this host asks for keys too often', waitSeconds)
    }
    return { claims, proof, proofExpiresAtMs: recordUntilSeconds * 1000 }
  }

  addOperation(app, wrapKeys, settings, async ({ params, body, request }) => {
    const caller = await callerOf(request)
    const items = body.items.map((item) => ({ ...item, dek: fromBase64url(item.dek) }))
    try {
      const nowMs = clock.nowMs()
      const { provider } = params
      return { items: [...(await wrapForHost(release, caller, { provider, items, nowMs }))] }
    } finally {
      for (const { dek } of items) dek.fill(0)
    }
  })

  addOperation(app, generateKeys, settings, async ({ params, body, request }) => {
    const { items, sealed } = await generateForHost(release, await callerOf(request), {
      provider: params.provider,
      items: body.items,
      assurance: body.assurance,
      nowMs: clock.nowMs(),
    })
    return { items: [...items], sealed }
  })

  addOperation(app, unwrapKeys, settings, async ({ params, body, request }) => {
    const { items, sealed } = await unwrapForHost(release, await callerOf(request), {
      provider: params.provider,
      items: body.items,
      assurance: body.assurance,
      nowMs: clock.nowMs(),
    })
    return { items: [...items], sealed }
  })

  addOperation(app, rewrapKeys, settings, async ({ params, body, request }) => {
    const { provider } = params
    const { items } = body
    const nowMs = clock.nowMs()
    const caller = await callerOf(request)
    return { items: [...(await rewrapForHost(release, caller, { provider, items, nowMs }))] }
  })

  addOperation(app, releaseKeys, settings, async ({ params, body, request }) => {
    const { provider } = params
    const { items } = body
    const nowMs = clock.nowMs()
    const caller = await callerOf(request)
    return { items: [...(await releaseForHost(release, caller, { provider, items, nowMs }))] }
  })
}
