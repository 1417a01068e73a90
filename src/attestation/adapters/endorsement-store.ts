import type { Selectable, Transaction } from 'kysely'
import { parseRevocationList, type RevocationList } from '../../pki/index.js'
import { type FoundationTables, type PublishedList, readPublishedLists } from '../../store/index.js'
import type { EndorsementTransaction, StoredRevokedKey } from '../ports.js'
import type { AttestationTables } from './tables.js'

export type ListReader = (published: PublishedList) => RevocationList

/** Reads a list once: they are long, and asked for with all evidence of guests. */
export function listReader(): ListReader {
  const kept = new Map<string, { readonly number: number; readonly list: RevocationList }>()
  return ({ issuerFingerprint, number, list: der }) => {
    const before = kept.get(issuerFingerprint)
    if (before?.number === number) return before.list
    const list = parseRevocationList(der)
    kept.set(issuerFingerprint, { number, list })
    return list
  }
}

/** The queries about whom enrolment believes, in one transaction. */
export function authoritiesAndKeys<T extends AttestationTables & FoundationTables>(
  transaction: Transaction<T>,
  readList: ListReader,
): EndorsementTransaction {
  const tx = transaction as unknown as Transaction<AttestationTables>
  return {
    async listAuthorities({ after, limit } = {}) {
      let query = tx.selectFrom('attestation_anchors').selectAll().orderBy('fingerprint')
      if (after !== undefined) query = query.where('fingerprint', '>', after)
      if (limit !== undefined) query = query.limit(limit)
      return (await query.execute()).map((row) => ({
        fingerprint: row.fingerprint,
        role: row.role,
        subject: row.subject,
        certificate: new Uint8Array(row.certificate),
        notAfterMs: row.not_after_ms,
        insecureTest: row.insecure_test === 1,
        addedAtMs: row.added_at_ms,
      }))
    },

    async saveAuthority(authority) {
      const { role } = authority
      const insecure_test = authority.insecureTest ? 1 : 0
      await tx
        .insertInto('attestation_anchors')
        .values({
          fingerprint: authority.fingerprint,
          role,
          subject: authority.subject,
          certificate: authority.certificate,
          not_after_ms: authority.notAfterMs,
          insecure_test,
          added_at_ms: authority.addedAtMs,
        })
        .onConflict((conflict) =>
          conflict.column('fingerprint').doUpdateSet({ role, insecure_test }),
        )
        .execute()
    },

    async removeAuthority(fingerprint) {
      const result = await tx
        .deleteFrom('attestation_anchors')
        .where('fingerprint', '=', fingerprint)
        .executeTakeFirst()
      await tx
        .deleteFrom('attestation_crls')
        .where('issuer_fingerprint', '=', fingerprint)
        .execute()
      return result.numDeletedRows > 0n
    },

    async listRevocationLists({ after, limit } = {}) {
      let query = tx.selectFrom('attestation_crls').selectAll().orderBy('issuer_fingerprint')
      if (after !== undefined) query = query.where('issuer_fingerprint', '>', after)
      if (limit !== undefined) query = query.limit(limit)
      return (await query.execute()).map((row) => ({
        issuerFingerprint: row.issuer_fingerprint,
        list: new Uint8Array(row.crl),
        thisUpdateMs: row.this_update_ms,
        nextUpdateMs: row.next_update_ms,
        addedAtMs: row.added_at_ms,
      }))
    },

    publishedLists: async () =>
      (await readPublishedLists(transaction as unknown as Transaction<FoundationTables>)).map(
        readList,
      ),

    async saveRevocationList(list) {
      const values = {
        crl: list.list,
        this_update_ms: list.thisUpdateMs,
        next_update_ms: list.nextUpdateMs,
        added_at_ms: list.addedAtMs,
      }
      await tx
        .insertInto('attestation_crls')
        .values({ issuer_fingerprint: list.issuerFingerprint, ...values })
        .onConflict((conflict) => conflict.column('issuer_fingerprint').doUpdateSet(values))
        .execute()
    },

    async removeRevocationList(issuerFingerprint) {
      const result = await tx
        .deleteFrom('attestation_crls')
        .where('issuer_fingerprint', '=', issuerFingerprint)
        .executeTakeFirst()
      return result.numDeletedRows > 0n
    },

    async listEndorsementKeys({ after, limit }) {
      let query = tx.selectFrom('attestation_endorsements').selectAll().orderBy('ek_fingerprint')
      if (after !== undefined) query = query.where('ek_fingerprint', '>', after)
      if (limit !== undefined) query = query.limit(limit)
      return (await query.execute()).map((row) => ({
        fingerprint: row.ek_fingerprint,
        note: row.note,
        addedAtMs: row.added_at_ms,
      }))
    },

    async hasEndorsementKey(fingerprint) {
      const row = await tx
        .selectFrom('attestation_endorsements')
        .select('ek_fingerprint')
        .where('ek_fingerprint', '=', fingerprint)
        .executeTakeFirst()
      return row !== undefined
    },

    async saveEndorsementKey(key) {
      await tx
        .insertInto('attestation_endorsements')
        .values({ ek_fingerprint: key.fingerprint, note: key.note, added_at_ms: key.addedAtMs })
        .onConflict((conflict) => conflict.column('ek_fingerprint').doUpdateSet({ note: key.note }))
        .execute()
    },

    async removeEndorsementKey(fingerprint) {
      const result = await tx
        .deleteFrom('attestation_endorsements')
        .where('ek_fingerprint', '=', fingerprint)
        .executeTakeFirst()
      return result.numDeletedRows > 0n
    },

    async listRevokedKeys({ after, limit }) {
      let query = tx.selectFrom('attestation_revoked_keys').selectAll().orderBy('key_id')
      if (after !== undefined) query = query.where('key_id', '>', after)
      if (limit !== undefined) query = query.limit(limit)
      return (await query.execute()).map(storedRevokedKey)
    },

    async findRevokedKey(keys) {
      const row = await tx
        .selectFrom('attestation_revoked_keys')
        .selectAll()
        .where('key_id', 'in', [...keys])
        .orderBy('key_id')
        .executeTakeFirst()
      return row && storedRevokedKey(row)
    },

    async saveRevokedKey({ key, reason, revokedAtMs }) {
      await tx
        .insertInto('attestation_revoked_keys')
        .values({ key_id: key, reason, revoked_at_ms: revokedAtMs })
        .onConflict((conflict) => conflict.column('key_id').doUpdateSet({ reason }))
        .execute()
    },

    async removeRevokedKey(key) {
      const result = await tx
        .deleteFrom('attestation_revoked_keys')
        .where('key_id', '=', key)
        .executeTakeFirst()
      return result.numDeletedRows > 0n
    },
  }
}

function storedRevokedKey(
  row: Selectable<AttestationTables['attestation_revoked_keys']>,
): StoredRevokedKey {
  return { key: row.key_id, reason: row.reason, revokedAtMs: row.revoked_at_ms }
}
