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
  type HostAccess,
  type HostRate,
  type OperatorAccess,
  RateLimitedError,
} from '../../http/index.js'
import type { WaitingRoom } from '../adapters/change-signal.js'
import { type AttestedHost, syncHostKeys } from '../domain/deliver-host-keys.js'
import type { HostKeyProviders } from '../domain/host-key-providers.js'
import type { NativeBackups } from '../domain/native-backup.js'
import { type TakeDeps, takeHostKey } from '../domain/take-host-key.js'
import { attestedHost } from './host-caller.js'

const SERVICE = 'control-plane'
const READ = { access: { operator: ['administrator', 'auditor'], service: SERVICE } } as const
const CHANGE = { access: { operator: ['administrator'], service: SERVICE } } as const

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
    readonly operators: OperatorAccess
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

  const actOf = (request: Parameters<OperatorAccess['operatorOf']>[0]) => ({
    operator: deps.operators.operatorOf(request).name,
    nowMs: clock.nowMs(),
  })
  addOperation(app, createNativeProvider, CHANGE, async ({ body, request }) =>
    providers.createNative(actOf(request), body),
  )
  addOperation(app, createStandardProvider, CHANGE, async ({ body, request }) =>
    providers.createStandard(actOf(request), { ...body, force: body.force === true }),
  )
  addOperation(app, setStandardKeyServers, CHANGE, async ({ params, body, request }) =>
    providers.setKeyServers(actOf(request), params.provider, {
      keyServers: body.keyServers,
      force: body.force === true,
    }),
  )
  addOperation(app, testStandardProvider, CHANGE, async ({ params }) =>
    providers.test(params.provider, clock.nowMs()),
  )
  addOperation(app, listHostKeyProviders, READ, async () => ({
    providers: [...(await providers.list(clock.nowMs()))],
  }))
  addOperation(app, getHostKeyProvider, READ, async ({ params }) =>
    providers.get(params.provider, clock.nowMs()),
  )
  addOperation(app, listHostKeys, READ, async ({ params }) => ({
    keys: [...(await providers.listKeys(params.provider))],
  }))
  addOperation(app, listHostKeyDeliveries, READ, async ({ params }) => ({
    deliveries: [...(await providers.listDeliveries(params.provider))],
  }))
  addOperation(app, setHostKeyProvider, CHANGE, async ({ params, body, request }) =>
    providers.setClusters(actOf(request), params.provider, body.clusters),
  )
  addOperation(app, rotateNativeProvider, CHANGE, async ({ params, request }) =>
    providers.rotate(actOf(request), params.provider),
  )
  addOperation(app, deleteHostKeyProvider, CHANGE, async ({ params, body, request }) =>
    providers.remove(actOf(request), params.provider, {
      reason: body.reason,
      force: body.force === true,
    }),
  )
  addOperation(app, backupNativeProvider, CHANGE, async ({ params, body, request }) => {
    using passphrase = new Secret(utf8(body.passphrase))
    const { file, digest } = await backups.make(actOf(request), params.provider, passphrase)
    return { file: toBase64url(file), digest }
  })
  addOperation(app, confirmBackup, CHANGE, async ({ params, body, request }) =>
    backups.confirm(actOf(request), params.provider, body.digest),
  )
  addOperation(
    app,
    restoreNativeProvider,
    { ...CHANGE, bodyLimitOctets: BACKUP_LIMIT_OCTETS },
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
