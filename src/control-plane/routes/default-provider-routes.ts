import {
  getDefaultProviders,
  removeDefaultProvider,
  setDefaultProvider,
} from '../../api/default-provider.js'
import type { Clock } from '../../core/clock.js'
import { type App, addOperation, type OperatorAccess } from '../../http/index.js'
import type { DefaultProviderActs } from '../domain/default-providers.js'

const SERVICE = 'control-plane'
const READ = { access: { operator: ['administrator', 'auditor'], service: SERVICE } } as const
const CHANGE = { access: { operator: ['administrator'], service: SERVICE } } as const

/** Default key providers of the site and of clusters. */
export function addDefaultProviderRoutes(
  app: App,
  deps: {
    readonly defaults: DefaultProviderActs
    readonly operators: OperatorAccess
    readonly clock: Clock
  },
): void {
  const { defaults, clock } = deps
  const actOf = (request: Parameters<OperatorAccess['operatorOf']>[0]) => ({
    operator: deps.operators.operatorOf(request).name,
    nowMs: clock.nowMs(),
  })
  addOperation(app, getDefaultProviders, READ, () => defaults.view())
  addOperation(app, setDefaultProvider, CHANGE, ({ query, body, request }) =>
    defaults.set(actOf(request), query.cluster, body.provider),
  )
  addOperation(app, removeDefaultProvider, CHANGE, ({ query, request }) =>
    defaults.remove(actOf(request), query.cluster),
  )
}
