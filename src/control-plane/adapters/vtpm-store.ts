import type { Transaction } from 'kysely'
import type { VtpmStateCause } from '../../api/vtpm-states.js'
import type { StoredVtpmState, VtpmTransaction } from '../vtpm-ports.js'

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
}

/** States and certificates of virtual TPMs. */
export function vtpmTransaction<T extends VtpmTables>(
  transaction: Transaction<T>,
): VtpmTransaction {
  const tx = transaction as unknown as Transaction<VtpmTables>
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
      return (await query.limit(limit).execute()).map(storedState)
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

    async listCertificates({ vmId }, { after, limit }) {
      let query = tx
        .selectFrom('control_plane_vtpm_certificates')
        .selectAll()
        .orderBy('fingerprint')
        .limit(limit)
      if (vmId !== undefined) query = query.where('vm_id', '=', vmId)
      if (after !== undefined) query = query.where('fingerprint', '>', after)
      return (await query.execute()).map((row) => ({
        fingerprint: row.fingerprint,
        vmId: row.vm_id,
        kind: row.kind,
        hostId: row.host_id,
        certificate: new Uint8Array(row.certificate),
        issuedAtMs: row.issued_at_ms,
      }))
    },
  }
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
