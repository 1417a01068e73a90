import { equalBytes } from '../core/bytes.js'
import { type Finding, failed, passed } from '../core/finding.js'
import { type Certificate, parseCertificate } from './certificate.js'
import { hasUsage, policiesOf } from './extensions.js'
import { type PathNames, type Trust, verifyPath } from './path.js'
import { hardwareSerial, isNamed } from './subject-alternative-name.js'
import { spkiOf } from './subject-key.js'

export interface IakCertificateVerdict {
  readonly findings: readonly Finding[]
  /** From the certificate to its anchor; empty where there is no path. */
  readonly chain: readonly Certificate[]
  /** Serial number of the TPM as its certificate has it. */
  readonly serial?: string
}

/** tcg-cap-verifiedTPMResidency and tcg-cap-verifiedTPMRestricted: the issuer saw that a TPM holds the key, for quotes only. */
const POLICIES = ['2.23.133.11.1.1', '2.23.133.11.1.3'] as const
const CURVES: ReadonlySet<string> = new Set(['prime256v1', 'secp384r1', 'secp521r1'])
const MIN_RSA_BITS = 2048

const NAMES: PathNames = {
  prefix: 'iak',
  unknownCa: 'IAK_CERT_UNKNOWN_CA',
  expired: 'IAK_CERT_EXPIRED',
  notYetValid: 'IAK_CERT_NOT_YET_VALID',
  criticalExtension: 'IAK_CERT_CRITICAL_EXTENSION',
}

/**
 * Verifies the certificate of an initial attestation key (IAK), as makers of machines issue them: its path to a trust
 * anchor (see `verifyPath`), its profile, and that it is for this key.
 *
 * The issuer's word, by its policies, is all that says that a TPM holds the key. **Does not check** that the key certified
 * anything.
 *
 * @param input.certificate as the TPM holds it
 * @param input.iakPublicKeySpki SubjectPublicKeyInfo of the key, DER
 * @throws DecodeError of `parseCertificate`
 * @see TCG TPM 2.0 Keys for Device Identity and Attestation 1.0, clause 8
 */
export function verifyIakCertificate(input: {
  readonly certificate: Uint8Array
  readonly iakPublicKeySpki: Uint8Array
  readonly trust: Trust
  readonly now: number
}): IakCertificateVerdict {
  const certificate = parseCertificate(input.certificate)
  const path = verifyPath(certificate, input.trust, NAMES, input.now)
  const serial = hardwareSerial(certificate)
  return {
    findings: [
      ...path.findings,
      equalBytes(spkiOf(certificate.publicKey), input.iakPublicKeySpki)
        ? passed('iak.key')
        : failed('iak.key', 'IAK_CERT_KEY_MISMATCH', 'the initial attestation key', 'another key'),
      verifyKeyType(certificate),
      hasUsage(certificate.extensions, 'digitalSignature')
        ? passed('iak.key-usage')
        : failed('iak.key-usage', 'IAK_CERT_KEY_USAGE', 'digitalSignature', 'another key usage'),
      certificate.isCa
        ? failed('iak.basic-constraints', 'IAK_CERT_CA', 'no authority', 'an authority')
        : passed('iak.basic-constraints'),
      verifyPolicies(certificate),
      verifyName(certificate, serial),
    ],
    chain: path.chain,
    ...(serial === undefined ? {} : { serial }),
  }
}

function verifyKeyType({ publicKey }: Certificate): Finding {
  const { modulusLength = 0, namedCurve = '' } = publicKey.asymmetricKeyDetails ?? {}
  const isRsa = publicKey.asymmetricKeyType === 'rsa'
  const accepted = isRsa ? modulusLength >= MIN_RSA_BITS : CURVES.has(namedCurve)
  const expected = `RSA of at least ${MIN_RSA_BITS} bits, or P-256, P-384 or P-521`
  const found = `${publicKey.asymmetricKeyType} ${namedCurve || modulusLength}`
  return accepted
    ? passed('iak.key-type')
    : failed('iak.key-type', 'IAK_CERT_KEY_TYPE', expected, found)
}

function verifyPolicies({ extensions }: Certificate): Finding {
  const policies = policiesOf(extensions)
  const found = policies.join(', ') || 'none'
  return POLICIES.every((policy) => policies.includes(policy))
    ? passed('iak.policy')
    : failed('iak.policy', 'IAK_CERT_POLICY', `policies ${POLICIES.join(' and ')}`, found)
}

function verifyName(certificate: Certificate, serial: string | undefined): Finding {
  if (serial === undefined) {
    const expected = 'a hardware module name of a TPM 2.0'
    return failed('iak.name', 'IAK_CERT_SAN', expected, 'a certificate without it')
  }
  if (isNamed(certificate)) return passed('iak.name', serial)
  return failed('iak.name', 'IAK_CERT_SAN_CRITICAL', 'a subject, or a critical name', 'neither')
}
