import type { EvidenceBundle, HostView } from '../../api/hosts.js'
import { fromBase64url } from '../../core/bytes.js'
import type { CanonicalValue } from '../../core/canonical-json.js'
import { isoTime } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import { readPage, type StoredPage } from '../../core/page.js'
import { parseAttest } from '../../tpm/index.js'
import type {
  AttestationStore,
  AttestationTransaction,
  StoredBaseImage,
  StoredHost,
  StoredTicket,
} from '../ports.js'
import { policyOf } from './attestation.js'
import type { AttestationEventType } from './events.js'
import { ticketHash, ticketText } from './tickets.js'

/** Who asks, and when: what every act of an administrator is recorded with. */
export interface Act {
  readonly operator: string
  /** For audit records: `user:anna`. */
  readonly actor: string
  readonly nowMs: number
}

/** What administrators do. Each act is one transaction with its audit record. */
export function createAdministration(deps: { readonly store: AttestationStore }) {
  const { store } = deps
  return {
    createTicket: (
      act: Act,
      request: {
        readonly ticketId: string
        readonly random: Uint8Array
        readonly cluster: string
        readonly hostId: string | undefined
        readonly uses: number
        readonly ttlSeconds: number
      },
    ) =>
      store.transaction(async (tx) => {
        const text = ticketText(request.random)
        const ticket: StoredTicket = {
          ticketId: request.ticketId,
          cluster: request.cluster,
          ...(request.hostId === undefined ? {} : { hostId: request.hostId }),
          usesLeft: request.uses,
          createdAtMs: act.nowMs,
          expiresAtMs: act.nowMs + request.ttlSeconds * 1000,
        }
        await tx.insertTicket(ticket, ticketHash(text))
        await record(tx, act, 'ticket.create', `ticket:${ticket.ticketId}`, {
          cluster: ticket.cluster,
          uses: ticket.usesLeft,
          ...(ticket.hostId === undefined ? {} : { host: ticket.hostId }),
        })
        return { text, ticket }
      }),

    listTickets: (nowMs: number, page: StoredPage) =>
      store.transaction((tx) =>
        readPage(
          page,
          (at) => tx.listTickets(nowMs, at),
          ({ ticketId }) => ticketId,
        ),
      ),

    revokeTicket: (act: Act, ticketId: string) =>
      store.transaction(async (tx) => {
        found(await tx.removeTicket(ticketId), 'ticket', ticketId)
        await record(tx, act, 'ticket.revoke', `ticket:${ticketId}`, {})
      }),

    listHosts: (filter: { readonly cluster?: string }, page: StoredPage) =>
      store.transaction(async (tx) => {
        const { items, ...rest } = await readPage(
          page,
          (at) => tx.listHosts({ ...filter, ...at }),
          ({ hostId }) => hostId,
        )
        const hosts: HostView[] = []
        for (const host of items) hosts.push(await hostView(tx, host))
        return { hosts, ...rest }
      }),

    getHost: (hostId: string) =>
      store.transaction(async (tx) => hostView(tx, await knownHost(tx, hostId))),

    getHistory: (hostId: string, page: StoredPage) =>
      store.transaction(async (tx) => {
        await knownHost(tx, hostId)
        return readPage(
          page,
          (at) => tx.listVerdicts(hostId, at),
          ({ number }) => String(number),
        )
      }),

    listBundles: (hostId: string, page: StoredPage) =>
      store.transaction(async (tx) => {
        await knownHost(tx, hostId)
        return readPage(
          page,
          (at) => tx.listBundles(hostId, at),
          ({ atMs, bundleId }) => `${atMs}/${bundleId}`,
        )
      }),

    approveHost: (act: Act, hostId: string, ekFingerprint: string) =>
      store.transaction(async (tx) => {
        const host = await knownHost(tx, hostId)
        if (host.state !== 'awaiting-approval') {
          throw new PlatformError(
            'CONFLICT',
            `expected a host that waits for approval, found it ${host.state}`,
          )
        }
        if (host.ekFingerprint !== ekFingerprint) {
          throw new PlatformError(
            'CONFLICT',
            `expected the fingerprint of the host's endorsement key, found another`,
          )
        }
        await setState(tx, host, 'enrolled', act, true)
        await record(tx, act, 'host.approve', `host:${hostId}`, { ek: ekFingerprint })
        return hostView(tx, await knownHost(tx, hostId))
      }),

    /** The clock of the host's last genuine quote becomes the one that the next is compared with. */
    acceptReboot: (act: Act, hostId: string) =>
      store.transaction(async (tx) => {
        const host = await knownHost(tx, hostId)
        const bundle = await tx.findBundle(hostId)
        if (!bundle || host.state === 'revoked') {
          throw new PlatformError(
            'EVIDENCE_NOT_VERIFIED',
            'expected a host that attested after its reboot, found none',
          )
        }
        const { clockInfo } = parseAttest(fromBase64url(bundle.evidence.attest))
        await tx.setClock(hostId, clockInfo)
        await record(tx, act, 'host.accept-reboot', `host:${hostId}`, {
          resetCount: clockInfo.resetCount,
        })
        return hostView(tx, host)
      }),

    revokeHost: (act: Act, hostId: string, reason: string) =>
      store.transaction(async (tx) => {
        const host = await knownHost(tx, hostId)
        await setState(tx, host, 'revoked', act, true)
        await tell(tx, act, 'host.revoked', { host, detail: { reason } })
        await record(tx, act, 'host.revoke', `host:${hostId}`, { reason })
        return hostView(tx, await knownHost(tx, hostId))
      }),

    removeHost: (act: Act, hostId: string) =>
      store.transaction(async (tx) => {
        const host = await knownHost(tx, hostId)
        if (host.state !== 'revoked') {
          throw new PlatformError('CONFLICT', `expected a revoked host, found it ${host.state}`)
        }
        await tx.removeHost(hostId)
        await tell(tx, act, 'host.removed', { host, detail: {} })
        await record(tx, act, 'host.remove', `host:${hostId}`, { ek: host.ekFingerprint })
      }),

    getBundle: (hostId: string, bundleId: string) =>
      store.transaction(async (tx) => {
        await knownHost(tx, hostId)
        const bundle = await tx.findBundle(hostId, bundleId)
        if (!bundle) throw new PlatformError('NOT_FOUND', `no bundle ${bundleId} of ${hostId}`)
        return bundle
      }),

    captureBaseImage: (
      act: Act,
      request: {
        readonly name: string
        readonly hostId: string
        readonly notAfterMs: number | undefined
      },
    ) =>
      store.transaction(async (tx) => {
        const { name, hostId, notAfterMs } = request
        const host = await knownHost(tx, hostId)
        const bundle = await tx.findBundle(hostId)
        if (!bundle || !isCapturable(bundle) || host.state === 'revoked') {
          throw new PlatformError(
            'EVIDENCE_NOT_VERIFIED',
            'expected a host whose last quote and event log were verified, found none',
          )
        }
        const { evidence, verdict, policy } = bundle
        const image: StoredBaseImage = {
          name,
          cluster: host.cluster,
          source: { kind: 'captured', hostId },
          addedAtMs: act.nowMs,
          bank: policy.bank,
          pcrs: new Map(evidence.pcrs.map(({ pcr, digest }) => [pcr, [digest]])),
          ...(notAfterMs === undefined ? {} : { notAfterMs }),
          ...(verdict.boot ? { boot: verdict.boot } : {}),
        }
        const { eventLog } = evidence
        await tx.insertBaseImage(
          image,
          eventLog === undefined ? undefined : fromBase64url(eventLog),
        )
        await tell(tx, act, 'base-image.added', { cluster: host.cluster, detail: { name } })
        await record(tx, act, 'base-image.capture', `base-image:${host.cluster}/${name}`, {
          host: hostId,
        })
        return image
      }),

    listBaseImages: (inCluster: string | undefined, page: StoredPage) =>
      store.transaction((tx) =>
        readPage(
          page,
          (at) => tx.listBaseImages(inCluster, at),
          ({ cluster, name }) => `${cluster}/${name}`,
        ),
      ),

    removeBaseImage: (act: Act, cluster: string, name: string) =>
      store.transaction(async (tx) => {
        found(await tx.removeBaseImage(cluster, name), 'base image', `${cluster}/${name}`)
        const policy = await policyOf(tx, cluster)
        await tx.savePolicy(cluster, { ...policy, epoch: policy.epoch + 1 }, act.nowMs)
        await tell(tx, act, 'base-image.removed', { cluster, detail: { name } })
        await record(tx, act, 'base-image.remove', `base-image:${cluster}/${name}`, {})
      }),
  }
}

/** Whether the quote of a bundle was genuine and its event log replays to it: then a base image may be made of it. */
function isCapturable({ evidence, verdict }: EvidenceBundle): boolean {
  const ofLog = verdict.findings.filter(({ check }) => check.startsWith('event-log'))
  return evidence.eventLog !== undefined && ofLog.length > 0 && ofLog.every(({ ok }) => ok)
}

export type Administration = ReturnType<typeof createAdministration>

async function knownHost(tx: AttestationTransaction, hostId: string): Promise<StoredHost> {
  const host = await tx.findHost(hostId)
  if (!host) throw new PlatformError('NOT_FOUND', `no host ${hostId}`)
  return host
}

/** @throws PlatformError `NOT_FOUND` */
export function found(removed: boolean, what: string, name: string): void {
  if (!removed) throw new PlatformError('NOT_FOUND', `no ${what} ${name}`)
}

/** State of a host, under the policy of its cluster. */
export async function setState(
  tx: AttestationTransaction,
  host: StoredHost,
  state: StoredHost['state'],
  act: Act,
  newEpoch: boolean,
): Promise<void> {
  const { epoch } = await policyOf(tx, host.cluster)
  await tx.setState(host, state, { newEpoch, policyEpoch: epoch, nowMs: act.nowMs })
}

async function hostView(tx: AttestationTransaction, host: StoredHost): Promise<HostView> {
  const [last] = await tx.listVerdicts(host.hostId, { limit: 1 })
  return {
    hostId: host.hostId,
    cluster: host.cluster,
    state: host.state,
    endorsement: host.endorsement,
    insecureTest: host.insecureTest,
    ekFingerprint: host.ekFingerprint,
    akName: host.akName,
    ...(host.tpm === undefined ? {} : { tpm: host.tpm }),
    epoch: host.epoch,
    enrolledAt: isoTime(host.enrolledAtMs),
    ...(last ? { lastVerdict: last.verdict } : {}),
  }
}

/** Writes the audit record of an act. */
export async function record(
  tx: AttestationTransaction,
  act: Act,
  action: string,
  subject: string,
  detail: { readonly [name: string]: CanonicalValue },
): Promise<void> {
  await tx.audit({
    atMs: act.nowMs,
    actor: act.actor,
    action,
    subject,
    outcome: 'done',
    detail,
  })
}

/** Adds an event about an act. */
export async function tell(
  tx: AttestationTransaction,
  act: Act,
  type: AttestationEventType,
  about: {
    readonly host?: StoredHost
    readonly cluster?: string
    readonly detail: { readonly [name: string]: CanonicalValue }
  },
): Promise<void> {
  const cluster = about.host?.cluster ?? about.cluster
  await tx.addEvent({
    atMs: act.nowMs,
    type,
    ...(about.host ? { hostId: about.host.hostId } : {}),
    ...(cluster === undefined ? {} : { cluster }),
    detail: { ...about.detail, operator: act.operator },
  })
}
