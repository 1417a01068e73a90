import type { FastifyRequest } from 'fastify'
import type { Static } from 'typebox'
import {
  CONTROL_PLANE_EVENT_STREAM,
  createCluster,
  forgetVm,
  getVtpmAuthority,
  issueVtpmCertificate,
  listClusters,
  listControlPlaneAudit,
  listEvents,
  listVms,
  reportVm,
  verifyControlPlaneAudit,
} from '../api/control-plane.js'
import { VTPM_REVOCATION_LIST_FILE } from '../api/vtpm-revocations.js'
import { fromBase64url, toBase64url } from '../core/bytes.js'
import { type Clock, isoTime } from '../core/clock.js'
import type { Logger } from '../core/logger.js'
import { newUuid, randomOctets } from '../core/random.js'
import {
  type App,
  addEventStream,
  addOperation,
  type CallerAccess,
  type HostAccess,
  hostRate,
  type Registry,
} from '../http/index.js'
import { openPkcs12, sealPkcs12 } from '../pki/index.js'
import { type AuditLog, auditLog, type RootKey, type Store } from '../store/index.js'
import { sealAnswer } from '../tokens/index.js'
import { createWaitingRoom } from './adapters/change-signal.js'
import { kdkSeal } from './adapters/kdk-seal.js'
import { keyServerKeks } from './adapters/key-server-keks.js'
import { keySource } from './adapters/key-source.js'
import { hostKeyMetrics, taskMetrics } from './adapters/metrics.js'
import { AUDIT_CHAIN, controlPlaneStore } from './adapters/store.js'
import { createTaskRoom } from './adapters/task-room.js'
import { openVtpmAuthority, vtpmListSigner, vtpmSigner } from './adapters/vtpm-authority.js'
import type { ControlPlaneSection } from './config.js'
import { createDefaultProviders } from './domain/default-providers.js'
import { describeHostKeys } from './domain/describe-host-keys.js'
import { createVmPolicies } from './domain/give-policies.js'
import { createHandOvers } from './domain/hand-overs.js'
import { createHostKeyProviders } from './domain/host-key-providers.js'
import { createHosts } from './domain/hosts.js'
import { createInventory, type Inventory } from './domain/inventory.js'
import { createNativeBackups } from './domain/native-backup.js'
import { readableEvents } from './domain/readable-events.js'
import { createStoragePolicies } from './domain/storage-policies.js'
import { createTags } from './domain/tags.js'
import { createVmTasks } from './domain/tasks.js'
import { type CertificateSigner, certifyVtpm } from './domain/vtpm-certificates.js'
import { createVtpmRevocations } from './domain/vtpm-revocations.js'
import { createVtpmStates } from './domain/vtpm-states.js'
import { watchHostKeys } from './domain/watch-host-keys.js'
import { watchTasks } from './domain/watch-tasks.js'
import type { ControlPlaneStore, HostCaller } from './ports.js'
import { addDefaultProviderRoutes } from './routes/default-provider-routes.js'
import { addHandOverRoutes } from './routes/hand-over-routes.js'
import { attestedHost } from './routes/host-caller.js'
import { addHostKeyRoutes } from './routes/host-key-routes.js'
import { addInventoryRoutes } from './routes/inventory-routes.js'
import { addStoragePolicyRoutes } from './routes/storage-policy-routes.js'
import { addTaskRoutes } from './routes/task-routes.js'
import { addVtpmRevocationRoutes } from './routes/vtpm-revocation-routes.js'
import { addVtpmRoutes } from './routes/vtpm-routes.js'

export { CONTROL_PLANE_SEALED } from './adapters/sealed-columns.js'
export { placeOfVm } from './adapters/vm-places.js'
export { ControlPlaneSection } from './config.js'

const SERVICE = 'control-plane'
const FOR_PEOPLE = { access: { people: SERVICE } } as const
const EVENTS_AT_ONCE = 200

/** The control plane, ready to have its routes added to an app. */
export interface ControlPlane extends AsyncDisposable {
  addRoutes(app: App, doors: { readonly hosts: HostAccess; readonly callers: CallerAccess }): void
  /** Finds keys that hosts did not fetch, and backups that are missing. Called every few seconds; one call at a time. */
  tick(nowMs: number): Promise<void>
}

/**
 * @param deps.rootKey unsealed; stays the caller's to dispose of
 * @param deps.publicUrl where others than hosts find the service; absent where nobody said so
 */
export async function openControlPlane(deps: {
  readonly store: Store
  readonly rootKey: RootKey
  readonly publicUrl: string | undefined
  readonly config: Static<typeof ControlPlaneSection>
  readonly registry: Registry
  /** Version of this program. */
  readonly build: string
  readonly clock: Clock
  readonly logger: Logger
}): Promise<ControlPlane> {
  const { config, clock, logger } = deps
  const authority = await openVtpmAuthority({
    store: deps.store,
    rootKey: deps.rootKey,
    validityDays: config.vtpmAuthorityDays,
    nowMs: clock.nowMs(),
  })
  const store = controlPlaneStore(deps.store)
  const sign = vtpmSigner(authority, {
    validityDays: config.vtpmCertificateDays,
    revocationListUrl: config.vtpmRevocationListUrl ?? revocationListUrl(deps.publicUrl),
    nowMs: () => clock.nowMs(),
  })
  const revocations = createVtpmRevocations({
    store,
    signer: vtpmListSigner(authority),
    listHours: config.vtpmRevocationListHours,
  })
  await revocations.refresh(clock.nowMs())
  const inventory = createInventory(store, revocations)
  const audit = auditLog(deps.store, AUDIT_CHAIN)
  const metrics = hostKeyMetrics(deps.registry)
  const kdks = kdkSeal(deps.rootKey)
  const { errors } = metrics
  const waiting = createWaitingRoom(() => store.transaction((tx) => tx.hostKeyRevision()))
  const keyServers = keyServerKeks({ rootKey: deps.rootKey, build: deps.build, clock, logger })
  const shared = { store, kdks, keyServers, changes: waiting, random: randomOctets }
  const source = keySource(kdks, keyServers)
  const delivery = { store, source, keyServers, seal: sealAnswer, errors, changes: waiting }
  const rate = hostRate(config.hostRequestsPerMinute)
  const notBefore = new Map<string, number>()
  const providers = createHostKeyProviders({ ...shared, newId: newUuid })
  const defaults = createDefaultProviders(shared)
  const room = createTaskRoom((version) => store.transaction((tx) => tx.taskChangesAfter(version)))
  const taskDeps = { store, changes: room, rules: config, newId: newUuid }
  const tasks = createVmTasks(taskDeps)
  const countTasks = taskMetrics(deps.registry)
  const taskRate = hostRate(config.hostRequestsPerMinute)
  const inventoryHosts = createHosts(store, waiting)
  const backups = createNativeBackups({
    ...shared,
    files: {
      open: openPkcs12,
      seal: (passphrase, secrets) => sealPkcs12({ passphrase, secrets, random: randomOctets }),
    },
  })
  return {
    addRoutes(app, { hosts, callers }) {
      addHostRoutes(app, { inventory, store, sign, hosts, clock })
      addVtpmRoutes(app, { states: createVtpmStates(store), hosts, callers, clock })
      addDefaultProviderRoutes(app, { defaults, callers, clock })
      addVtpmRevocationRoutes(app, { revocations, callers, clock })
      addHandOverRoutes(app, {
        handOvers: createHandOvers(store, revocations),
        ...{ hosts, callers, clock },
      })
      addInventoryRoutes(app, {
        inventory,
        inventoryHosts,
        tags: createTags(store),
        callers,
        clock,
      })
      addStoragePolicyRoutes(app, {
        policies: createStoragePolicies(store),
        vmPolicies: createVmPolicies(taskDeps),
        callers,
        clock,
      })
      addHostKeyRoutes(app, {
        delivery,
        waiting,
        providers,
        backups,
        hosts,
        rate,
        callers,
        clock,
      })
      addTaskRoutes(app, { tasks, store, room, hosts, rate: taskRate, callers, clock })
      addOperation(app, getVtpmAuthority, { access: 'public' }, async () => ({
        pem: authority.certificatePem,
      }))
      addOperatorRoutes(app, { inventory, store, audit, callers, clock })
    },
    async tick(nowMs) {
      await watchHostKeys(
        { store, errors },
        { deliverySeconds: config.hostKeyDeliverySeconds, nowMs },
      )
      await inventoryHosts.watch(nowMs)
      await describeHostKeys({ store, keyServers }, notBefore, nowMs)
      await watchTasks(
        { store, changes: room },
        {
          silenceSeconds: config.taskSilenceSeconds,
          retentionDays: config.taskRetentionDays,
          nowMs,
        },
      )
      await revocations.refresh(nowMs)
      await metrics.update(store)
      await countTasks.update(store)
    },
    [Symbol.asyncDispose]: () => keyServers[Symbol.asyncDispose](),
  }
}

function revocationListUrl(publicUrl: string | undefined): string | undefined {
  return publicUrl === undefined ? undefined : `${publicUrl}${VTPM_REVOCATION_LIST_FILE.path}`
}

/** What attested hosts call. */
function addHostRoutes(
  app: App,
  deps: {
    readonly inventory: Inventory
    readonly store: ControlPlaneStore
    readonly sign: CertificateSigner
    readonly hosts: HostAccess
    readonly clock: Clock
  },
): void {
  const { inventory, clock } = deps
  const callerOf = async (request: FastifyRequest): Promise<HostCaller> =>
    (await attestedHost(deps.hosts, request)).caller

  addOperation(app, reportVm, { access: 'host' }, async ({ params, body, request }) => {
    await inventory.reportVm(await callerOf(request), params.vmId, body, clock.nowMs())
    return {}
  })
  addOperation(app, forgetVm, { access: 'host' }, async ({ params, request }) => {
    await inventory.forgetVm(await callerOf(request), params.vmId, clock.nowMs())
    return {}
  })
  addOperation(app, issueVtpmCertificate, { access: 'host' }, async ({ body, request }) => {
    const certificate = await certifyVtpm(
      deps,
      await callerOf(request),
      { ...body, publicKey: fromBase64url(body.publicKey) },
      clock.nowMs(),
    )
    return { certificate: toBase64url(certificate) }
  })
}

/** What administrators and auditors call. */
function addOperatorRoutes(
  app: App,
  deps: {
    readonly inventory: Inventory
    readonly store: ControlPlaneStore
    readonly audit: AuditLog
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { inventory, audit, clock } = deps
  const actOf = (request: FastifyRequest) => deps.callers.actOf(request, clock.nowMs())

  addOperation(app, createCluster, FOR_PEOPLE, async ({ body, request }) => {
    const { name, createdAtMs } = await inventory.createCluster(actOf(request), body.name)
    return { name, createdAt: isoTime(createdAtMs) }
  })
  addOperation(app, listClusters, FOR_PEOPLE, async ({ query, request }) => {
    const { items, ...next } = await inventory.listClusters(actOf(request), query)
    const clusters = items.map(({ name, createdAtMs }) => ({
      name,
      createdAt: isoTime(createdAtMs),
    }))
    return { clusters, ...next }
  })
  addOperation(app, listVms, FOR_PEOPLE, async ({ query, request }) => {
    const { after, limit, ...filter } = query
    const { items, ...next } = await inventory.listVms(actOf(request), filter, { after, limit })
    return { vms: [...items], ...next }
  })
  addOperation(app, listEvents, FOR_PEOPLE, async ({ query, request }) => {
    const { items, ...next } = await inventory.listEvents(actOf(request), query)
    return { events: [...items], ...next }
  })
  addEventStream(app, {
    ...CONTROL_PLANE_EVENT_STREAM,
    access: { needs: CONTROL_PLANE_EVENT_STREAM.needs, service: SERVICE },
    newestId: () => deps.store.transaction((tx) => tx.newestEvent()),
    eventsAfter: async (seq, request) => {
      const act = actOf(request)
      const { events, last } = await readableEvents(deps.store, act, seq, EVENTS_AT_ONCE)
      const shown = events.map((event) => ({ id: event.seq, type: event.type, data: event }))
      if (last === undefined || last === events.at(-1)?.seq) return shown
      return [...shown, { id: last, type: '', data: undefined, hidden: true }]
    },
  })
  addOperation(app, listControlPlaneAudit, FOR_PEOPLE, async ({ query }) => audit.list(query))
  addOperation(app, verifyControlPlaneAudit, FOR_PEOPLE, async () => audit.verify())
}
