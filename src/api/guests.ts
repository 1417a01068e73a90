import { type Static, Type } from 'typebox'
import { PublicJwk } from './attestation.js'
import { BootView } from './base-images.js'
import {
  Bank,
  Empty,
  Exactly,
  FindingView,
  HexDigest,
  Name,
  Next,
  Octets,
  PageQuery,
  Pcr,
  PcrList,
  Sentence,
  Time,
  Uuid,
} from './common.js'
import { onSite } from './needs.js'
import { operation } from './operation.js'

const BASE = '/attestation/v1'

// ---------------------------------------------------------------- what hosts call for the guests in their VMs

/** The keys of a guest in the virtual TPM of its VM, and who certified that. */
const GuestKeys = {
  vmId: Uuid,
  ekPublic: Octets(1024, 'TPMT_PUBLIC of the endorsement key of the virtual TPM'),
  ekCertificate: Octets(8192, 'its certificate, which names the VM and the host that runs it; DER'),
  akPublic: Octets(1024, 'TPMT_PUBLIC of the attestation key of the guest'),
}

export const createGuestChallenge = operation({
  id: 'createGuestChallenge',
  summary: 'Ask for a nonce and a credential that only the virtual TPM with both keys can open',
  method: 'POST',
  path: `${BASE}/guests/challenges`,
  status: 201,
  body: Exactly(GuestKeys),
  answer: Exactly({
    nonce: Octets(64, 'single use'),
    credentialBlob: Octets(1024, 'TPM2B_ID_OBJECT'),
    encryptedSecret: Octets(1024, 'TPM2B_ENCRYPTED_SECRET'),
    expiresAt: Time,
    verifier: Type.String({
      maxLength: 200,
      description: 'identifier of this attestation service',
    }),
    bank: Bank,
    pcrs: PcrList,
  }),
})

export const GuestEvidence = Exactly({
  ...GuestKeys,
  nonce: Octets(64, 'the nonce asked for'),
  secret: Octets(64, 'the secret that TPM2_ActivateCredential gave'),
  attest: Octets(1024, 'TPMS_ATTEST of the quote'),
  signature: Octets(1024, 'TPMT_SIGNATURE of the quote'),
  pcrs: Type.Array(Exactly({ pcr: Pcr, digest: HexDigest }), {
    maxItems: 24,
    description: 'values of the quoted PCRs, ascending',
  }),
  eventLog: Type.Optional(Octets(1024 * 1024, 'boot event log as the firmware wrote it')),
  proofKey: Type.Optional(PublicJwk),
  host: Type.Optional(
    Exactly(
      {
        token: Type.String({ maxLength: 8192, description: 'attestation result of the host' }),
        placement: Type.String({
          maxLength: 4096,
          description: 'its statement that it runs this VM, signed by the key of the token',
        }),
      },
      'the word of the host that runs the VM; the service takes no evidence without it',
    ),
  ),
})
export type GuestEvidence = Static<typeof GuestEvidence>

export const createGuestAttestation = operation({
  id: 'createGuestAttestation',
  summary: 'Give evidence of a guest with the word of its host; answers with a token about the VM',
  method: 'POST',
  path: `${BASE}/guests/attestations`,
  status: 201,
  body: GuestEvidence,
  answer: Exactly({ token: Type.String(), expiresAt: Time }),
})

// ---------------------------------------------------------------- what guests must prove

const PcrIndexes = (minItems: number, description: string) =>
  Type.Array(Type.Integer({ minimum: 0, maximum: 15 }), {
    minItems,
    maxItems: 16,
    uniqueItems: true,
    description,
  })

/** What guests on hosts of a cluster must prove. Reference values are in it: its digest is of all that was asked for. */
export const GuestPolicy = Exactly({
  bank: Bank,
  pcrs: PcrIndexes(1, 'PCRs that every quote must cover'),
  pinnedPcrs: PcrIndexes(
    0,
    'PCRs that must have the values of one of the base images; a subset of pcrs. None: identity only',
  ),
  baseImages: Type.Array(
    Exactly({
      name: Name,
      pcrs: Type.Array(
        Exactly({ pcr: Pcr, digests: Type.Array(HexDigest, { minItems: 1, maxItems: 64 }) }),
        { maxItems: 24 },
      ),
    }),
    { maxItems: 64, description: 'what good guests measure, in the bank of the policy' },
  ),
  requireEventLog: Type.Boolean(),
  requireSecureBoot: Type.Boolean(),
  tokenTtlSeconds: Type.Integer({ minimum: 30, maximum: 300 }),
})
export type GuestPolicy = Static<typeof GuestPolicy>

export const GuestPolicyView = Exactly({
  cluster: Name,
  revision: Type.Integer(),
  digest: HexDigest,
  updatedAt: Type.Optional(Time),
  policy: GuestPolicy,
})
export type GuestPolicyView = Static<typeof GuestPolicyView>

const ClusterParams = Exactly({ cluster: Name })

export const getGuestPolicy = operation({
  id: 'getGuestPolicy',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'What guests on hosts of a cluster must prove',
  method: 'GET',
  path: `${BASE}/guest-policies/:cluster`,
  status: 200,
  params: ClusterParams,
  answer: GuestPolicyView,
})

export const setGuestPolicy = operation({
  id: 'setGuestPolicy',
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
  summary: 'Set what guests on hosts of a cluster must prove from their next attestation on',
  method: 'PUT',
  path: `${BASE}/guest-policies/:cluster`,
  status: 200,
  params: ClusterParams,
  body: GuestPolicy,
  answer: GuestPolicyView,
})

// ---------------------------------------------------------------- what administrators see of guests

export const GuestState = Type.Union([
  Type.Literal('attested'),
  Type.Literal('refused'),
  Type.Literal('revoked'),
])
export type GuestState = Static<typeof GuestState>

export const GuestVerdictView = Exactly({
  at: Time,
  accepted: Type.Boolean(),
  baseImage: Type.Optional(Name),
  boot: Type.Optional(BootView),
  findings: Type.Array(FindingView),
  tokenId: Type.Optional(Uuid),
})
export type GuestVerdictView = Static<typeof GuestVerdictView>

export const GuestView = Exactly({
  vmId: Uuid,
  hostId: Name,
  cluster: Name,
  state: GuestState,
  host: Exactly(
    {
      trusted: Type.Boolean({ description: 'whether the host is trusted now' }),
      state: Type.String(),
    },
    'the host that the last evidence came from, as it is now',
  ),
  ekFingerprint: HexDigest,
  certificateIssuedAt: Time,
  verdict: GuestVerdictView,
})
export type GuestView = Static<typeof GuestView>

/** Evidence of a guest with all that it was judged by, to be judged again anywhere. */
export const GuestBundle = Exactly({
  format: Type.Literal('sigillo guest bundle v1'),
  cluster: Name,
  verifier: Type.String({ maxLength: 200 }),
  evidence: GuestEvidence,
  policy: GuestPolicy,
  policyRevision: Type.Integer(),
  verdict: GuestVerdictView,
})
export type GuestBundle = Static<typeof GuestBundle>

const VmParams = Exactly({ vmId: Uuid })

export const listGuests = operation({
  id: 'listGuests',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'VMs whose guests gave evidence, with the last verdict',
  method: 'GET',
  path: `${BASE}/guests`,
  status: 200,
  query: Exactly({ hostId: Type.Optional(Name), ...PageQuery }),
  answer: Exactly({ guests: Type.Array(GuestView), next: Next }),
})

export const getGuest = operation({
  id: 'getGuest',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'One VM with the last verdict about its guest, and its host as it is now',
  method: 'GET',
  path: `${BASE}/guests/:vmId`,
  status: 200,
  params: VmParams,
  answer: GuestView,
})

export const getGuestBundle = operation({
  id: 'getGuestBundle',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'The last evidence of a guest, to be verified anywhere',
  method: 'GET',
  path: `${BASE}/guests/:vmId/bundle`,
  status: 200,
  params: VmParams,
  answer: GuestBundle,
})

export const revokeGuest = operation({
  id: 'revokeGuest',
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
  summary: 'Accept no evidence of a VM any more',
  method: 'POST',
  path: `${BASE}/guests/:vmId/revocation`,
  status: 200,
  params: VmParams,
  body: Exactly({ reason: Sentence }),
  answer: GuestView,
})

export const removeGuest = operation({
  id: 'removeGuest',
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
  summary: 'Forget a VM and its evidence; its next evidence is taken as that of a new one',
  method: 'DELETE',
  path: `${BASE}/guests/:vmId`,
  status: 200,
  params: VmParams,
  answer: Empty,
})
