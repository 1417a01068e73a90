import { type Static, Type } from 'typebox'
import {
  AuditPage,
  AuditQuery,
  AuditVerdict,
  Bank,
  Exactly,
  HexDigest,
  Name,
  Octets,
  PcrList,
  Time,
  Uuid,
} from './common.js'
import { onSite } from './needs.js'
import { operation } from './operation.js'

const BASE = '/attestation/v1'

export const EnrolmentRequest = Exactly({
  hostId: Name,
  ticket: Type.String({
    maxLength: 128,
    description: 'enrolment ticket that an administrator issued',
  }),
  ekPublic: Octets(1024, 'TPMT_PUBLIC of the endorsement key'),
  ekCertificate: Type.Optional(
    Octets(8192, 'certificate of the endorsement key, DER, as the TPM holds it'),
  ),
  akPublic: Octets(1024, 'TPMT_PUBLIC of the attestation key'),
  device: Type.Optional(
    Exactly(
      {
        certificate: Octets(8192, 'certificate of the initial attestation key (IAK), DER'),
        iakPublic: Octets(1024, 'TPMT_PUBLIC of the initial attestation key'),
        attest: Octets(1024, 'TPMS_ATTEST of TPM2_Certify over the attestation key'),
        signature: Octets(1024, 'TPMT_SIGNATURE of the initial attestation key'),
      },
      'the word of the key that the machine was delivered with',
    ),
  ),
})
export type EnrolmentRequest = Static<typeof EnrolmentRequest>

export const createEnrolment = operation({
  id: 'createEnrolment',
  summary: 'Ask to enrol a host; answers with a credential that only its TPM can open',
  method: 'POST',
  path: `${BASE}/enrolments`,
  status: 201,
  body: EnrolmentRequest,
  answer: Exactly({
    enrolmentId: Uuid,
    credentialBlob: Octets(1024, 'TPM2B_ID_OBJECT'),
    encryptedSecret: Octets(1024, 'TPM2B_ENCRYPTED_SECRET'),
    expiresAt: Time,
  }),
})

/** Who said that the keys are in a TPM. */
export const Endorsement = Type.Union([
  Type.Literal('ca'),
  Type.Literal('pinned'),
  Type.Literal('device'),
  Type.Literal('approved'),
])

export const HostState = Type.Union([
  Type.Literal('awaiting-approval'),
  Type.Literal('enrolled'),
  Type.Literal('trusted'),
  Type.Literal('refused'),
  Type.Literal('late'),
  Type.Literal('revoked'),
])
export type HostState = Static<typeof HostState>

export const activateEnrolment = operation({
  id: 'activateEnrolment',
  summary: 'Show the secret of the credential; one wrong answer ends the enrolment',
  method: 'POST',
  path: `${BASE}/enrolments/:enrolmentId/activation`,
  status: 200,
  params: Exactly({ enrolmentId: Uuid }),
  body: Exactly({ secret: Octets(64, 'the secret that TPM2_ActivateCredential gave') }),
  answer: Exactly({ hostId: Name, cluster: Name, state: HostState }),
})

export const createNonce = operation({
  id: 'createNonce',
  summary: 'Ask for a nonce and for what the quote must cover',
  method: 'POST',
  path: `${BASE}/nonces`,
  status: 201,
  body: Exactly({ hostId: Name }),
  answer: Exactly({
    nonce: Octets(64, 'single use'),
    expiresAt: Time,
    verifier: Type.String({
      maxLength: 200,
      description: 'identifier of this attestation service',
    }),
    bank: Bank,
    pcrs: PcrList,
    bindingPcrs: PcrList,
    ima: Type.Boolean({ description: 'whether the measurement list of the kernel is wanted' }),
  }),
})

/** A public P-256 key. */
export const PublicJwk = Exactly({
  kty: Type.Literal('EC'),
  crv: Type.Literal('P-256'),
  x: Octets(32, 'x coordinate'),
  y: Octets(32, 'y coordinate'),
})
export type PublicJwk = Static<typeof PublicJwk>

export const Evidence = Exactly({
  hostId: Name,
  nonce: Octets(64, 'the nonce asked for'),
  attest: Octets(1024, 'TPMS_ATTEST of the quote'),
  signature: Octets(1024, 'TPMT_SIGNATURE of the quote'),
  pcrs: Type.Array(Exactly({ pcr: Type.Integer({ minimum: 0, maximum: 23 }), digest: HexDigest }), {
    maxItems: 24,
    description: 'values of the quoted PCRs, ascending',
  }),
  eventLog: Type.Optional(Octets(1024 * 1024, 'boot event log as the firmware wrote it')),
  ima: Type.Optional(
    Exactly(
      {
        from: Type.Integer({
          minimum: 0,
          description: 'entries left out: accepted before in this boot',
        }),
        list: Octets(8 * 1024 * 1024, 'measurement list of the kernel from there on'),
      },
      'not bound to the quote by its digest: PCR 10 proves it',
    ),
  ),
  proofKey: PublicJwk,
  sessionKey: PublicJwk,
  bindingKey: Type.Optional(
    Exactly({
      publicArea: Octets(1024, 'TPMT_PUBLIC of the binding key'),
      attest: Octets(1024, 'TPMS_ATTEST of TPM2_Certify by the attestation key'),
      signature: Octets(1024, 'TPMT_SIGNATURE of it'),
    }),
  ),
})
export type Evidence = Static<typeof Evidence>

export const createAttestation = operation({
  id: 'createAttestation',
  summary: 'Give evidence; answers with a token for key providers',
  method: 'POST',
  path: `${BASE}/attestations`,
  status: 201,
  body: Evidence,
  answer: Exactly({
    token: Type.String(),
    expiresAt: Time,
    imaEntries: Type.Optional(
      Type.Integer({ description: 'entries of the measurement list that are accepted now' }),
    ),
  }),
})

export const getJwks = operation({
  id: 'getJwks',
  summary: 'Public keys that verify tokens',
  method: 'GET',
  path: `${BASE}/jwks.json`,
  status: 200,
  answer: Exactly({ keys: Type.Array(Type.Record(Type.String(), Type.Unknown())) }),
})

export const getDiscovery = operation({
  id: 'getDiscovery',
  summary: 'Discovery document in the manner of OpenID Connect',
  method: 'GET',
  path: '/attestation/.well-known/openid-configuration',
  status: 200,
  answer: Exactly({
    issuer: Type.String(),
    jwks_uri: Type.String(),
    id_token_signing_alg_values_supported: Type.Array(Type.String()),
    response_types_supported: Type.Array(Type.String()),
    subject_types_supported: Type.Array(Type.String()),
    eat_profile: Type.String(),
  }),
})

export const listAttestationAudit = operation({
  id: 'listAttestationAudit',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'Audit records of the attestation service',
  method: 'GET',
  path: `${BASE}/audit`,
  status: 200,
  query: AuditQuery,
  answer: AuditPage,
})

export const verifyAttestationAudit = operation({
  id: 'verifyAttestationAudit',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'Recompute the hash chain of the audit records',
  method: 'GET',
  path: `${BASE}/audit/verification`,
  status: 200,
  answer: AuditVerdict,
})
