import type { Selectable, Transaction } from 'kysely'
import { GuestBundle, GuestPolicy } from '../../api/guests.js'
import { jsonColumn, jsonText } from '../../store/index.js'
import type { GuestTransaction, StoredGuest } from '../guest-ports.js'
import type { AttestationTables } from './tables.js'

const readBundle = jsonText(GuestBundle)
const readPolicy = jsonColumn(GuestPolicy)

/** VMs whose guests gave evidence, and what guests must prove. */
export function guests<T extends AttestationTables>(transaction: Transaction<T>): GuestTransaction {
  const tx = transaction as unknown as Transaction<AttestationTables>
  const rows = () => tx.selectFrom('attestation_guests').selectAll()
  return {
    async listGuests({ hostId, after, limit }) {
      let query = rows().orderBy('vm_id')
      if (hostId !== undefined) query = query.where('host_id', '=', hostId)
      if (after !== undefined) query = query.where('vm_id', '>', after)
      if (limit !== undefined) query = query.limit(limit)
      return (await query.execute()).map(storedGuest)
    },

    async findGuest(vmId) {
      const row = await rows().where('vm_id', '=', vmId).executeTakeFirst()
      return row && storedGuest(row)
    },

    async findGuestByEk(ekFingerprint) {
      const row = await rows()
        .where('ek_fingerprint', '=', ekFingerprint)
        .orderBy('vm_id')
        .executeTakeFirst()
      return row && storedGuest(row)
    },

    async saveGuest(guest) {
      const values = {
        host_id: guest.hostId,
        cluster: guest.cluster,
        ek_fingerprint: guest.ekFingerprint,
        certificate_issued_at_ms: guest.certificateIssuedAtMs,
        state: guest.state,
        bundle: JSON.stringify(guest.bundle),
      }
      await tx
        .insertInto('attestation_guests')
        .values({ vm_id: guest.vmId, ...values })
        .onConflict((conflict) => conflict.column('vm_id').doUpdateSet(values))
        .execute()
    },

    async removeGuest(vmId) {
      const result = await tx
        .deleteFrom('attestation_guests')
        .where('vm_id', '=', vmId)
        .executeTakeFirst()
      return result.numDeletedRows > 0n
    },

    async findGuestPolicy(cluster) {
      const row = await tx
        .selectFrom('attestation_guest_policies')
        .selectAll()
        .where('cluster', '=', cluster)
        .executeTakeFirst()
      return (
        row && {
          revision: row.revision,
          policy: readPolicy(row.policy),
          updatedAtMs: row.updated_at_ms,
        }
      )
    },

    async saveGuestPolicy(cluster, { revision, policy, updatedAtMs }) {
      const values = { revision, policy: JSON.stringify(policy), updated_at_ms: updatedAtMs }
      await tx
        .insertInto('attestation_guest_policies')
        .values({ cluster, ...values })
        .onConflict((conflict) => conflict.column('cluster').doUpdateSet(values))
        .execute()
    },
  }
}

function storedGuest(row: Selectable<AttestationTables['attestation_guests']>): StoredGuest {
  return {
    vmId: row.vm_id,
    hostId: row.host_id,
    cluster: row.cluster,
    ekFingerprint: row.ek_fingerprint,
    certificateIssuedAtMs: row.certificate_issued_at_ms,
    state: row.state,
    bundle: readBundle(row.bundle),
  }
}
