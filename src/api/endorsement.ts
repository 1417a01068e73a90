import { Type } from 'typebox'
import { Empty, Exactly, Name, Next, PageQuery, Time } from './common.js'
import { onSite } from './needs.js'
import { operation } from './operation.js'

const BASE = '/attestation/v1'

const Fingerprint = Type.String({
  pattern: '^[0-9a-f]{64}$',
  description: 'SHA-256 of the certificate',
})

const KeyFingerprint = Type.String({
  pattern: '^[0-9a-f]{64}$',
  description: 'SHA-256 of the SubjectPublicKeyInfo of the endorsement key',
})

const Note = Type.String({ minLength: 1, maxLength: 200, description: 'for people' })

const AnchorView = Exactly({
  fingerprint: Fingerprint,
  role: Type.Union([Type.Literal('anchor'), Type.Literal('vtpm'), Type.Literal('intermediate')], {
    description:
      'vtpm endorses virtual TPMs of VMs, never a host; an intermediate helps to find a path and is trusted for nothing',
  }),
  subject: Type.String(),
  notAfter: Time,
  insecureTest: Type.Boolean(),
  addedAt: Time,
})

export const addAnchors = operation({
  id: 'addAnchors',
  needs: onSite('TrustedAdmin.ManageAttestingSSO'),
  summary: 'Trust the certificate authorities of a PEM bundle to endorse TPMs',
  method: 'POST',
  path: `${BASE}/anchors`,
  status: 201,
  body: Exactly({
    pem: Type.String({ maxLength: 1024 * 1024 }),
    trustIntermediates: Type.Optional(
      Type.Boolean({
        description: 'makes every authority of the bundle an anchor, not only the roots',
      }),
    ),
    forVms: Type.Optional(
      Type.Boolean({
        description: 'they endorse virtual TPMs of VMs, and no TPM of a host',
      }),
    ),
    insecureTest: Type.Optional(
      Type.Boolean({
        description: 'a laboratory authority: marked in every token, refused in production',
      }),
    ),
  }),
  answer: Exactly({ anchors: Type.Array(AnchorView) }),
  errors: ['CERT_PEM', 'CERT_UNREADABLE'],
})

export const listAnchors = operation({
  id: 'listAnchors',
  needs: onSite('TrustedAdmin.ReadAttestingSSO'),
  summary: 'Authorities that endorse TPMs: trust anchors, and intermediates between',
  method: 'GET',
  path: `${BASE}/anchors`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ anchors: Type.Array(AnchorView), next: Next }),
})

export const removeAnchor = operation({
  id: 'removeAnchor',
  needs: onSite('TrustedAdmin.ManageAttestingSSO'),
  summary:
    'Trust an authority no longer, and forget its revocation list; enrolled hosts stay enrolled',
  method: 'DELETE',
  path: `${BASE}/anchors/:fingerprint`,
  status: 200,
  params: Exactly({ fingerprint: Fingerprint }),
  answer: Empty,
})

const RevocationListView = Exactly({
  issuer: Type.String(),
  issuerFingerprint: Fingerprint,
  certificates: Type.Integer({ description: 'how many are revoked' }),
  thisUpdate: Time,
  nextUpdate: Time,
  addedAt: Time,
})

export const addRevocationList = operation({
  id: 'addRevocationList',
  needs: onSite('TrustedAdmin.ManageAttestingSSO'),
  summary:
    'Take in the revocation list of an authority; hosts whose certificate is on it are revoked',
  method: 'POST',
  path: `${BASE}/revocation-lists`,
  status: 201,
  body: Exactly({
    list: Type.String({
      maxLength: 1_400_000,
      description: 'DER as base64, or PEM; at most 1 MiB of DER',
    }),
  }),
  answer: Exactly({
    list: RevocationListView,
    revokedHosts: Type.Array(Name, { description: 'hosts that lost their trust by it' }),
  }),
  errors: ['CRL_UNREADABLE'],
})

export const listRevocationLists = operation({
  id: 'listRevocationLists',
  needs: onSite('TrustedAdmin.ReadAttestingSSO'),
  summary: 'Revocation lists of the authorities that endorse TPMs',
  method: 'GET',
  path: `${BASE}/revocation-lists`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ lists: Type.Array(RevocationListView), next: Next }),
})

export const removeRevocationList = operation({
  id: 'removeRevocationList',
  needs: onSite('TrustedAdmin.ManageAttestingSSO'),
  summary: 'Forget the revocation list of an authority',
  method: 'DELETE',
  path: `${BASE}/revocation-lists/:fingerprint`,
  status: 200,
  params: Exactly({ fingerprint: Fingerprint }),
  answer: Empty,
})

const EndorsementKeyView = Exactly({ fingerprint: KeyFingerprint, note: Note, addedAt: Time })

export const addEndorsementKey = operation({
  id: 'addEndorsementKey',
  needs: onSite('TrustedAdmin.ManageAttestingSSO'),
  summary: 'Trust one endorsement key by itself, whoever certified it',
  method: 'POST',
  path: `${BASE}/endorsement-keys`,
  status: 201,
  body: Exactly({
    pem: Type.String({
      maxLength: 64 * 1024,
      description: 'its certificate or its public key, PEM',
    }),
    note: Note,
  }),
  answer: EndorsementKeyView,
  errors: ['CERT_UNREADABLE'],
})

export const listEndorsementKeys = operation({
  id: 'listEndorsementKeys',
  needs: onSite('TrustedAdmin.ReadAttestingSSO'),
  summary: 'Endorsement keys that are trusted by themselves',
  method: 'GET',
  path: `${BASE}/endorsement-keys`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ keys: Type.Array(EndorsementKeyView), next: Next }),
})

export const removeEndorsementKey = operation({
  id: 'removeEndorsementKey',
  needs: onSite('TrustedAdmin.ManageAttestingSSO'),
  summary: 'Trust an endorsement key by itself no longer; enrolled hosts stay enrolled',
  method: 'DELETE',
  path: `${BASE}/endorsement-keys/:fingerprint`,
  status: 200,
  params: Exactly({ fingerprint: KeyFingerprint }),
  answer: Empty,
})

/** What a key is revoked by: as `getHost` shows it. */
const KeyId = Type.String({
  pattern: '^[0-9a-f]{64,132}$',
  description: 'name of an attestation key, or fingerprint of an endorsement key, in hexadecimal',
})

const RevokedKeyView = Exactly({ key: KeyId, reason: Note, revokedAt: Time })

export const addRevokedKey = operation({
  id: 'addRevokedKey',
  needs: onSite('TrustedAdmin.ManageAttestingSSO'),
  summary:
    'Never trust an attestation key or an endorsement key again; its host is revoked at once',
  method: 'POST',
  path: `${BASE}/revoked-keys`,
  status: 201,
  body: Exactly({ key: KeyId, reason: Note }),
  answer: Exactly({
    revokedKey: RevokedKeyView,
    revokedHosts: Type.Array(Name, { description: 'hosts that lost their trust by it' }),
  }),
})

export const listRevokedKeys = operation({
  id: 'listRevokedKeys',
  needs: onSite('TrustedAdmin.ReadAttestingSSO'),
  summary: 'Attestation keys and endorsement keys that no host may enrol with',
  method: 'GET',
  path: `${BASE}/revoked-keys`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ keys: Type.Array(RevokedKeyView), next: Next }),
})

export const removeRevokedKey = operation({
  id: 'removeRevokedKey',
  needs: onSite('TrustedAdmin.ManageAttestingSSO'),
  summary: 'Let hosts enrol with a key again; hosts that were revoked stay revoked',
  method: 'DELETE',
  path: `${BASE}/revoked-keys/:key`,
  status: 200,
  params: Exactly({ key: KeyId }),
  answer: Empty,
})
