import { Type } from 'typebox'
import { Empty, Exactly, Next, PageQuery, Sentence, Time, Uuid } from './common.js'
import { onSite } from './needs.js'
import { operation } from './operation.js'

const BASE = '/attestation/v1'

export const introspectToken = operation({
  id: 'introspectToken',
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
  summary: 'Whether a token counts now, and why not',
  method: 'POST',
  path: `${BASE}/introspection`,
  status: 200,
  body: Exactly({ token: Type.String({ maxLength: 8192 }) }),
  answer: Exactly({
    active: Type.Boolean(),
    code: Type.Optional(Type.String()),
    reason: Type.Optional(Type.String()),
    claims: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  }),
})

export const revokeToken = operation({
  id: 'revokeToken',
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
  summary: 'End one token at once',
  method: 'POST',
  path: `${BASE}/tokens/:tokenId/revocation`,
  status: 200,
  params: Exactly({ tokenId: Uuid }),
  body: Exactly({ reason: Sentence }),
  answer: Empty,
  errors: ['CONFLICT'],
})

export const SignatureAlgorithm = Type.Union([
  Type.Literal('ES256'),
  Type.Literal('ES384'),
  Type.Literal('EdDSA'),
])

export const SigningKeyView = Exactly({
  kid: Type.String(),
  algorithm: SignatureAlgorithm,
  createdAt: Time,
  retiredAt: Type.Optional(Time),
})

export const listSigningKeys = operation({
  id: 'listSigningKeys',
  needs: onSite('TrustedAdmin.ReadAttestingSSO'),
  summary:
    'Keys that tokens are signed with: the active one, and retired ones that are still published',
  method: 'GET',
  path: `${BASE}/signing-keys`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ keys: Type.Array(SigningKeyView), next: Next }),
})

export const rotateSigningKey = operation({
  id: 'rotateSigningKey',
  needs: onSite('TrustedAdmin.ManageAttestingSSO'),
  summary:
    'Sign tokens with a new key from now on; tokens of the old one stay valid until they end',
  method: 'POST',
  path: `${BASE}/signing-keys`,
  status: 201,
  body: Exactly({ algorithm: Type.Optional(SignatureAlgorithm) }),
  answer: SigningKeyView,
})
