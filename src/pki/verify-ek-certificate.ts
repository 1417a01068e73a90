import { equalBytes } from '../core/bytes.js'
import { type Finding, failed, passed } from '../core/finding.js'
import { type Certificate, parseCertificate } from './certificate.js'
import { hasUsage, purposesOf } from './extensions.js'
import { type PathNames, type Trust, verifyPath } from './path.js'
import { describeTpm, isNamed, type TpmDescription } from './subject-alternative-name.js'
import { spkiOf } from './subject-key.js'
import { vendorName } from './tpm-vendors.js'

export interface EkCertificateVerdict {
  readonly findings: readonly Finding[]
  readonly certificate: Certificate
  /** From the certificate to its anchor; empty where there is no path. */
  readonly chain: readonly Certificate[]
  readonly tpm?: TpmDescription
}

/** tcg-kp-EKCertificate */
const EK_PURPOSE = '2.23.133.8.1'
const CURVES: ReadonlySet<string> = new Set(['prime256v1', 'secp384r1', 'secp521r1'])
const MIN_RSA_BITS = 2048
const MAX_RSA_BITS = 4096

const NAMES: PathNames = {
  prefix: 'ek',
  unknownCa: 'EK_CERT_UNKNOWN_CA',
  expired: 'EK_CERT_EXPIRED',
  notYetValid: 'EK_CERT_NOT_YET_VALID',
  criticalExtension: 'EK_CERT_CRITICAL_EXTENSION',
}

/**
 * Verifies the certificate of an endorsement key: its path to a trust anchor (see `verifyPath`), its profile, and that it
 * is for this key.
 *
 * @param input.certificate as the TPM holds it
 * @param input.ekPublicKeySpki SubjectPublicKeyInfo of the endorsement key, DER
 * @throws DecodeError of `parseCertificate`
 * @see TCG EK Credential Profile 2.x, clause 3
 */
export function verifyEkCertificate(input: {
  readonly certificate: Uint8Array
  readonly ekPublicKeySpki: Uint8Array
  readonly trust: Trust
  readonly now: number
}): EkCertificateVerdict {
  const certificate = parseCertificate(input.certificate)
  const path = verifyPath(certificate, input.trust, NAMES, input.now)
  const tpm = describeTpm(certificate)
  return {
    findings: [
      ...path.findings,
      verifyKey(certificate, input.ekPublicKeySpki),
      verifyKeyType(certificate),
      verifyPurpose(certificate),
      verifyKeyUsage(certificate),
      certificate.isCa
        ? failed('ek.basic-constraints', 'EK_CERT_CA', 'no authority', 'an authority')
        : passed('ek.basic-constraints'),
      ...verifyTpm(certificate, tpm),
    ],
    certificate,
    chain: path.chain,
    ...(tpm ? { tpm } : {}),
  }
}

function verifyKey(certificate: Certificate, ekSpki: Uint8Array): Finding {
  return equalBytes(spkiOf(certificate.publicKey), ekSpki)
    ? passed('ek.key')
    : failed('ek.key', 'EK_CERT_KEY_MISMATCH', 'the endorsement key of this TPM', 'another key')
}

function verifyKeyType({ publicKey }: Certificate): Finding {
  const { modulusLength = 0, namedCurve = '' } = publicKey.asymmetricKeyDetails ?? {}
  const [accepted, found] =
    publicKey.asymmetricKeyType === 'ec'
      ? [CURVES.has(namedCurve), namedCurve]
      : [
          publicKey.asymmetricKeyType === 'rsa' &&
            modulusLength >= MIN_RSA_BITS &&
            modulusLength <= MAX_RSA_BITS,
          `${publicKey.asymmetricKeyType} of ${modulusLength} bits`,
        ]
  const expected = `RSA of ${MIN_RSA_BITS} to ${MAX_RSA_BITS} bits, or P-256, P-384 or P-521`
  return accepted
    ? passed('ek.key-type', found)
    : failed('ek.key-type', 'EK_CERT_KEY_TYPE', expected, found)
}

function verifyPurpose({ extensions }: Certificate): Finding {
  const purposes = purposesOf(extensions)
  const found = purposes.join(', ') || 'none'
  return purposes.includes(EK_PURPOSE)
    ? passed('ek.purpose')
    : failed('ek.purpose', 'EK_CERT_EKU', `extended key usage ${EK_PURPOSE}`, found)
}

function verifyKeyUsage({ publicKey, extensions }: Certificate): Finding {
  const expected = publicKey.asymmetricKeyType === 'rsa' ? 'keyEncipherment' : 'keyAgreement'
  return hasUsage(extensions, expected)
    ? passed('ek.key-usage', expected)
    : failed('ek.key-usage', 'EK_CERT_KEY_USAGE', expected, 'another key usage')
}

function verifyTpm(certificate: Certificate, tpm: TpmDescription | undefined): readonly Finding[] {
  if (!tpm) {
    const expected = 'manufacturer, model and version of the TPM'
    return [failed('ek.tpm', 'EK_CERT_SAN', expected, 'a certificate without them')]
  }
  if (!isNamed(certificate)) {
    const expected = 'a subject, or a critical subjectAltName'
    return [failed('ek.tpm', 'EK_CERT_SAN_CRITICAL', expected, 'neither')]
  }
  const vendor = vendorName(tpm.manufacturer)
  if (vendor === undefined) {
    const expected = 'a maker of the registry of the TCG'
    return [failed('ek.tpm', 'EK_CERT_VENDOR', expected, tpm.manufacturer)]
  }
  return [passed('ek.tpm', `${tpm.manufacturer} (${vendor}) ${tpm.model} ${tpm.version}`)]
}
