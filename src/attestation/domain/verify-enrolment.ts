import { createHash } from 'node:crypto'
import { concat, toHex } from '../../core/bytes.js'
import { type Finding, failed, failures, passed } from '../../core/finding.js'
import { type Certificate, verifyEkCertificate } from '../../pki/index.js'
import {
  nameOf,
  type PublicArea,
  parsePublicArea,
  publicKeyOf,
  verifyAttestationKey,
  verifyEndorsementKey,
} from '../../tpm/index.js'

/** A trust anchor as the store keeps it. */
export interface Anchor {
  readonly certificate: Certificate
  readonly insecureTest: boolean
}

export interface EnrolmentClaims {
  /** TPMT_PUBLIC of the endorsement key. */
  readonly ekPublic: Uint8Array
  /** DER, as the TPM holds it; absent where the TPM has none. */
  readonly ekCertificate?: Uint8Array | undefined
  /** TPMT_PUBLIC of the attestation key. */
  readonly akPublic: Uint8Array
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
  /** `ca`: a trusted authority certified the endorsement key. `approved`: an administrator has to. */
  readonly endorsement: 'ca' | 'approved'
  readonly insecureTest: boolean
  /** Manufacturer, model and version as the certificate names them. */
  readonly tpm?: string
}

/**
 * Judges the keys and the certificate that a host enrols with.
 *
 * Does not prove that the keys are in a TPM: credential activation does, with the name computed here.
 *
 * @throws DecodeError where a public area or the certificate cannot be read
 */
export function verifyEnrolment(
  claims: EnrolmentClaims,
  input: {
    readonly anchors: readonly Anchor[]
    readonly mode: 'production' | 'lab'
    readonly nowMs: number
  },
): EnrolmentVerdict {
  const ek = parsePublicArea(claims.ekPublic)
  const ak = parsePublicArea(claims.akPublic)
  const keys = [...verifyEndorsementKey(ek), ...verifyAttestationKey(ak)]
  const endorsement = claims.ekCertificate
    ? verifyEndorsement(ek, claims.ekCertificate, input)
    : ({ findings: [passed('ek.certificate', 'none: needs approval')], kind: 'approved' } as const)
  const findings = [...keys, ...endorsement.findings]
  if (failures(findings).length > 0) return { findings }
  return {
    findings,
    identity: {
      ek,
      ekFingerprint: createHash('sha256').update(claims.ekPublic).digest('hex'),
      akName: nameOf(ak),
      endorsement: endorsement.kind,
      insecureTest: endorsement.insecureTest ?? false,
      ...(endorsement.tpm === undefined ? {} : { tpm: endorsement.tpm }),
    },
  }
}

interface Endorsement {
  readonly findings: readonly Finding[]
  readonly kind: 'ca' | 'approved'
  readonly insecureTest?: boolean
  readonly tpm?: string
}

function verifyEndorsement(
  ek: PublicArea,
  certificate: Uint8Array,
  input: { readonly anchors: readonly Anchor[]; readonly mode: string; readonly nowMs: number },
): Endorsement {
  const verdict = verifyEkCertificate({
    certificate,
    intermediates: [],
    anchors: input.anchors.map((anchor) => anchor.certificate),
    ekPublicKeySpki: new Uint8Array(publicKeyOf(ek).export({ type: 'spki', format: 'der' })),
    now: input.nowMs,
  })
  const fingerprints = new Set(verdict.chain.map((link) => link.fingerprint))
  const insecureTest = input.anchors.some(
    (anchor) => anchor.insecureTest && fingerprints.has(anchor.certificate.fingerprint),
  )
  const findings = [...verdict.findings]
  if (insecureTest && input.mode === 'production') {
    findings.push(
      failed('ek.anchor', 'ANCHOR_INSECURE', 'an anchor for production', 'an insecure test anchor'),
    )
  }
  const { tpm } = verdict
  return {
    findings,
    kind: 'ca',
    insecureTest,
    ...(tpm ? { tpm: `${tpm.manufacturer} ${tpm.model} ${tpm.version}` } : {}),
  }
}

/** What the service keeps of the secret in a credential: enough to compare, not to open. */
export function secretHash(secret: Uint8Array): string {
  return toHex(new Uint8Array(createHash('sha256').update(concat(secret)).digest()))
}
