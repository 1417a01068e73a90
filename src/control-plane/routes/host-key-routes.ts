import type { FastifyRequest } from 'fastify'
import {
  backupNativeProvider,
  confirmBackup,
  createNativeProvider,
  createStandardProvider,
  deleteHostKeyProvider,
  getHostKeyProvider,
  listHostKeyDeliveries,
  listHostKeyProviders,
  listHostKeys,
  restoreNativeProvider,
  rotateNativeProvider,
  setHostKeyProvider,
  setStandardKeyServers,
  syncHostKeys as syncOperation,
  takeHostKey as takeOperation,
  testStandardProvider,
} from '../../api/host-keys.js'
import { fromBase64url, toBase64url, utf8 } from '../../core/bytes.js'
import type { Clock } from '../../core/clock.js'
import { Secret } from '../../core/secret.js'
import {
  type App,
  addOperation,
  type CallerAccess,
  type HostAccess,
  type HostRate,
  RateLimitedError,
} from '../../http/index.js'
import type { WaitingRoom } from '../adapters/change-signal.js'
import { type AttestedHost, syncHostKeys } from '../domain/deliver-host-keys.js'
import type { HostKeyProviders } from '../domain/host-key-providers.js'
import type { NativeBackups } from '../domain/native-backup.js'
import { type TakeDeps, takeHostKey } from '../domain/take-host-key.js'
import { attestedHost } from './host-caller.js'

const SERVICE = 'control-plane'
const FOR_PEOPLE = { access: { people: SERVICE } } as const

/** What a host may say of the keys that it holds: some 10 000 of them. */
const REPORT_LIMIT_OCTETS = 256 * 1024
const BACKUP_LIMIT_OCTETS = 512 * 1024

/** Keys that the control plane delivers: to hosts, and how administrators govern them. */
export function addHostKeyRoutes(
  app: App,
  deps: {
    readonly delivery: TakeDeps
    readonly waiting: WaitingRoom
    readonly providers: HostKeyProviders
    readonly backups: NativeBackups
    readonly hosts: HostAccess
    readonly rate: HostRate
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { delivery, waiting, clock, providers, backups } = deps
  app.addHook('preClose', async () => waiting[Symbol.asyncDispose]())

  const hostOf = async (request: FastifyRequest): Promise<AttestedHost> => {
    const host = await attestedHost(deps.hosts, request)
    const { issuer, hostId } = host.caller
    const waitSeconds = deps.rate.take(`${issuer} ${hostId}`, clock.nowMs())
    if (waitSeconds === undefined) return host
    throw new RateLimitedError('this host asks for keys too often', waitSeconds)
  }

  addOperation(
    app,
    syncOperation,
    { access: 'host', bodyLimitOctets: REPORT_LIMIT_OCTETS },
    async ({ body, request }) => {
      const host = await hostOf(request)
      const first = await syncHostKeys(delivery, host, body, { nowMs: clock.nowMs(), admit: true })
      if (first.news || body.waitSeconds === 0) return first.answer
      await waiting.wait(body.revision, body.waitSeconds * 1000)
      const second = { nowMs: clock.nowMs(), admit: false }
      return (await syncHostKeys(delivery, host, body, second)).answer
    },
  )

  addOperation(app, takeOperation, { access: 'host' }, async ({ body, request }) =>
    takeHostKey(delivery, await hostOf(request), body, clock.nowMs()),
  )

  const actOf = (request: FastifyRequest) => deps.callers.actOf(request, clock.nowMs())
  addOperation(app, createNativeProvider, FOR_PEOPLE, async ({ body, request }) =>
    providers.createNative(actOf(request), body),
  )
  addOperation(app, createStandardProvider, FOR_PEOPLE, async ({ body, request }) =>
    providers.createStandard(actOf(request), { ...body, force: body.force === true }),
  )
  addOperation(app, setStandardKeyServers, FOR_PEOPLE, async ({ params, body, request }) =>
    providers.setKeyServers(actOf(request), params.provider, {
      keyServers: body.keyServers,
      force: body.force === true,
    }),
  )
  addOperation(app, testStandardProvider, FOR_PEOPLE, async ({ params }) =>
    providers.test(params.provider, clock.nowMs()),
  )
  addOperation(app, listHostKeyProviders, FOR_PEOPLE, async ({ query: { kind, ...page } }) => {
    const { items, ...next } = await providers.list(kind, page, clock.nowMs())
    return { providers: [...items], ...next }
  })
  addOperation(app, getHostKeyProvider, FOR_PEOPLE, async ({ params }) =>
    providers.get(params.provider, clock.nowMs()),
  )
  addOperation(app, listHostKeys, FOR_PEOPLE, async ({ params, query }) => {
    const { items, ...next } = await providers.listKeys(params.provider, query)
    return { keys: [...items], ...next }
  })
  addOperation(app, listHostKeyDeliveries, FOR_PEOPLE, async ({ params, query }) => {
    const { items, ...next } = await providers.listDeliveries(params.provider, query)
    return { deliveries: [...items], ...next }
  })
  addOperation(app, setHostKeyProvider, FOR_PEOPLE, async ({ params, body, request }) =>
    providers.setClusters(actOf(request), params.provider, body.clusters),
  )
  addOperation(app, rotateNativeProvider, FOR_PEOPLE, async ({ params, request }) =>
    providers.rotate(actOf(request), params.provider),
  )
  addOperation(app, deleteHostKeyProvider, FOR_PEOPLE, async ({ params, body, request }) =>
    providers.remove(actOf(request), params.provider, {
      reason: body.reason,
      force: body.force === true,
    }),
  )
  addOperation(app, backupNativeProvider, FOR_PEOPLE, async ({ params, body, request }) => {
    using passphrase = new Secret(utf8(body.passphrase))
    const { file, digest } = await backups.make(actOf(request), params.provider, passphrase)
    return { file: toBase64url(file), digest }
  })
  addOperation(app, confirmBackup, FOR_PEOPLE, async ({ params, body, request }) =>
    backups.confirm(actOf(request), params.provider, body.digest),
  )
  addOperation(
    app,
    restoreNativeProvider,
    { ...FOR_PEOPLE, bodyLimitOctets: BACKUP_LIMIT_OCTETS },
    async ({ body, request }) => {
      using passphrase = new Secret(utf8(body.passphrase))
      return await backups.restore(actOf(request), {
        passphrase,
        file: fromBase64url(body.file),
        name: body.name,
        clusters: body.clusters,
      })
    },
  )
}
