import { Type } from 'typebox'
import { BaseImageView } from './base-images.js'
import { Empty, Exactly, Name, Next, Octets, PageQuery, Sentence, Time } from './common.js'
import { onSite } from './needs.js'
import { operation } from './operation.js'

const BASE = '/attestation/v1'

export const importBaseImages = operation({
  id: 'importBaseImages',
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
  summary: 'Make base images of reference values that somebody else wrote',
  method: 'POST',
  path: `${BASE}/base-images/imports`,
  status: 201,
  body: Exactly({
    cluster: Name,
    name: Type.Optional({
      ...Name,
      description: 'name of the image; several images are numbered; needed for a CoRIM',
    }),
    format: Type.Union([Type.Literal('json'), Type.Literal('corim')]),
    content: Octets(1024 * 1024, 'the file: reference values in JSON, or a CoRIM (CBOR)'),
    unsigned: Type.Optional(
      Type.Boolean({ description: 'accepts a CoRIM that nobody signed: whoever calls vouches' }),
    ),
  }),
  answer: Exactly({
    baseImages: Type.Array(BaseImageView),
    unused: Type.Array(Type.String(), {
      description: 'what the file says that no quote could show, a sentence each',
    }),
  }),
  errors: ['DECODE_ENCODING', 'DECODE_VALUE'],
})

const SignerId = Type.String({
  pattern: '^[0-9a-f]{64}$',
  description: 'SHA-256 of the SubjectPublicKeyInfo of the key',
})

const ReferenceSignerView = Exactly({ signerId: SignerId, note: Sentence, addedAt: Time })

export const addReferenceSigner = operation({
  id: 'addReferenceSigner',
  needs: onSite('TrustedAdmin.ManageAttestingSSO'),
  summary: 'Trust a key to sign reference values (CoRIM)',
  method: 'POST',
  path: `${BASE}/reference-signers`,
  status: 201,
  body: Exactly({
    pem: Type.String({ maxLength: 16 * 1024, description: 'public key, PEM' }),
    note: Type.String({ minLength: 1, maxLength: 200, description: 'whose key it is' }),
  }),
  answer: ReferenceSignerView,
  errors: ['CORIM_KEY'],
})

export const listReferenceSigners = operation({
  id: 'listReferenceSigners',
  needs: onSite('TrustedAdmin.ReadAttestingSSO'),
  summary: 'Keys that may sign reference values',
  method: 'GET',
  path: `${BASE}/reference-signers`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ signers: Type.Array(ReferenceSignerView), next: Next }),
})

export const removeReferenceSigner = operation({
  id: 'removeReferenceSigner',
  needs: onSite('TrustedAdmin.ManageAttestingSSO'),
  summary: 'Trust a signer of reference values no longer; base images that it signed stay',
  method: 'DELETE',
  path: `${BASE}/reference-signers/:signerId`,
  status: 200,
  params: Exactly({ signerId: SignerId }),
  answer: Empty,
})
