import { fromHex } from '../core/bytes.js'
import { ENDORSEMENT_NAME, policySecretDigest } from './policy.js'
import {
  attributesOf,
  ECC_CURVES,
  encodePublicArea,
  type KeyScheme,
  type ObjectAttribute,
  type PublicArea,
} from './public-area.js'

/** A standard endorsement key: its template, and the NV index that its certificate is in. */
export interface EndorsementTemplate {
  readonly area: PublicArea
  /** TPMT_PUBLIC, as TPM2_CreatePrimary takes it. */
  readonly publicArea: Uint8Array
  readonly certificateNvIndex: number
}

const STORAGE: readonly ObjectAttribute[] = [
  'fixedTPM',
  'fixedParent',
  'sensitiveDataOrigin',
  'restricted',
  'decrypt',
]

/**
 * PolicyB of the profile, SHA-384: PolicyOR of PolicySecret(endorsement) and PolicyAuthorizeNV over index 0x01c07f02.
 *
 * @see TCG EK Credential Profile 2.x, annex B.6
 */
const POLICY_B_SHA384 = fromHex(
  'b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12',
)

/**
 * The endorsement keys that Sigillo enrols: RSA-2048 and P-256 of the low range, P-384 of the high range.
 *
 * @see TCG EK Credential Profile 2.x, annexes B.3.3 (template L-1), B.3.4 (L-2) and B.4 (H-3); clause 2.2.1.4 for the indexes
 */
export const EK_TEMPLATES = {
  rsa2048: endorsementTemplate(0x01c00002, {
    type: 'rsa',
    nameAlg: 'sha256',
    attributes: attributes(...STORAGE, 'adminWithPolicy'),
    authPolicy: policySecretDigest(ENDORSEMENT_NAME, 'sha256'),
    symmetric: { keyBits: 128 },
    scheme: { kind: 'null' },
    keyBits: 2048,
    exponent: 0,
    modulus: new Uint8Array(256),
  }),
  eccP256: endorsementTemplate(0x01c0000a, {
    type: 'ecc',
    nameAlg: 'sha256',
    attributes: attributes(...STORAGE, 'adminWithPolicy'),
    authPolicy: policySecretDigest(ENDORSEMENT_NAME, 'sha256'),
    symmetric: { keyBits: 128 },
    scheme: { kind: 'null' },
    curve: 'P-256',
    x: new Uint8Array(ECC_CURVES['P-256'].octets),
    y: new Uint8Array(ECC_CURVES['P-256'].octets),
  }),
  eccP384: endorsementTemplate(0x01c00016, {
    type: 'ecc',
    nameAlg: 'sha384',
    attributes: attributes(...STORAGE, 'adminWithPolicy', 'userWithAuth'),
    authPolicy: POLICY_B_SHA384,
    symmetric: { keyBits: 256 },
    scheme: { kind: 'null' },
    curve: 'P-384',
    x: new Uint8Array(),
    y: new Uint8Array(),
  }),
} as const satisfies Record<string, EndorsementTemplate>

/** Parent of the attestation key and the binding key: P-256 storage key without a policy. TPMT_PUBLIC. */
export const STORAGE_PRIMARY_TEMPLATE: Uint8Array = encodePublicArea({
  type: 'ecc',
  nameAlg: 'sha256',
  attributes: attributes(...STORAGE, 'userWithAuth', 'noDA'),
  authPolicy: new Uint8Array(),
  symmetric: { keyBits: 128 },
  scheme: { kind: 'null' },
  curve: 'P-256',
  x: new Uint8Array(),
  y: new Uint8Array(),
})

/** Kinds of attestation key that can be asked for. */
export type AttestationKeyKind = 'ecc-p256' | 'ecc-p384' | 'rsa-2048' | 'rsa-2048-pss' | 'rsa-3072'

/**
 * Template of an attestation key: it signs what the TPM made, and nothing else. TPMT_PUBLIC.
 *
 * noDA: a TPM that lost power counts it as an attack, and a host must attest after a power cut.
 */
export function attestationKeyTemplate(kind: AttestationKeyKind): Uint8Array {
  const base = {
    nameAlg: 'sha256',
    attributes: attributes(
      'fixedTPM',
      'fixedParent',
      'sensitiveDataOrigin',
      'userWithAuth',
      'noDA',
      'restricted',
      'sign',
    ),
    authPolicy: new Uint8Array(),
  } as const
  const rsa = (keyBits: number, scheme: KeyScheme) =>
    encodePublicArea({
      ...base,
      type: 'rsa',
      scheme,
      keyBits,
      exponent: 0,
      modulus: new Uint8Array(),
    })
  const ecc = (curve: 'P-256' | 'P-384', scheme: KeyScheme) =>
    encodePublicArea({
      ...base,
      type: 'ecc',
      scheme,
      curve,
      x: new Uint8Array(),
      y: new Uint8Array(),
    })
  switch (kind) {
    case 'ecc-p256':
      return ecc('P-256', { kind: 'ecdsa', hash: 'sha256' })
    case 'ecc-p384':
      return ecc('P-384', { kind: 'ecdsa', hash: 'sha384' })
    case 'rsa-2048':
      return rsa(2048, { kind: 'rsassa', hash: 'sha256' })
    case 'rsa-2048-pss':
      return rsa(2048, { kind: 'rsapss', hash: 'sha256' })
    case 'rsa-3072':
      return rsa(3072, { kind: 'rsassa', hash: 'sha384' })
  }
}

/**
 * Template of a binding key: it decrypts while its policy holds, and in no other way. TPMT_PUBLIC.
 *
 * `userWithAuth` is clear, so that the policy is the only way to use it; `adminWithPolicy` is clear, so that the
 * attestation key can certify it with the (empty) authorisation value.
 */
export function bindingKeyTemplate(authPolicy: Uint8Array): Uint8Array {
  return encodePublicArea({
    type: 'rsa',
    nameAlg: 'sha256',
    attributes: attributes('fixedTPM', 'fixedParent', 'sensitiveDataOrigin', 'noDA', 'decrypt'),
    authPolicy,
    scheme: { kind: 'oaep', hash: 'sha256' },
    keyBits: 2048,
    exponent: 0,
    modulus: new Uint8Array(),
  })
}

function attributes(...names: readonly ObjectAttribute[]) {
  return attributesOf((name) => names.includes(name))
}

function endorsementTemplate(certificateNvIndex: number, area: PublicArea): EndorsementTemplate {
  return { area, publicArea: encodePublicArea(area), certificateNvIndex }
}
