import type { Generated } from 'kysely'
import type { GuestState } from '../../api/guests.js'
import type { Endorsement } from '../ports.js'

/** Rows of the attestation service; made by migrations 0002, 0005, 0007 to 0009, 0015 and 0022. Times are milliseconds, flags 0 or 1. */
export interface AttestationTables {
  attestation_anchors: {
    fingerprint: string
    role: 'anchor' | 'vtpm' | 'intermediate'
    subject: string
    certificate: Uint8Array
    not_after_ms: number
    insecure_test: number
    added_at_ms: number
  }
  attestation_crls: {
    issuer_fingerprint: string
    crl: Uint8Array
    this_update_ms: number
    next_update_ms: number
    added_at_ms: number
  }
  attestation_endorsements: {
    ek_fingerprint: string
    note: string
    added_at_ms: number
  }
  attestation_revoked_keys: {
    key_id: string
    reason: string
    revoked_at_ms: number
  }
  attestation_tickets: {
    ticket_id: string
    ticket_hash: string
    cluster: string
    host_id: string | null
    uses_left: number
    created_at_ms: number
    expires_at_ms: number
  }
  attestation_enrolments: {
    enrolment_id: string
    host_id: string
    ticket_id: string
    cluster: string
    ek_public: Uint8Array
    ek_fingerprint: string
    ak_public: Uint8Array
    endorsement: Endorsement
    ek_certificate: Uint8Array | null
    insecure_test: number
    tpm: string | null
    secret_hash: string
    expires_at_ms: number
  }
  attestation_hosts: {
    host_id: string
    cluster: string
    ek_fingerprint: string
    ek_public: Uint8Array
    ak_public: Uint8Array
    ak_name: string
    endorsement: Endorsement
    ek_certificate: Uint8Array | null
    insecure_test: number
    tpm: string | null
    tpm_clock: string | null
    enrolled_at_ms: number
    accepted_at_ms: number | null
  }
  attestation_policies: {
    cluster: string
    revision: number
    epoch: number
    policy: string
    updated_at_ms: number
  }
  attestation_base_images: {
    cluster: string
    name: string
    captured_from: string
    captured_at_ms: number
    bank: string
    pcrs: string
    boot: string | null
    event_log: Uint8Array | null
    /** Absent: captured from `captured_from`. */
    source: string | null
    not_before_ms: number | null
    not_after_ms: number | null
  }
  attestation_reference_signers: {
    signer_id: string
    pem: string
    note: string
    added_at_ms: number
  }
  attestation_bundles: {
    bundle_id: string
    host_id: string
    at_ms: number
    /** EvidenceBundle as JSON, without its event log where there is a digest. */
    bundle: string
    log_digest: Uint8Array | null
  }
  attestation_event_logs: {
    digest: Uint8Array
    /** base64url */
    log: string
  }
  attestation_policy_drafts: {
    cluster: string
    policy: string
    operator: string
    updated_at_ms: number
  }
  attestation_policy_revisions: {
    cluster: string
    revision: number
    policy: string
    operator: string
    activated_at_ms: number
  }
  attestation_ima: {
    host_id: string
    reset_count: number
    bank: string
    entries: number
    pcr_value: string
    policy_digest: string
  }
  attestation_events: {
    seq: Generated<number>
    at_ms: number
    type: string
    host_id: string | null
    cluster: string | null
    detail: string
  }
  attestation_webhooks: {
    webhook_id: string
    url: string
    sealed_secret: Uint8Array
    delivered_seq: number
    failures: number
    next_try_ms: number
    last_error: string | null
    created_at_ms: number
  }
  attestation_signing_keys: {
    kid: string
    algorithm: string
    sealed: Uint8Array
    created_at_ms: number
    active_from_ms: number
    retired_at_ms: number | null
  }
  attestation_guests: {
    vm_id: string
    host_id: string
    cluster: string
    ek_fingerprint: string
    certificate_issued_at_ms: number
    state: GuestState
    /** GuestBundle as JSON. */
    bundle: string
  }
  attestation_guest_policies: {
    cluster: string
    revision: number
    policy: string
    updated_at_ms: number
  }
  attestation_verdicts: {
    verdict_id: Generated<number>
    host_id: string
    verdict: string
  }
}
