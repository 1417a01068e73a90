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
import { type App, addOperation, type OperatorAccess } from '../../http/index.js'
import type { AuditLog } from '../../store/index.js'
import type { ProviderAdministration } from '../domain/providers.js'

const SERVICE = 'key-provider'
const READ = { access: { operator: ['administrator', 'auditor'], service: SERVICE } } as const
const CHANGE = { access: { operator: ['administrator'], service: SERVICE } } as const

/** What administrators and auditors call. */
export function addOperatorRoutes(
  app: App,
  deps: {
    readonly providers: ProviderAdministration
    readonly audit: AuditLog
    readonly operators: OperatorAccess
    readonly clock: Clock
  },
): void {
  const { providers, audit } = deps
  const actOf = (request: FastifyRequest) => ({
    operator: deps.operators.operatorOf(request).name,
    nowMs: deps.clock.nowMs(),
  })

  addOperation(app, createProvider, CHANGE, async ({ body, request }) =>
    providers.create(actOf(request), body.name, body.settings, body.backend),
  )
  addOperation(app, listProviders, READ, async () => ({ providers: [...(await providers.list())] }))
  addOperation(app, getProvider, READ, async ({ params }) => providers.get(params.provider))
  addOperation(app, explainRelease, READ, async ({ params, query }) => {
    const nowMs = deps.clock.nowMs()
    const explanations = await providers.explain(params.provider, query.hostId, nowMs)
    return { explanations: explanations.map((one) => ({ ...one, findings: [...one.findings] })) }
  })
  addOperation(app, setProvider, CHANGE, async ({ params, body, request }) =>
    providers.set(actOf(request), params.provider, body),
  )
  addOperation(app, setKeyServers, CHANGE, async ({ params, body, request }) =>
    providers.setKeyServers(actOf(request), params.provider, body.keyServers, body.force === true),
  )
  addOperation(app, rebindTpm, CHANGE, async ({ params, body, request }) =>
    providers.rebindTpm(actOf(request), params.provider, body.pcrs),
  )
  addOperation(app, testProvider, CHANGE, async ({ params, request }) => {
    const { verdict, findings } = await providers.test(actOf(request), params.provider)
    return { verdict, findings: [...findings] }
  })
  addOperation(app, rotateProvider, CHANGE, async ({ params, body, request }) =>
    providers.rotate(actOf(request), params.provider, body.preActive === true),
  )
  addOperation(app, scheduleDestruction, CHANGE, async ({ params, body, request }) =>
    providers.scheduleDestruction(actOf(request), params.provider, {
      version: Number(params.version),
      afterDays: body.afterDays,
      reason: body.reason,
      abandon: body.abandon === true,
    }),
  )
  addOperation(app, cancelDestruction, CHANGE, async ({ params, request }) =>
    providers.cancelDestruction(actOf(request), params.provider, Number(params.version)),
  )
  addOperation(app, setKeyState, CHANGE, async ({ params, body, request }) =>
    providers.setState(actOf(request), params.provider, {
      ...body,
      version: Number(params.version),
    }),
  )
  addOperation(app, listKeyProviderAudit, READ, async ({ query }) => audit.list(query))
  addOperation(app, verifyKeyProviderAudit, READ, async () => audit.verify())
}
