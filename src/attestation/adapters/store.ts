import type { Insertable, Selectable, Transaction } from 'kysely'
import { BaseImageSource } from '../../api/base-images.js'
import { VerdictView } from '../../api/hosts.js'
import { Policy } from '../../api/policies.js'
import type { TpmClock } from '../../appraisal/index.js'
import { fromHex, toBase64url, toHex } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import {
  appendAudit,
  type FoundationTables,
  isTokenRevoked,
  isUniqueViolation,
  jsonColumn,
  jsonText,
  recordOnce,
  revokeToken,
  type Store,
  writeHostStatus,
} from '../../store/index.js'
import type { HashName } from '../../tpm/index.js'
import type {
  AttestationStore,
  AttestationTransaction,
  HostKeys,
  PendingEnrolment,
  StoredBaseImage,
  StoredHost,
  StoredPolicyRevision,
  StoredTicket,
} from '../ports.js'
import { bundles } from './bundle-store.js'
import { parseBoot, parsePcrs, textOfPcrs } from './columns.js'
import { authoritiesAndKeys, type ListReader, listReader } from './endorsement-store.js'
import { eventsAndWebhooks } from './event-store.js'
import { guests } from './guest-store.js'
import {
  BASE_IMAGE_COLUMNS,
  type BaseImageColumn,
  deleteVerdicts,
  insertVerdict,
  selectBaseImagesOf,
  selectHost,
  selectPolicy,
  selectVerdictBehind,
  updateAccepted,
  updateClock,
} from './kept-queries.js'
import type { AttestationTables } from './tables.js'

const readPolicy = jsonColumn(Policy)
const readSource = jsonColumn(BaseImageSource)
const readVerdict = jsonText(VerdictView)

type Tables = AttestationTables & FoundationTables
/** A transaction over all tables that the service uses. */
export type AttestationTx = Transaction<Tables>
type Tx = AttestationTx

const HOST_TABLES = ['attestation_hosts', 'attestation_verdicts', 'attestation_ima'] as const

/** The name of the service's audit chain. */
export const AUDIT_CHAIN = 'attestation'

/**
 * The service's view of the shared store.
 *
 * @param issuer identifies the service in the host status that relying parties read
 */
export function attestationStore(store: Store, issuer: string): AttestationStore {
  const readList = listReader()
  return {
    transaction: (work) => store.transaction((tx: Tx) => work(transactionOf(tx, issuer, readList))),
  }
}

/** What the rules may do in a transaction. */
export function transactionOf(
  tx: Tx,
  issuer: string,
  readList: ListReader = listReader(),
): AttestationTransaction {
  const hosts = () =>
    tx
      .selectFrom('attestation_hosts as host')
      .leftJoin('host_status as status', (join) =>
        join.onRef('status.host_id', '=', 'host.host_id').on('status.issuer', '=', issuer),
      )
      .selectAll('host')
      .select(['status.state as state', 'status.epoch as epoch'])

  const revisions = (cluster: string) =>
    tx.selectFrom('attestation_policy_revisions').selectAll().where('cluster', '=', cluster)

  const { findBundle, listBundles, addBundle, removeBundles } = bundles(tx)

  const findHost: AttestationTransaction['findHost'] = async (hostId) => {
    const [row] = (await selectHost(tx, { hostId, issuer })).rows
    return row && storedHost(row)
  }

  return {
    ...authoritiesAndKeys(tx, readList),
    ...guests(tx),

    async listTickets(nowMs, { after, limit }) {
      let query = tx
        .selectFrom('attestation_tickets')
        .selectAll()
        .where('expires_at_ms', '>=', nowMs)
        .where('uses_left', '>', 0)
        .orderBy('ticket_id')
      if (after !== undefined) query = query.where('ticket_id', '>', after)
      if (limit !== undefined) query = query.limit(limit)
      return (await query.execute()).map(storedTicket)
    },

    async findTicket(ticketHash) {
      const row = await tx
        .selectFrom('attestation_tickets')
        .selectAll()
        .where('ticket_hash', '=', ticketHash)
        .executeTakeFirst()
      return row && storedTicket(row)
    },

    async insertTicket(ticket, ticketHash) {
      await tx
        .insertInto('attestation_tickets')
        .values({
          ticket_id: ticket.ticketId,
          ticket_hash: ticketHash,
          cluster: ticket.cluster,
          host_id: ticket.hostId ?? null,
          uses_left: ticket.usesLeft,
          created_at_ms: ticket.createdAtMs,
          expires_at_ms: ticket.expiresAtMs,
        })
        .execute()
    },

    async useTicket(ticketId) {
      const result = await tx
        .updateTable('attestation_tickets')
        .set((row) => ({ uses_left: row('uses_left', '-', 1) }))
        .where('ticket_id', '=', ticketId)
        .where('uses_left', '>', 0)
        .executeTakeFirst()
      return result.numUpdatedRows > 0n
    },

    async removeTicket(ticketId) {
      const result = await tx
        .deleteFrom('attestation_tickets')
        .where('ticket_id', '=', ticketId)
        .executeTakeFirst()
      return result.numDeletedRows > 0n
    },

    async purgeEnrolments(nowMs) {
      await tx.deleteFrom('attestation_enrolments').where('expires_at_ms', '<', nowMs).execute()
      const { waiting } = await tx
        .selectFrom('attestation_enrolments')
        .select((row) => row.fn.countAll<number>().as('waiting'))
        .executeTakeFirstOrThrow()
      return Number(waiting)
    },

    async insertEnrolment(enrolment) {
      await tx
        .insertInto('attestation_enrolments')
        .values({
          ...keyColumns(enrolment),
          enrolment_id: enrolment.enrolmentId,
          ticket_id: enrolment.ticketId,
          secret_hash: enrolment.secretHash,
          expires_at_ms: enrolment.expiresAtMs,
        })
        .execute()
    },

    async takeEnrolment(enrolmentId) {
      const row = await tx
        .deleteFrom('attestation_enrolments')
        .where('enrolment_id', '=', enrolmentId)
        .returningAll()
        .executeTakeFirst()
      return row && pendingEnrolment(row)
    },

    async listHosts({ cluster, after, limit }) {
      let query = hosts().orderBy('host.host_id')
      if (cluster !== undefined) query = query.where('host.cluster', '=', cluster)
      if (after !== undefined) query = query.where('host.host_id', '>', after)
      if (limit !== undefined) query = query.limit(limit)
      return (await query.execute()).map(storedHost)
    },

    findHost,

    async findHostByEk(ekFingerprint) {
      const row = await hosts().where('host.ek_fingerprint', '=', ekFingerprint).executeTakeFirst()
      return row && storedHost(row)
    },

    async listHostsWithKey(key) {
      const rows = await hosts()
        .where((row) =>
          row.or([row('host.ak_name', '=', key), row('host.ek_fingerprint', '=', key)]),
        )
        .orderBy('host.host_id')
        .execute()
      return rows.map(storedHost)
    },

    async insertHost(host) {
      try {
        await tx
          .insertInto('attestation_hosts')
          .values({
            ...keyColumns(host),
            ak_name: host.akName,
            tpm_clock: null,
            enrolled_at_ms: host.enrolledAtMs,
            accepted_at_ms: null,
          })
          .execute()
      } catch (error) {
        if (!isUniqueViolation(error)) throw error
        if (await findHost(host.hostId)) {
          throw new PlatformError('HOST_ID_TAKEN', `expected a free host id, found ${host.hostId}`)
        }
        throw new PlatformError(
          'EK_TAKEN',
          'expected a TPM that is not enrolled, found it enrolled',
        )
      }
    },

    async setClock(hostId, clock) {
      const text = JSON.stringify({ ...clock, clock: clock.clock.toString() })
      await updateClock(tx, { hostId, clock: text })
    },

    async setAccepted(hostId, atMs) {
      await updateAccepted(tx, { hostId, atMs })
    },

    async removeHost(hostId) {
      await removeBundles(hostId)
      for (const table of HOST_TABLES) {
        await tx.deleteFrom(table).where('host_id', '=', hostId).execute()
      }
    },

    async setState(host, state, options) {
      await writeHostStatus(tx, {
        issuer,
        hostId: host.hostId,
        cluster: host.cluster,
        state,
        newEpoch: options.newEpoch,
        policyEpoch: options.policyEpoch,
        atMs: options.nowMs,
      })
    },

    async findPolicy(cluster) {
      const [row] = (await selectPolicy(tx, { cluster })).rows
      return (
        row && {
          revision: row.revision,
          epoch: row.epoch,
          policy: readPolicy(row.policy),
          updatedAtMs: row.updated_at_ms,
        }
      )
    },

    async savePolicy(cluster, policy, nowMs) {
      const columns = {
        revision: policy.revision,
        epoch: policy.epoch,
        policy: JSON.stringify(policy.policy),
        updated_at_ms: nowMs,
      }
      await tx
        .insertInto('attestation_policies')
        .values({ cluster, ...columns })
        .onConflict((conflict) => conflict.column('cluster').doUpdateSet(columns))
        .execute()
      await tx
        .updateTable('host_status')
        .set({ policy_epoch: policy.epoch })
        .where('issuer', '=', issuer)
        .where('cluster', '=', cluster)
        .execute()
    },

    async findPolicyDraft(cluster) {
      const row = await tx
        .selectFrom('attestation_policy_drafts')
        .selectAll()
        .where('cluster', '=', cluster)
        .executeTakeFirst()
      return (
        row && {
          policy: readPolicy(row.policy),
          operator: row.operator,
          updatedAtMs: row.updated_at_ms,
        }
      )
    },

    async savePolicyDraft(cluster, draft) {
      const columns = {
        policy: JSON.stringify(draft.policy),
        operator: draft.operator,
        updated_at_ms: draft.updatedAtMs,
      }
      await tx
        .insertInto('attestation_policy_drafts')
        .values({ cluster, ...columns })
        .onConflict((conflict) => conflict.column('cluster').doUpdateSet(columns))
        .execute()
    },

    async removePolicyDraft(cluster) {
      const result = await tx
        .deleteFrom('attestation_policy_drafts')
        .where('cluster', '=', cluster)
        .executeTakeFirst()
      return result.numDeletedRows > 0n
    },

    async listPolicyRevisions(cluster, { after, limit }) {
      let query = revisions(cluster).orderBy('revision', 'desc')
      if (after !== undefined) query = query.where('revision', '<', Number(after))
      if (limit !== undefined) query = query.limit(limit)
      return (await query.execute()).map(storedRevision)
    },

    async findPolicyRevision(cluster, revision) {
      const row = await revisions(cluster).where('revision', '=', revision).executeTakeFirst()
      return row && storedRevision(row)
    },

    async addPolicyRevision(cluster, revision) {
      await tx
        .insertInto('attestation_policy_revisions')
        .values({
          cluster,
          revision: revision.revision,
          policy: JSON.stringify(revision.policy),
          operator: revision.operator,
          activated_at_ms: revision.activatedAtMs,
        })
        .execute()
    },

    async listBaseImages(cluster, { after, limit } = {}) {
      if (cluster !== undefined && after === undefined && limit === undefined) {
        return (await selectBaseImagesOf(tx, { cluster })).rows.map(storedBaseImage)
      }
      let query = tx
        .selectFrom('attestation_base_images')
        .select(BASE_IMAGE_COLUMNS)
        .orderBy('cluster')
        .orderBy('name')
      if (cluster !== undefined) query = query.where('cluster', '=', cluster)
      if (after !== undefined) {
        const [inCluster = '', name = ''] = after.split('/')
        query = query.where((row) =>
          row.or([
            row('cluster', '>', inCluster),
            row.and([row('cluster', '=', inCluster), row('name', '>', name)]),
          ]),
        )
      }
      if (limit !== undefined) query = query.limit(limit)
      return (await query.execute()).map(storedBaseImage)
    },

    async findBaseImageLog(cluster, name) {
      const row = await tx
        .selectFrom('attestation_base_images')
        .select('event_log')
        .where('cluster', '=', cluster)
        .where('name', '=', name)
        .executeTakeFirst()
      return row?.event_log ? new Uint8Array(row.event_log) : undefined
    },

    async insertBaseImage(image, eventLog) {
      try {
        await tx
          .insertInto('attestation_base_images')
          .values({
            cluster: image.cluster,
            name: image.name,
            captured_from: image.source.kind === 'captured' ? image.source.hostId : '',
            captured_at_ms: image.addedAtMs,
            source: JSON.stringify(image.source),
            not_before_ms: image.notBeforeMs ?? null,
            not_after_ms: image.notAfterMs ?? null,
            bank: image.bank,
            pcrs: textOfPcrs(image.pcrs),
            boot: image.boot ? JSON.stringify(image.boot) : null,
            event_log: eventLog ?? null,
          })
          .execute()
      } catch (error) {
        if (!isUniqueViolation(error)) throw error
        throw new PlatformError(
          'CONFLICT',
          `expected a new name, found base image ${image.name} in cluster ${image.cluster}`,
        )
      }
    },

    async removeBaseImage(cluster, name) {
      const result = await tx
        .deleteFrom('attestation_base_images')
        .where('cluster', '=', cluster)
        .where('name', '=', name)
        .executeTakeFirst()
      return result.numDeletedRows > 0n
    },

    async listReferenceSigners() {
      const rows = await tx
        .selectFrom('attestation_reference_signers')
        .selectAll()
        .orderBy('added_at_ms')
        .orderBy('signer_id')
        .execute()
      return rows.map((row) => ({
        signerId: row.signer_id,
        pem: row.pem,
        note: row.note,
        addedAtMs: row.added_at_ms,
      }))
    },

    async saveReferenceSigner({ signerId, pem, note, addedAtMs }) {
      await tx
        .insertInto('attestation_reference_signers')
        .values({ signer_id: signerId, pem, note, added_at_ms: addedAtMs })
        .onConflict((conflict) => conflict.column('signer_id').doUpdateSet({ note }))
        .execute()
    },

    async removeReferenceSigner(signerId) {
      const result = await tx
        .deleteFrom('attestation_reference_signers')
        .where('signer_id', '=', signerId)
        .executeTakeFirst()
      return result.numDeletedRows > 0n
    },

    async findIma(hostId) {
      const row = await tx
        .selectFrom('attestation_ima')
        .selectAll()
        .where('host_id', '=', hostId)
        .executeTakeFirst()
      return (
        row && {
          resetCount: row.reset_count,
          bank: row.bank as HashName,
          entries: row.entries,
          value: fromHex(row.pcr_value),
          policyDigest: row.policy_digest,
        }
      )
    },

    async saveIma(hostId, accepted) {
      const columns = {
        reset_count: accepted.resetCount,
        bank: accepted.bank,
        entries: accepted.entries,
        pcr_value: toHex(accepted.value),
        policy_digest: accepted.policyDigest,
      }
      await tx
        .insertInto('attestation_ima')
        .values({ host_id: hostId, ...columns })
        .onConflict((conflict) => conflict.column('host_id').doUpdateSet(columns))
        .execute()
    },

    findBundle,
    listBundles,
    addBundle,

    async listVerdicts(hostId, { after, limit }) {
      let query = tx
        .selectFrom('attestation_verdicts')
        .select(['verdict_id', 'verdict'])
        .where('host_id', '=', hostId)
        .orderBy('verdict_id', 'desc')
      if (after !== undefined) query = query.where('verdict_id', '<', Number(after))
      if (limit !== undefined) query = query.limit(limit)
      const rows = await query.execute()
      return rows.map((row) => ({ number: row.verdict_id, verdict: readVerdict(row.verdict) }))
    },

    async addVerdict(hostId, verdict, keep) {
      await insertVerdict(tx, { hostId, verdict: JSON.stringify(verdict) })
      const [oldest] = (await selectVerdictBehind(tx, { hostId, keep })).rows
      if (oldest) await deleteVerdicts(tx, { hostId, upTo: oldest.verdict_id })
    },

    async listTrustedHosts() {
      const rows = await hosts()
        .where('status.state', '=', 'trusted')
        .where('host.accepted_at_ms', 'is not', null)
        .execute()
      return rows.map((row) => ({
        hostId: row.host_id,
        cluster: row.cluster,
        acceptedAtMs: row.accepted_at_ms ?? 0,
      }))
    },

    ...eventsAndWebhooks(tx),

    revokeToken: (tokenId, untilMs) => revokeToken(tx, tokenId, untilMs),
    isTokenRevoked: (tokenId) => isTokenRevoked(tx, tokenId),

    useNonce: (nonce, expiresAtMs) => recordOnce(tx, 'nonce', toBase64url(nonce), expiresAtMs),

    async audit(entry) {
      await appendAudit(tx, { chain: AUDIT_CHAIN, ...entry })
    },
  }
}

function storedBaseImage(
  row: Pick<Selectable<AttestationTables['attestation_base_images']>, BaseImageColumn>,
): StoredBaseImage {
  return {
    name: row.name,
    cluster: row.cluster,
    source:
      row.source === null
        ? { kind: 'captured' as const, hostId: row.captured_from }
        : readSource(row.source),
    addedAtMs: row.captured_at_ms,
    bank: row.bank,
    pcrs: parsePcrs(row.pcrs),
    ...(row.not_before_ms === null ? {} : { notBeforeMs: row.not_before_ms }),
    ...(row.not_after_ms === null ? {} : { notAfterMs: row.not_after_ms }),
    ...parseBoot(row.boot),
  }
}

function flag(value: boolean): number {
  return value ? 1 : 0
}

function keyColumns(host: HostKeys) {
  return {
    host_id: host.hostId,
    cluster: host.cluster,
    ek_public: host.ekPublic,
    ek_fingerprint: host.ekFingerprint,
    ak_public: host.akPublic,
    endorsement: host.endorsement,
    ek_certificate: host.ekCertificate ?? null,
    insecure_test: flag(host.insecureTest),
    tpm: host.tpm ?? null,
  } satisfies Partial<Insertable<AttestationTables['attestation_hosts']>>
}

function hostKeys(
  row: Selectable<AttestationTables['attestation_hosts' | 'attestation_enrolments']>,
): HostKeys {
  return {
    hostId: row.host_id,
    cluster: row.cluster,
    ekPublic: new Uint8Array(row.ek_public),
    ekFingerprint: row.ek_fingerprint,
    akPublic: new Uint8Array(row.ak_public),
    endorsement: row.endorsement,
    ...(row.ek_certificate === null ? {} : { ekCertificate: new Uint8Array(row.ek_certificate) }),
    insecureTest: row.insecure_test === 1,
    ...(row.tpm === null ? {} : { tpm: row.tpm }),
  }
}

function pendingEnrolment(
  row: Selectable<AttestationTables['attestation_enrolments']>,
): PendingEnrolment {
  return {
    ...hostKeys(row),
    enrolmentId: row.enrolment_id,
    ticketId: row.ticket_id,
    secretHash: row.secret_hash,
    expiresAtMs: row.expires_at_ms,
  }
}

function storedTicket(row: Selectable<AttestationTables['attestation_tickets']>): StoredTicket {
  return {
    ticketId: row.ticket_id,
    cluster: row.cluster,
    ...(row.host_id === null ? {} : { hostId: row.host_id }),
    usesLeft: row.uses_left,
    createdAtMs: row.created_at_ms,
    expiresAtMs: row.expires_at_ms,
  }
}

function storedRevision(
  row: Selectable<AttestationTables['attestation_policy_revisions']>,
): StoredPolicyRevision {
  return {
    revision: row.revision,
    policy: readPolicy(row.policy),
    operator: row.operator,
    activatedAtMs: row.activated_at_ms,
  }
}

/** A host without a status row counts as revoked: nothing is assumed in its favour. */
function storedHost(
  row: Selectable<AttestationTables['attestation_hosts']> & {
    readonly state: StoredHost['state'] | null
    readonly epoch: number | null
  },
): StoredHost {
  return {
    ...hostKeys(row),
    akName: row.ak_name,
    ...(row.tpm_clock === null ? {} : { clock: parseClock(row.tpm_clock) }),
    enrolledAtMs: row.enrolled_at_ms,
    state: row.state ?? 'revoked',
    epoch: row.epoch ?? 0,
  }
}

function parseClock(text: string): TpmClock {
  const { clock, ...counts } = JSON.parse(text) as Omit<TpmClock, 'clock'> & { clock: string }
  return { ...counts, clock: BigInt(clock) }
}
