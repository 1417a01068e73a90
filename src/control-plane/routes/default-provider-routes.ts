import type { FastifyRequest } from 'fastify'
import {
  getDefaultProviders,
  removeDefaultProvider,
  setDefaultProvider,
} from '../../api/default-provider.js'
import type { Clock } from '../../core/clock.js'
import { type App, addOperation, type CallerAccess } from '../../http/index.js'
import type { DefaultProviderActs } from '../domain/default-providers.js'

const SERVICE = 'control-plane'
const FOR_PEOPLE = { access: { people: SERVICE } } as const

/** Default key providers of the site and of clusters. */
export function addDefaultProviderRoutes(
  app: App,
  deps: {
    readonly defaults: DefaultProviderActs
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { defaults, clock } = deps
  const actOf = (request: FastifyRequest) => deps.callers.actOf(request, clock.nowMs())
  addOperation(app, getDefaultProviders, FOR_PEOPLE, () => defaults.view())
  addOperation(app, setDefaultProvider, FOR_PEOPLE, ({ query, body, request }) =>
    defaults.set(actOf(request), query.cluster, body.provider),
  )
  addOperation(app, removeDefaultProvider, FOR_PEOPLE, ({ query, request }) =>
    defaults.remove(actOf(request), query.cluster),
  )
}
