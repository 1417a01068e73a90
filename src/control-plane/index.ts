import type { FastifyRequest } from 'fastify'
import type { Static } from 'typebox'
import {
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
import { fromBase64url, toBase64url } from '../core/bytes.js'
import { type Clock, isoTime } from '../core/clock.js'
import { type App, addOperation, type HostAccess, type OperatorAccess } from '../http/index.js'
import { type AuditLog, auditLog, type RootKey, type Store } from '../store/index.js'
import { AUDIT_CHAIN, controlPlaneStore } from './adapters/store.js'
import { openVtpmAuthority, vtpmSigner } from './adapters/vtpm-authority.js'
import type { ControlPlaneSection } from './config.js'
import { createInventory, type Inventory } from './domain/inventory.js'
import { type CertificateSigner, certifyVtpm } from './domain/vtpm-certificates.js'
import type { ControlPlaneStore, HostCaller } from './ports.js'

export { ControlPlaneSection } from './config.js'

const SERVICE = 'control-plane'
const READ = { access: { operator: ['administrator', 'auditor'], service: SERVICE } } as const
const CHANGE = { access: { operator: ['administrator'], service: SERVICE } } as const

/** The control plane, ready to have its routes added to an app. */
export interface ControlPlane {
  addRoutes(
    app: App,
    doors: { readonly hosts: HostAccess; readonly operators: OperatorAccess },
  ): void
}

/** @param deps.rootKey unsealed; stays the caller's to dispose of */
export async function openControlPlane(deps: {
  readonly store: Store
  readonly rootKey: RootKey
  readonly config: Static<typeof ControlPlaneSection>
  readonly clock: Clock
}): Promise<ControlPlane> {
  const { config, clock } = deps
  const authority = await openVtpmAuthority({
    store: deps.store,
    rootKey: deps.rootKey,
    validityDays: config.vtpmAuthorityDays,
    nowMs: clock.nowMs(),
  })
  const store = controlPlaneStore(deps.store)
  const sign = vtpmSigner(authority, {
    validityDays: config.vtpmCertificateDays,
    nowMs: () => clock.nowMs(),
  })
  const inventory = createInventory(store)
  const audit = auditLog(deps.store, AUDIT_CHAIN)
  return {
    addRoutes(app, { hosts, operators }) {
      addHostRoutes(app, { inventory, store, sign, hosts, clock })
      addOperation(app, getVtpmAuthority, { access: 'public' }, async () => ({
        pem: authority.certificatePem,
      }))
      addOperatorRoutes(app, { inventory, audit, operators, clock })
    },
  }
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
  const callerOf = async (request: FastifyRequest): Promise<HostCaller> => {
    const { claims, proof, recordUntilSeconds } = await deps.hosts.authenticate(request)
    return {
      issuer: claims.iss,
      hostId: claims.sub,
      cluster: claims.sigillo.cluster,
      hostEpoch: claims.sigillo.host_epoch,
      policyEpoch: claims.sigillo.policy_epoch,
      tokenId: claims.jti,
      proof: { thumbprint: proof.jkt, id: proof.jti, expiresAtMs: recordUntilSeconds * 1000 },
    }
  }

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
    readonly audit: AuditLog
    readonly operators: OperatorAccess
    readonly clock: Clock
  },
): void {
  const { inventory, audit, clock } = deps

  addOperation(app, createCluster, CHANGE, async ({ body, request }) => {
    const act = { operator: deps.operators.operatorOf(request).name, nowMs: clock.nowMs() }
    const { name, createdAtMs } = await inventory.createCluster(act, body.name)
    return { name, createdAt: isoTime(createdAtMs) }
  })
  addOperation(app, listClusters, READ, async () => ({
    clusters: (await inventory.listClusters()).map(({ name, createdAtMs }) => ({
      name,
      createdAt: isoTime(createdAtMs),
    })),
  }))
  addOperation(app, listVms, READ, async ({ query }) => ({
    vms: (await inventory.listVms(query)).map(({ reportedAtMs, ...vm }) => ({
      ...vm,
      reportedAt: isoTime(reportedAtMs),
    })),
  }))
  addOperation(app, listEvents, READ, async ({ query }) => ({
    events: [...(await inventory.listEvents(query.afterSeq ?? 0, query.limit ?? 100))],
  }))
  addOperation(app, listControlPlaneAudit, READ, async ({ query }) => audit.list(query))
  addOperation(app, verifyControlPlaneAudit, READ, async () => audit.verify())
}
