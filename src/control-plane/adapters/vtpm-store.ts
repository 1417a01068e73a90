import { createHash } from 'node:crypto'
import type { Transaction } from 'kysely'
import type { VtpmStateCause } from '../../api/vtpm-states.js'
import { parseCertificate, type RevocationReason, spkiOf } from '../../pki/index.js'
import { type FoundationTables, publishList, readPublishedLists } from '../../store/index.js'
import type { StoredCertificate, StoredVtpmState, VtpmTransaction } from '../vtpm-ports.js'

/** States of a VM that are kept: those of some years of a VM that stops once a day. */
const KEPT_STATES = 1000

export interface VtpmTables {
  control_plane_vtpm_states: {
    vm_id: string
    generation: number
    digest: string
    cause: VtpmStateCause
    host_id: string
    noted_at_ms: number
  }
  control_plane_vtpm_certificates: {
    fingerprint: string
    vm_id: string
    kind: 'ek' | 'platform'
    /** Absent in rows from before it was kept. */
    key_digest: string | null
    host_id: string
    certificate: Uint8Array
    issued_at_ms: number
  }
  control_plane_vtpm_revocations: {
    fingerprint: string
    serial: string
    not_after_ms: number
    reason: RevocationReason
    revoked_at_ms: number
  }
}

/** States and certificates of virtual TPMs. */
export function vtpmTransaction<T extends VtpmTables & FoundationTables>(
  transaction: Transaction<T>,
): VtpmTransaction {
  const tx = transaction as unknown as Transaction<VtpmTables>
  const shared = transaction as unknown as Transaction<FoundationTables>
  const certificates = () =>
    tx
      .selectFrom('control_plane_vtpm_certificates as certificate')
      .leftJoin('control_plane_vtpm_revocations as revocation', (join) =>
        join.onRef('revocation.fingerprint', '=', 'certificate.fingerprint'),
      )
      .selectAll('certificate')
      .select(['revocation.reason', 'revocation.revoked_at_ms'])
  const statesOf = (vmId: string) =>
    tx
      .selectFrom('control_plane_vtpm_states')
      .selectAll()
      .where('vm_id', '=', vmId)
      .orderBy('generation', 'desc')

  return {
    async newestVtpmState(vmId) {
      const row = await statesOf(vmId).limit(1).executeTakeFirst()
      return row && storedState(row)
    },

    async findVtpmState(vmId, digest) {
      const row = await statesOf(vmId).where('digest', '=', digest).limit(1).executeTakeFirst()
      return row && storedState(row)
    },

    async addVtpmState(state) {
      await tx
        .insertInto('control_plane_vtpm_states')
        .values({
          vm_id: state.vmId,
          generation: state.generation,
          digest: state.digest,
          cause: state.cause,
          host_id: state.hostId,
          noted_at_ms: state.notedAtMs,
        })
        .execute()
      const tooOld = await statesOf(state.vmId).offset(KEPT_STATES).limit(1).executeTakeFirst()
      if (!tooOld) return
      await tx
        .deleteFrom('control_plane_vtpm_states')
        .where('vm_id', '=', state.vmId)
        .where('generation', '<=', tooOld.generation)
        .execute()
    },

    async listVtpmStates(vmId, { after, limit }) {
      let query = statesOf(vmId)
      if (after !== undefined) query = query.where('generation', '<', Number(after))
      if (limit !== undefined) query = query.limit(limit)
      return (await query.execute()).map(storedState)
    },

    async removeVtpmStates(vmId) {
      await tx.deleteFrom('control_plane_vtpm_states').where('vm_id', '=', vmId).execute()
    },

    async saveCertificate(certificate) {
      await tx
        .insertInto('control_plane_vtpm_certificates')
        .values({
          fingerprint: certificate.fingerprint,
          vm_id: certificate.vmId,
          kind: certificate.kind,
          key_digest: certificate.keyDigest,
          host_id: certificate.hostId,
          certificate: certificate.certificate,
          issued_at_ms: certificate.issuedAtMs,
        })
        .execute()
    },

    async findVtpmHost(vmId) {
      const row = await tx
        .selectFrom('control_plane_vtpm_certificates')
        .select('host_id')
        .where('vm_id', '=', vmId)
        .orderBy('issued_at_ms', 'desc')
        .limit(1)
        .executeTakeFirst()
      return row?.host_id
    },

    async findVmOfVtpmKey(keyDigest) {
      const row = await tx
        .selectFrom('control_plane_vtpm_certificates')
        .select('vm_id')
        .where('key_digest', '=', keyDigest)
        .orderBy('issued_at_ms')
        .limit(1)
        .executeTakeFirst()
      return row?.vm_id
    },

    async listCertificates({ vmId, revoked }, { after, limit }) {
      let query = certificates().orderBy('certificate.fingerprint')
      if (limit !== undefined) query = query.limit(limit)
      if (revoked !== undefined) {
        query = query.where('revocation.reason', revoked ? 'is not' : 'is', null)
      }
      if (vmId !== undefined) query = query.where('certificate.vm_id', '=', vmId)
      if (after !== undefined) query = query.where('certificate.fingerprint', '>', after)
      return (await query.execute()).map(storedCertificate)
    },

    async findCertificate(fingerprint) {
      const row = await certificates()
        .where('certificate.fingerprint', '=', fingerprint)
        .executeTakeFirst()
      return row && storedCertificate(row)
    },

    async certificatesOf(vmId) {
      const rows = await certificates()
        .where('certificate.vm_id', '=', vmId)
        .orderBy('certificate.fingerprint')
        .execute()
      return rows.map(storedCertificate)
    },

    async saveRevocation({ fingerprint, serial, notAfterMs, reason, revokedAtMs }) {
      await tx
        .insertInto('control_plane_vtpm_revocations')
        .values({
          ...{ fingerprint, serial, reason },
          not_after_ms: notAfterMs,
          revoked_at_ms: revokedAtMs,
        })
        .onConflict((conflict) => conflict.column('fingerprint').doUpdateSet({ reason }))
        .execute()
    },

    async listRevocations(endsAfterMs) {
      const rows = await tx
        .selectFrom('control_plane_vtpm_revocations')
        .select(['serial', 'reason', 'revoked_at_ms'])
        .where('not_after_ms', '>', endsAfterMs)
        .orderBy('fingerprint')
        .execute()
      return rows.map(({ serial, reason, revoked_at_ms: revokedAtMs }) => ({
        ...{ serial, reason, revokedAtMs },
      }))
    },

    async isKeyCompromised(keyDigest) {
      const row = await certificates()
        .where('certificate.key_digest', '=', keyDigest)
        .where('revocation.reason', '=', 'key-compromise')
        .limit(1)
        .executeTakeFirst()
      return row !== undefined
    },

    findPublishedList: async (issuer) =>
      (await readPublishedLists(shared)).find((one) => one.issuerFingerprint === issuer),

    publishList: (list) => publishList(shared, list),
  }
}

function storedCertificate(
  row: VtpmTables['control_plane_vtpm_certificates'] & {
    readonly reason: RevocationReason | null
    readonly revoked_at_ms: number | null
  },
): StoredCertificate {
  const { reason, revoked_at_ms: revokedAtMs } = row
  const certificate = new Uint8Array(row.certificate)
  return {
    fingerprint: row.fingerprint,
    vmId: row.vm_id,
    kind: row.kind,
    keyDigest: row.key_digest ?? digestOfKey(certificate),
    hostId: row.host_id,
    certificate,
    issuedAtMs: row.issued_at_ms,
    ...(reason === null || revokedAtMs === null ? {} : { revocation: { reason, revokedAtMs } }),
  }
}

function digestOfKey(certificate: Uint8Array): string {
  const spki = spkiOf(parseCertificate(certificate).publicKey)
  return createHash('sha256').update(spki).digest('hex')
}

function storedState(row: VtpmTables['control_plane_vtpm_states']): StoredVtpmState {
  return {
    vmId: row.vm_id,
    generation: row.generation,
    digest: row.digest,
    cause: row.cause,
    hostId: row.host_id,
    notedAtMs: row.noted_at_ms,
  }
}
