import type { Client } from '../../api/client.js'
import type { GuestAnswer, GuestRequest } from '../../api/guest-channel.js'
import { createGuestAttestation, createGuestChallenge } from '../../api/guests.js'
import { equalBytes, fromBase64url, toBase64url } from '../../core/bytes.js'
import { type Clock, secondsOf } from '../../core/clock.js'
import { isPlatformError, PlatformError } from '../../core/errors.js'
import {
  type Certificate,
  describeTpm,
  parseCertificate,
  parseCertificates,
  readTpmSpecification,
  readVtpmNames,
  spkiOf,
} from '../../pki/index.js'
import { createPlacement } from '../../tokens/index.js'
import { parsePublicArea, publicKeyOf } from '../../tpm/index.js'
import type { Authority } from '../adapters/authority.js'
import type { VtpmCertifier } from '../vm/index.js'

/** How often at most a key is certified anew while its evidence is refused. */
const RENEWAL_MS = 10 * 60 * 1000

/** A VM of this host that runs. */
export interface GuestVm {
  readonly vmId: string
  /** Certificates of its virtual TPM as they are on the host, PEM. */
  certificates(): Promise<readonly string[]>
}

/**
 * Speaks for the guests of this host at the attestation service.
 *
 * It states of a VM only what it knows by itself: that the request came from the port of this VM, and that the endorsement
 * key is one of the virtual TPM that was made for it.
 */
export function createGuestAnswers(deps: {
  readonly hostId: string
  /** Identifier of the attestation service. */
  readonly verifier: string
  readonly authority: Authority
  readonly client: Client
  readonly certifier: VtpmCertifier
  readonly clock: Clock
}) {
  const { client, authority } = deps
  /** Certificates that name this host, of virtual TPMs that came from another, by VM and key. */
  const renewed = new Map<string, { readonly certificate: Uint8Array; readonly atMs: number }>()
  /**
   * Keys whose last challenge or evidence was refused: their certificate may have been taken back, or the VM was elsewhere and a
   * later certificate names that host.
   */
  const doubted = new Set<string>()

  /** @throws PlatformError `GUEST_UNKNOWN_KEY`, `GUEST_VM`, or of the control plane */
  const certificateFor = async (vm: GuestVm, ekPublic: Uint8Array): Promise<Uint8Array> => {
    const spki = spkiOf(publicKeyOf(parsePublicArea(ekPublic)))
    const certificate = (await vm.certificates())
      .flatMap((pem) => parseCertificates(pem))
      .find(({ publicKey }) => equalBytes(spkiOf(publicKey), spki))
    if (!certificate) {
      const message = 'expected an endorsement key of the virtual TPM of this VM, found another'
      throw new PlatformError('GUEST_UNKNOWN_KEY', message)
    }
    const names = readVtpmNames(certificate)
    if (names?.vmId !== vm.vmId) {
      const found = names?.vmId ?? 'none'
      throw new PlatformError('GUEST_VM', `expected a certificate for ${vm.vmId}, found ${found}`)
    }
    const nowMs = deps.clock.nowMs()
    const key = keyOf(vm.vmId, spki)
    const isDoubted = doubted.has(key)
    // one that is older than what is in the virtual TPM now was taken back
    const before = renewed.get(key)
    const kept = before && isNewer(before, certificate) ? before : undefined
    if (kept && (isDoubted ? nowMs < kept.atMs + RENEWAL_MS : isCurrent(kept, nowMs))) {
      return kept.certificate
    }
    if (!kept && names.hostId === deps.hostId && !isDoubted) return certificate.der
    const fresh = await certifyAnew(vm.vmId, spki, certificate)
    renewed.set(key, { certificate: fresh, atMs: nowMs })
    return fresh
  }

  /** The VM came from another host: the control plane certifies the same key for this one, if it has the VM here. */
  const certifyAnew = (vmId: string, publicKeySpki: Uint8Array, before: Certificate) => {
    const tpm = describeTpm(before)
    if (!tpm) throw new PlatformError('VTPM_CERTIFICATE', 'the certificate does not describe a TPM')
    const specification = readTpmSpecification(before)
    const described = { ...tpm, ...(specification ? { specification } : {}) }
    return deps.certifier.certify({ vmId, kind: 'ek', publicKeySpki, tpm: described })
  }

  return {
    /** @throws PlatformError of this host or of the attestation service: `ATTESTATION_REFUSED`, `HOST_STATUS`, … */
    async answer(vm: GuestVm, request: GuestRequest): Promise<GuestAnswer> {
      const { vmId } = vm
      const ekPublic = fromBase64url(request.ekPublic)
      const keys = {
        vmId,
        ekPublic: request.ekPublic,
        ekCertificate: toBase64url(await certificateFor(vm, ekPublic)),
        akPublic: request.akPublic,
      }
      const key = keyOf(vmId, spkiOf(publicKeyOf(parsePublicArea(ekPublic))))
      try {
        if (request.ask === 'challenge') {
          const { expiresAt: _, ...challenge } = await client.call(createGuestChallenge, {
            body: keys,
          })
          return { vmId, ...challenge }
        }
        const { id: _id, ask: _ask, ...evidence } = request
        const session = await authority.session()
        const placement = await createPlacement(
          {
            verifier: deps.verifier,
            vmId,
            nonce: fromBase64url(request.nonce),
            ekPublic,
            akPublic: fromBase64url(request.akPublic),
            hostToken: session.token,
          },
          session.keys.dpop,
          secondsOf(deps.clock.nowMs()),
        )
        const host = { token: session.token, placement }
        const body = { ...evidence, ...keys, host }
        const answer = await client.call(createGuestAttestation, { body })
        doubted.delete(key)
        return answer
      } catch (error) {
        if (isPlatformError(error, 'ATTESTATION_REFUSED')) doubted.add(key)
        throw error
      }
    },
  }
}

export type GuestAnswers = ReturnType<typeof createGuestAnswers>

function keyOf(vmId: string, spki: Uint8Array): string {
  return `${vmId} ${toBase64url(spki)}`
}

function isNewer(
  kept: { readonly certificate: Uint8Array },
  { notBeforeMs }: Certificate,
): boolean {
  return parseCertificate(kept.certificate).notBeforeMs >= notBeforeMs
}

function isCurrent({ certificate }: { readonly certificate: Uint8Array }, nowMs: number): boolean {
  return parseCertificate(certificate).notAfterMs > nowMs
}
