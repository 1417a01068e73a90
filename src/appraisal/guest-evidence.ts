import { guestEvidenceDigest } from '../api/guest-binding.js'
import type { GuestEvidence, GuestPolicy } from '../api/guests.js'
import { fromBase64url, fromHex } from '../core/bytes.js'
import { type Finding, failed, passed } from '../core/finding.js'
import {
  type Certificate,
  spkiOf,
  type Trust,
  type VtpmNames,
  verifyVtpmCertificate,
} from '../pki/index.js'
import { jwkThumbprint } from '../tokens/index.js'
import {
  nameOf,
  type PublicArea,
  parsePublicArea,
  publicKeyOf,
  verifyAttestationKey,
  verifyEndorsementKey,
  verifyQuote,
} from '../tpm/index.js'

/** The keys of a guest in the virtual TPM of its VM, as octets. */
export interface GuestKeys {
  readonly vmId: string
  /** TPMT_PUBLIC */
  readonly ekPublic: Uint8Array
  /** DER */
  readonly ekCertificate: Uint8Array
  /** TPMT_PUBLIC */
  readonly akPublic: Uint8Array
}

/** Evidence of a guest with its octets decoded: sizes are checked by the schema, meaning is not yet. */
export interface DecodedGuestEvidence extends GuestKeys {
  readonly nonce: Uint8Array
  readonly secret: Uint8Array
  readonly attest: Uint8Array
  readonly signature: Uint8Array
  readonly pcrValues: ReadonlyMap<number, Uint8Array>
  readonly eventLog?: Uint8Array
  readonly proofKeyThumbprint?: string
  readonly host?: { readonly token: string; readonly placement: string }
}

/** Decodes the text members of keys; throws `DecodeError` on text that is not canonical. */
export function decodeGuestKeys(
  keys: Pick<GuestEvidence, 'vmId' | 'ekPublic' | 'ekCertificate' | 'akPublic'>,
): GuestKeys {
  return {
    vmId: keys.vmId,
    ekPublic: fromBase64url(keys.ekPublic),
    ekCertificate: fromBase64url(keys.ekCertificate),
    akPublic: fromBase64url(keys.akPublic),
  }
}

/** Decodes the text members of evidence; throws `DecodeError` on text that is not canonical. */
export function decodeGuestEvidence(evidence: GuestEvidence): DecodedGuestEvidence {
  const { eventLog, proofKey, host } = evidence
  return {
    ...decodeGuestKeys(evidence),
    nonce: fromBase64url(evidence.nonce),
    secret: fromBase64url(evidence.secret),
    attest: fromBase64url(evidence.attest),
    signature: fromBase64url(evidence.signature),
    pcrValues: new Map(evidence.pcrs.map(({ pcr, digest }) => [pcr, fromHex(digest)])),
    ...(eventLog === undefined ? {} : { eventLog: fromBase64url(eventLog) }),
    ...(proofKey === undefined ? {} : { proofKeyThumbprint: jwkThumbprint(proofKey) }),
    ...(host === undefined ? {} : { host }),
  }
}

export interface GuestKeysVerdict {
  readonly findings: readonly Finding[]
  readonly ek: PublicArea
  readonly ak: PublicArea
  /** Computed here from the public area, never taken from the guest. */
  readonly akName: Uint8Array
  readonly certificate: Certificate
  /** From the certificate to its anchor; empty where there is no path. */
  readonly chain: readonly Certificate[]
  /** The VM and the host that the certificate names. */
  readonly names?: VtpmNames
}

/**
 * Judges the keys of a guest: an authority of virtual TPMs certified the endorsement key for this VM, and the attestation
 * key signs what its TPM made and nothing else.
 *
 * **Does not check** that both are in one TPM: the credential does.
 *
 * @throws DecodeError where a public area or the certificate cannot be read
 */
export function verifyGuestKeys(
  keys: GuestKeys,
  input: {
    /** Anchors: the authorities of virtual TPMs, and no others. */
    readonly trust: Trust
    readonly nowMs: number
  },
): GuestKeysVerdict {
  const ek = parsePublicArea(keys.ekPublic)
  const ak = parsePublicArea(keys.akPublic)
  const { findings, certificate, chain, names } = verifyVtpmCertificate({
    certificate: keys.ekCertificate,
    ekPublicKeySpki: spkiOf(publicKeyOf(ek)),
    trust: input.trust,
    now: input.nowMs,
  })
  return {
    findings: [
      ...verifyEndorsementKey(ek),
      ...findings,
      names?.vmId === keys.vmId
        ? passed('vtpm.vm', keys.vmId)
        : failed(
            'vtpm.vm',
            'GUEST_VM',
            `a virtual TPM of VM ${keys.vmId}`,
            names ? `one of VM ${names.vmId}` : 'one of no VM',
          ),
      ...verifyAttestationKey(ak),
    ],
    ...{ ek, ak, akName: nameOf(ak), certificate, chain },
    ...(names ? { names } : {}),
  }
}

/**
 * Checks signature, freshness, binding and selection of the quote of a guest.
 *
 * @throws DecodeError where attest or signature cannot be read
 */
export function verifyGuestQuote(
  evidence: DecodedGuestEvidence,
  input: { readonly ak: PublicArea; readonly verifier: string; readonly policy: GuestPolicy },
): readonly Finding[] {
  const { bank, pcrs } = input.policy
  const { findings } = verifyQuote({
    attest: evidence.attest,
    signature: evidence.signature,
    ak: input.ak,
    expectedExtraData: guestEvidenceDigest({
      nonce: evidence.nonce,
      vmId: evidence.vmId,
      verifier: input.verifier,
      secret: evidence.secret,
      proofKeyThumbprint: evidence.proofKeyThumbprint,
      eventLog: evidence.eventLog,
    }),
    selection: { bank, pcrs },
    pcrValues: evidence.pcrValues,
  })
  return findings
}
