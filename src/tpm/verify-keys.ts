import { equalBytes } from '../core/bytes.js'
import { isPlatformError } from '../core/errors.js'
import { type Finding, failed, passed } from '../core/finding.js'
import { type ObjectAttribute, type PublicArea, requirePublicKey } from './public-area.js'
import { hasRocaFingerprint } from './roca.js'
import { EK_TEMPLATES } from './templates.js'

/**
 * Checks that a key, if a TPM has it, can only sign what that TPM made itself.
 *
 * A key without `restricted` signs anything, a made-up quote too. That a TPM has the key is not checked here.
 *
 * @see TCG TPM 2.0 Keys for Device Identity and Attestation, clause 7.2; RFC 9683, section 3
 */
export function verifyAttestationKey(area: PublicArea): readonly Finding[] {
  return [
    restricted(area),
    ...attributeFindings(
      'ak.attributes',
      'AK_ATTRIBUTES',
      area,
      ['sign', 'fixedTPM', 'fixedParent', 'sensitiveDataOrigin'],
      ['decrypt', 'encryptedDuplication', 'x509sign'],
    ),
    signingScheme(area),
    strongNameAlg('ak.name-alg', area),
    strength('ak', area),
  ]
}

function restricted({ attributes }: PublicArea): Finding {
  return attributes.restricted
    ? passed('ak.restricted')
    : failed('ak.restricted', 'AK_RESTRICTED', 'restricted set', 'clear: it signs anything')
}

function signingScheme({ scheme, type }: PublicArea): Finding {
  const kinds = type === 'ecc' ? ['ecdsa'] : ['rsassa', 'rsapss']
  const expected = `${kinds.join(' or ')} with SHA-256 or stronger`
  if (scheme.kind === 'null') return failed('ak.scheme', 'AK_SCHEME', expected, 'no scheme')
  const found = `${scheme.kind} with ${scheme.hash}`
  return kinds.includes(scheme.kind) && scheme.hash !== 'sha1'
    ? passed('ak.scheme', found)
    : failed('ak.scheme', 'AK_SCHEME', expected, found)
}

/**
 * Checks that a key is a standard endorsement key: the same as one of the templates in all but its unique part.
 *
 * @see TCG EK Credential Profile 2.x, annexes B.3 and B.4
 */
export function verifyEndorsementKey(area: PublicArea): readonly Finding[] {
  const match = Object.entries(EK_TEMPLATES).find(([, { area: template }]) =>
    sameTemplate(template, area),
  )
  const template = match
    ? passed('ek.template', match[0])
    : failed(
        'ek.template',
        'EK_TEMPLATE',
        `one of ${Object.keys(EK_TEMPLATES).join(', ')}`,
        `a ${area.type} key with other attributes, policy or parameters`,
      )
  return [template, strength('ek', area)]
}

function sameTemplate(template: PublicArea, area: PublicArea): boolean {
  const parameters =
    template.type === 'rsa'
      ? area.type === 'rsa' && area.keyBits === template.keyBits
      : area.type === 'ecc' && area.curve === template.curve
  return (
    parameters &&
    area.nameAlg === template.nameAlg &&
    area.scheme.kind === 'null' &&
    area.symmetric?.keyBits === template.symmetric?.keyBits &&
    equalBytes(area.authPolicy, template.authPolicy) &&
    Object.entries(template.attributes).every(
      ([name, value]) => area.attributes[name as ObjectAttribute] === value,
    )
  )
}

/**
 * Checks that a key, if it is in the TPM, decrypts only while this policy holds.
 *
 * @param input.expectedAuthPolicy PolicyPCR over the values that were quoted, computed by the caller
 */
export function verifyBindingKey(input: {
  readonly publicArea: PublicArea
  readonly expectedAuthPolicy: Uint8Array
}): readonly Finding[] {
  const { publicArea, expectedAuthPolicy } = input
  const { scheme } = publicArea
  const isOaep = publicArea.type === 'rsa' && scheme.kind === 'oaep' && scheme.hash === 'sha256'
  return [
    ...attributeFindings(
      'binding-key.attributes',
      'BINDING_KEY_ATTRIBUTES',
      publicArea,
      ['decrypt', 'fixedTPM', 'fixedParent', 'sensitiveDataOrigin'],
      ['userWithAuth', 'sign', 'restricted', 'encryptedDuplication'],
    ),
    isOaep
      ? passed('binding-key.scheme')
      : failed(
          'binding-key.scheme',
          'BINDING_KEY_SCHEME',
          'RSA with OAEP and SHA-256',
          `${publicArea.type} with ${scheme.kind}`,
        ),
    equalBytes(publicArea.authPolicy, expectedAuthPolicy)
      ? passed('binding-key.policy')
      : failed(
          'binding-key.policy',
          'BINDING_KEY_POLICY',
          'PolicyPCR over the quoted values',
          'another policy',
        ),
    strongNameAlg('binding-key.name-alg', publicArea),
    strength('binding-key', publicArea),
  ]
}

function attributeFindings(
  check: string,
  code: 'AK_ATTRIBUTES' | 'BINDING_KEY_ATTRIBUTES',
  { attributes }: PublicArea,
  set: readonly ObjectAttribute[],
  clear: readonly ObjectAttribute[],
): readonly Finding[] {
  const wrong = [
    ...set
      .filter((name) => !attributes[name])
      .map((name) => failed(check, code, `${name} set`, 'clear')),
    ...clear
      .filter((name) => attributes[name])
      .map((name) => failed(check, code, `${name} clear`, 'set')),
  ]
  return wrong.length > 0 ? wrong : [passed(check)]
}

function strongNameAlg(check: string, { nameAlg }: PublicArea): Finding {
  return nameAlg === 'sha1'
    ? failed(check, 'TPM_KEY_WEAK', 'SHA-256 or stronger', nameAlg)
    : passed(check, nameAlg)
}

/** Size, exponent and, for ECC, the point; the fingerprint of CVE-2017-15361 in an RSA modulus. */
function strength(key: string, area: PublicArea): Finding {
  const check = `${key}.strength`
  try {
    requirePublicKey(area)
  } catch (error) {
    if (!isPlatformError(error)) throw error
    return failed(check, error.code, 'a sound public key', error.message)
  }
  if (area.type === 'ecc') return passed(check, area.curve)
  return hasRocaFingerprint(area.modulus)
    ? failed(check, 'TPM_KEY_ROCA', 'a sound modulus', 'one of CVE-2017-15361')
    : passed(check, `RSA-${area.keyBits}`)
}
