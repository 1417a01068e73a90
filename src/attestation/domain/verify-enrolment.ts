import { createHash } from 'node:crypto'
import { concat, toHex } from '../../core/bytes.js'
import type { ErrorCode } from '../../core/error-codes.js'
import { type Finding, failed, failures, passed } from '../../core/finding.js'
import {
  isVtpmCertificate,
  spkiOf,
  verifyEkCertificate,
  verifyIakCertificate,
} from '../../pki/index.js'
import {
  nameOf,
  type PublicArea,
  parsePublicArea,
  publicKeyOf,
  verifyAttestationKey,
  verifyCertify,
  verifyEndorsementKey,
} from '../../tpm/index.js'
import type { Endorsement } from '../ports.js'
import { type EndorsementRules, judgeMarks, type SiteTrust } from './trust.js'

export interface EnrolmentClaims {
  /** TPMT_PUBLIC of the endorsement key. */
  readonly ekPublic: Uint8Array
  /** As the TPM holds it; absent where the TPM has none. */
  readonly ekCertificate?: Uint8Array | undefined
  /** TPMT_PUBLIC of the attestation key. */
  readonly akPublic: Uint8Array
  /** The word of the key that the machine was delivered with. */
  readonly device?: DeviceClaims | undefined
}

/** An initial attestation key (IAK) with its certificate, and what it certified. */
export interface DeviceClaims {
  /** As the TPM holds it. */
  readonly certificate: Uint8Array
  /** TPMT_PUBLIC */
  readonly iakPublic: Uint8Array
  /** TPMS_ATTEST of TPM2_Certify over the attestation key, qualified by `qualification`. */
  readonly attest: Uint8Array
  /** TPMT_SIGNATURE */
  readonly signature: Uint8Array
  /** What the host has to have given to TPM2_Certify: `deviceQualification`. */
  readonly qualification: Uint8Array
}

export interface EnrolmentVerdict {
  readonly findings: readonly Finding[]
  /** Absent when a check failed. */
  readonly identity?: HostIdentity
}

/** Who a TPM is, as far as enrolment can tell before the credential was opened. */
export interface HostIdentity {
  readonly ek: PublicArea
  /** SHA-256 of the endorsement key's TPMT_PUBLIC, hexadecimal. */
  readonly ekFingerprint: string
  /** Computed here from the public area, never taken from the host. */
  readonly akName: Uint8Array
  readonly endorsement: Endorsement
  readonly insecureTest: boolean
  /** Manufacturer, model and version as the certificate names them, or the serial number of the TPM. */
  readonly tpm?: string
}

/**
 * Judges the keys and the certificates that a host enrols with.
 *
 * The endorsement is the first of these that the site accepts: the endorsement key is on its list (`pinned`); an initial
 * attestation key that a trusted authority certified vouches for the attestation key (`device`); a trusted authority
 * certified the endorsement key (`ca`); an administrator has to approve (`approved`), for TPMs without a certificate.
 * A certificate that a host shows is judged, and the host is refused where a check fails: approval does not mend it.
 *
 * Does not prove that the keys are in one TPM: credential activation does, with the name computed here.
 *
 * @param pinned whether the endorsement key is on the site's list, by `endorsementKeyFingerprint`
 * @throws DecodeError where a public area, a certificate or an attestation cannot be read
 */
export function verifyEnrolment(
  claims: EnrolmentClaims,
  input: {
    readonly trust: SiteTrust
    readonly pinned: boolean
    readonly rules: EndorsementRules
    readonly nowMs: number
  },
): EnrolmentVerdict {
  const ek = parsePublicArea(claims.ekPublic)
  const ak = parsePublicArea(claims.akPublic)
  const endorsement = judgeEndorsement(claims, { ek, ak }, input)
  const findings = [
    ...verifyEndorsementKey(ek),
    ...verifyAttestationKey(ak),
    ...endorsement.findings,
  ]
  if (failures(findings).length > 0) return { findings }
  return {
    findings,
    identity: {
      ek,
      ekFingerprint: createHash('sha256').update(claims.ekPublic).digest('hex'),
      akName: nameOf(ak),
      endorsement: endorsement.kind,
      insecureTest: endorsement.insecureTest,
      ...(endorsement.tpm === undefined ? {} : { tpm: endorsement.tpm }),
    },
  }
}

/** SHA-256 of the key's SubjectPublicKeyInfo, hexadecimal: the same for its certificate and for its public area. */
export function endorsementKeyFingerprint(ekPublic: Uint8Array): string {
  return createHash('sha256')
    .update(spkiOf(publicKeyOf(parsePublicArea(ekPublic))))
    .digest('hex')
}

/** What no list mends: that the authority revoked the certificate, and that it is of a virtual TPM. */
const STRONGER_THAN_PIN: readonly ErrorCode[] = ['CERT_REVOKED', 'EK_CERT_VTPM']

interface EndorsementVerdict {
  readonly findings: readonly Finding[]
  readonly kind: Endorsement
  readonly insecureTest: boolean
  readonly tpm?: string
}

interface Keys {
  readonly ek: PublicArea
  readonly ak: PublicArea
}

type Input = Parameters<typeof verifyEnrolment>[1]

function judgeEndorsement(claims: EnrolmentClaims, keys: Keys, input: Input): EndorsementVerdict {
  const accepts = (kind: Endorsement) => input.rules.endorsement.includes(kind)
  const { ekCertificate, device } = claims
  if (input.pinned && accepts('pinned')) return judgePinned(keys.ek, ekCertificate, input)
  if (device && accepts('device')) return judgeDevice(device, keys.ak, input)
  if (ekCertificate && accepts('ca')) return judgeCertificate(keys.ek, ekCertificate, input)
  if (accepts('approved') && !ekCertificate) {
    const findings = [passed('ek.certificate', 'none: needs approval')]
    return { findings, kind: 'approved', insecureTest: false }
  }
  const expected = `an endorsement of kind ${input.rules.endorsement.join(' or ')}`
  const finding = accepts('ca')
    ? failed('ek.certificate', 'EK_CERT_MISSING', expected, 'no certificate')
    : failed('ek.pin', 'EK_PIN_UNKNOWN', expected, 'a key that is not listed')
  return { findings: [finding], kind: 'approved', insecureTest: false }
}

/** The list is the administrator's word for the key; only what is said in `STRONGER_THAN_PIN` is stronger. */
function judgePinned(
  ek: PublicArea,
  certificate: Uint8Array | undefined,
  input: Input,
): EndorsementVerdict {
  const listed = passed('ek.pin', 'on the list of endorsement keys')
  if (!certificate) return { findings: [listed], kind: 'pinned', insecureTest: false }
  const { findings, tpm } = ekVerdict(ek, certificate, input)
  const revoked = findings.filter(
    (finding) => !finding.ok && STRONGER_THAN_PIN.includes(finding.code),
  )
  return {
    findings: [listed, ...revoked],
    kind: 'pinned',
    insecureTest: false,
    ...(tpm ? { tpm: `${tpm.manufacturer} ${tpm.model} ${tpm.version}` } : {}),
  }
}

function judgeCertificate(
  ek: PublicArea,
  certificate: Uint8Array,
  input: Input,
): EndorsementVerdict {
  const { findings, chain, tpm } = ekVerdict(ek, certificate, input)
  const marks = judgeMarks(chain, input.trust, input.rules.mode)
  return {
    findings: [...findings, ...marks.findings],
    kind: 'ca',
    insecureTest: marks.insecureTest,
    ...(tpm ? { tpm: `${tpm.manufacturer} ${tpm.model} ${tpm.version}` } : {}),
  }
}

function judgeDevice(device: DeviceClaims, ak: PublicArea, input: Input): EndorsementVerdict {
  const iak = parsePublicArea(device.iakPublic)
  const verdict = verifyIakCertificate({
    certificate: device.certificate,
    iakPublicKeySpki: spkiOf(publicKeyOf(iak)),
    trust: input.trust,
    now: input.nowMs,
  })
  const certified = verifyCertify({
    attest: device.attest,
    signature: device.signature,
    ak: iak,
    expectedExtraData: device.qualification,
    certified: ak,
  })
  const marks = judgeMarks(verdict.chain, input.trust, input.rules.mode)
  return {
    findings: [
      ...verdict.findings,
      ...verifyAttestationKey(iak).map((finding) => ({
        ...finding,
        check: finding.check.replace(/^ak\./, 'iak.'),
      })),
      ...certified.findings,
      ...marks.findings,
    ],
    kind: 'device',
    insecureTest: marks.insecureTest,
    ...(verdict.serial === undefined ? {} : { tpm: `TPM 2.0 ${verdict.serial}` }),
  }
}

/** A virtual TPM is never a host's, whoever certified it: its quotes say what a VM booted. */
function ekVerdict(ek: PublicArea, certificate: Uint8Array, input: Input) {
  const verdict = verifyEkCertificate({
    certificate,
    ekPublicKeySpki: spkiOf(publicKeyOf(ek)),
    trust: input.trust,
    now: input.nowMs,
  })
  if (!isVtpmCertificate(verdict.certificate)) return verdict
  const expected = 'the certificate of a TPM of a host'
  const found = 'that of a virtual TPM of a VM'
  const finding = failed('ek.host', 'EK_CERT_VTPM', expected, found)
  return { ...verdict, findings: [...verdict.findings, finding] }
}

/** What the service keeps of the secret in a credential: enough to compare, not to open. */
export function secretHash(secret: Uint8Array): string {
  return toHex(new Uint8Array(createHash('sha256').update(concat(secret)).digest()))
}
