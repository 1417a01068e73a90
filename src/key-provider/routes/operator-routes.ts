import type { FastifyRequest } from 'fastify'
import {
  cancelDestruction,
  createProvider,
  explainRelease,
  getProvider,
  listKeyProviderAudit,
  listProviders,
  rebindTpm,
  rotateProvider,
  scheduleDestruction,
  setKeyServers,
  setKeyState,
  setProvider,
  testProvider,
  verifyKeyProviderAudit,
} from '../../api/key-provider.js'
import type { Clock } from '../../core/clock.js'
import { type App, addOperation, type CallerAccess } from '../../http/index.js'
import type { AuditLog } from '../../store/index.js'
import type { ProviderAdministration } from '../domain/providers.js'

const SERVICE = 'key-provider'
const FOR_PEOPLE = { access: { people: SERVICE } } as const

/** What administrators and auditors call. */
export function addOperatorRoutes(
  app: App,
  deps: {
    readonly providers: ProviderAdministration
    readonly audit: AuditLog
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { providers, audit } = deps
  const actOf = (request: FastifyRequest) => deps.callers.actOf(request, deps.clock.nowMs())

  addOperation(app, createProvider, FOR_PEOPLE, async ({ body, request }) =>
    providers.create(actOf(request), body.name, body.settings, body.backend),
  )
  addOperation(app, listProviders, FOR_PEOPLE, async ({ query }) => {
    const { items, ...next } = await providers.list(query)
    return { providers: [...items], ...next }
  })
  addOperation(app, getProvider, FOR_PEOPLE, async ({ params }) => providers.get(params.provider))
  addOperation(app, explainRelease, FOR_PEOPLE, async ({ params, query }) => {
    const nowMs = deps.clock.nowMs()
    const explanations = await providers.explain(params.provider, query.hostId, nowMs)
    return { explanations: explanations.map((one) => ({ ...one, findings: [...one.findings] })) }
  })
  addOperation(app, setProvider, FOR_PEOPLE, async ({ params, body, request }) =>
    providers.set(actOf(request), params.provider, body),
  )
  addOperation(app, setKeyServers, FOR_PEOPLE, async ({ params, body, request }) =>
    providers.setKeyServers(actOf(request), params.provider, body.keyServers, body.force === true),
  )
  addOperation(app, rebindTpm, FOR_PEOPLE, async ({ params, body, request }) =>
    providers.rebindTpm(actOf(request), params.provider, body.pcrs),
  )
  addOperation(app, testProvider, FOR_PEOPLE, async ({ params, request }) => {
    const { verdict, findings } = await providers.test(actOf(request), params.provider)
    return { verdict, findings: [...findings] }
  })
  addOperation(app, rotateProvider, FOR_PEOPLE, async ({ params, body, request }) =>
    providers.rotate(actOf(request), params.provider, body.preActive === true),
  )
  addOperation(app, scheduleDestruction, FOR_PEOPLE, async ({ params, body, request }) =>
    providers.scheduleDestruction(actOf(request), params.provider, {
      version: Number(params.version),
      afterDays: body.afterDays,
      reason: body.reason,
      abandon: body.abandon === true,
    }),
  )
  addOperation(app, cancelDestruction, FOR_PEOPLE, async ({ params, request }) =>
    providers.cancelDestruction(actOf(request), params.provider, Number(params.version)),
  )
  addOperation(app, setKeyState, FOR_PEOPLE, async ({ params, body, request }) =>
    providers.setState(actOf(request), params.provider, {
      ...body,
      version: Number(params.version),
    }),
  )
  addOperation(app, listKeyProviderAudit, FOR_PEOPLE, async ({ query }) => audit.list(query))
  addOperation(app, verifyKeyProviderAudit, FOR_PEOPLE, async () => audit.verify())
}
