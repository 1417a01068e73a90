import type { EnrolmentRequest, HostState } from '../../api/attestation.js'
import { deviceQualification } from '../../api/evidence-binding.js'
import { fromBase64url, fromHex, timingSafeEqual, toHex } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { describeFinding, failures } from '../../core/finding.js'
import { makeCredential, nameOf, parsePublicArea } from '../../tpm/index.js'
import type {
  AttestationStore,
  AttestationTransaction,
  HostKeys,
  PendingEnrolment,
  StoredTicket,
} from '../ports.js'
import { ticketHash } from './tickets.js'
import { type EndorsementRules, storedTrust } from './trust.js'
import {
  type EnrolmentClaims,
  endorsementKeyFingerprint,
  type HostIdentity,
  secretHash,
  verifyEnrolment,
} from './verify-enrolment.js'

export interface EnrolmentRules extends EndorsementRules {
  readonly enrolmentTtlSeconds: number
  readonly maxPendingEnrolments: number
}

export interface EnrolmentDeps {
  readonly store: AttestationStore
  readonly rules: EnrolmentRules
}

export interface Challenge {
  readonly enrolmentId: string
  readonly credentialBlob: Uint8Array
  readonly encryptedSecret: Uint8Array
  readonly expiresAtMs: number
}

/**
 * Begins an enrolment: checks the ticket, the keys and the certificate, and makes a credential that only the TPM with
 * both keys can open.
 *
 * @param secret 32 octets from the system's generator
 * @throws PlatformError `TICKET_INVALID`, `TPM_KEY_REVOKED`, `HOST_ID_TAKEN`, `EK_TAKEN`, `ENROLMENTS_PENDING`, or the code of the first
 *   check that failed; the audit record has all of them
 */
export async function beginEnrolment(
  deps: EnrolmentDeps,
  request: EnrolmentRequest,
  input: { readonly enrolmentId: string; readonly secret: Uint8Array; readonly nowMs: number },
): Promise<Challenge> {
  const claims = claimsOf(request)
  const { nowMs } = input
  return audited(deps.store, async (tx) => {
    const refuse = refusal(tx, request.hostId, nowMs)
    const ticket = await tx.findTicket(ticketHash(request.ticket))
    if (!ticket || !ticketFits(ticket, request.hostId, nowMs)) {
      return refuse('TICKET_INVALID', 'expected a ticket for this host that is not used up')
    }
    const verdict = verifyEnrolment(claims, {
      trust: await storedTrust(tx, deps.rules),
      pinned: await tx.hasEndorsementKey(endorsementKeyFingerprint(claims.ekPublic)),
      rules: deps.rules,
      nowMs,
    })
    if (!verdict.identity) {
      const failed = failures(verdict.findings)
      const [first] = failed
      return refuse(
        first?.code ?? 'ENROLMENT_REFUSED',
        first ? describeFinding(first) : 'the keys were not accepted',
        failed.map(describeFinding),
      )
    }
    const taken = await takenBy(tx, request.hostId, verdict.identity)
    if (taken) return refuse(taken.code, taken.message)
    if ((await tx.purgeEnrolments(nowMs)) >= deps.rules.maxPendingEnrolments) {
      return refuse('ENROLMENTS_PENDING', 'too many enrolments wait for activation')
    }
    const expiresAtMs = nowMs + deps.rules.enrolmentTtlSeconds * 1000
    const { identity } = verdict
    await tx.insertEnrolment({
      enrolmentId: input.enrolmentId,
      hostId: request.hostId,
      ticketId: ticket.ticketId,
      cluster: ticket.cluster,
      ekPublic: claims.ekPublic,
      ekFingerprint: identity.ekFingerprint,
      akPublic: claims.akPublic,
      endorsement: identity.endorsement,
      ...(claims.ekCertificate ? { ekCertificate: claims.ekCertificate } : {}),
      insecureTest: identity.insecureTest,
      ...(identity.tpm === undefined ? {} : { tpm: identity.tpm }),
      secretHash: secretHash(input.secret),
      expiresAtMs,
    })
    const credential = makeCredential({
      ek: identity.ek,
      akName: identity.akName,
      secret: input.secret,
    })
    await tx.audit({
      atMs: nowMs,
      actor: 'unknown',
      action: 'enrolment.begin',
      subject: `host:${request.hostId}`,
      outcome: 'allowed',
      detail: {
        enrolment: input.enrolmentId,
        ticket: ticket.ticketId,
        ek: identity.ekFingerprint,
        ak: toHex(identity.akName),
        endorsement: identity.endorsement,
      },
    })
    return { enrolmentId: input.enrolmentId, expiresAtMs, ...credential }
  })
}

/**
 * Ends an enrolment: the host exists when the secret is right.
 *
 * The pending record is gone afterwards whatever the answer was. Unknown, expired and wrong look the same to the caller.
 *
 * @throws PlatformError `ENROLMENT_SECRET`, or `HOST_ID_TAKEN` and `EK_TAKEN` where another enrolment was faster
 */
export async function activateEnrolment(
  deps: EnrolmentDeps,
  input: { readonly enrolmentId: string; readonly secret: Uint8Array; readonly nowMs: number },
): Promise<{ readonly hostId: string; readonly cluster: string; readonly state: HostState }> {
  const { nowMs } = input
  return audited(deps.store, async (tx) => {
    const pending = await tx.takeEnrolment(input.enrolmentId)
    const refuse = refusal(tx, pending?.hostId ?? 'unknown', nowMs)
    const same = timingSafeEqual(
      fromHex(secretHash(input.secret)),
      fromHex(pending?.secretHash ?? '00'.repeat(32)),
    )
    if (!pending || pending.expiresAtMs < nowMs || !same) {
      return refuse('ENROLMENT_SECRET', 'the credential was not opened by the TPM it was made for')
    }
    const akName = nameOf(parsePublicArea(pending.akPublic))
    const { ekFingerprint } = pending
    const taken = await takenBy(tx, pending.hostId, { ekFingerprint, akName })
    if (taken) return refuse(taken.code, taken.message)
    if (!(await tx.useTicket(pending.ticketId))) {
      return refuse('TICKET_INVALID', 'expected a ticket with a use left')
    }
    const state: HostState = pending.endorsement === 'approved' ? 'awaiting-approval' : 'enrolled'
    await tx.insertHost({
      ...hostKeysOf(pending),
      akName: toHex(akName),
      enrolledAtMs: nowMs,
    })
    const policyEpoch = (await tx.findPolicy(pending.cluster))?.epoch ?? 0
    await tx.setState(pending, state, { newEpoch: true, policyEpoch, nowMs })
    await tx.addEvent({
      atMs: nowMs,
      type: 'host.enrolled',
      hostId: pending.hostId,
      cluster: pending.cluster,
      detail: { state, endorsement: pending.endorsement },
    })
    await tx.audit({
      atMs: nowMs,
      actor: `host:${pending.hostId}`,
      action: 'enrolment.activate',
      subject: `host:${pending.hostId}`,
      outcome: 'done',
      detail: { enrolment: pending.enrolmentId, ek: pending.ekFingerprint, state },
    })
    return { hostId: pending.hostId, cluster: pending.cluster, state }
  })
}

function claimsOf(request: EnrolmentRequest): EnrolmentClaims {
  const { ekCertificate, device } = request
  return {
    ekPublic: fromBase64url(request.ekPublic),
    akPublic: fromBase64url(request.akPublic),
    ...(ekCertificate === undefined ? {} : { ekCertificate: fromBase64url(ekCertificate) }),
    ...(device
      ? {
          device: {
            certificate: fromBase64url(device.certificate),
            iakPublic: fromBase64url(device.iakPublic),
            attest: fromBase64url(device.attest),
            signature: fromBase64url(device.signature),
            qualification: deviceQualification(request.hostId, request.ticket),
          },
        }
      : {}),
  }
}

function hostKeysOf(pending: PendingEnrolment): HostKeys {
  const { enrolmentId, ticketId, secretHash, expiresAtMs, ...keys } = pending
  return keys
}

function ticketFits(ticket: StoredTicket, hostId: string, nowMs: number): boolean {
  return (
    ticket.usesLeft > 0 &&
    ticket.expiresAtMs >= nowMs &&
    (ticket.hostId === undefined || ticket.hostId === hostId)
  )
}

async function takenBy(
  tx: AttestationTransaction,
  hostId: string,
  identity: Pick<HostIdentity, 'ekFingerprint' | 'akName'>,
): Promise<PlatformError | undefined> {
  const revoked = await tx.findRevokedKey([identity.ekFingerprint, toHex(identity.akName)])
  if (revoked) {
    const message = `expected keys that are not revoked, found ${revoked.key}: ${revoked.reason}`
    return new PlatformError('TPM_KEY_REVOKED', message)
  }
  if (await tx.findHost(hostId)) {
    return new PlatformError('HOST_ID_TAKEN', `expected a free host id, found ${hostId} enrolled`)
  }
  if (await tx.findGuestByEk(identity.ekFingerprint)) {
    const message = 'expected a TPM of a host, found the virtual TPM of a VM'
    return new PlatformError('EK_CERT_VTPM', message)
  }
  if (await tx.findHostByEk(identity.ekFingerprint)) {
    return new PlatformError('EK_TAKEN', 'expected a TPM that is not enrolled, found it enrolled')
  }
  return undefined
}

/** A refusal that is committed with its audit record before it is thrown. */
class Refusal {
  readonly error: PlatformError

  constructor(error: PlatformError) {
    this.error = error
  }
}

function refusal(tx: AttestationTransaction, hostId: string, nowMs: number) {
  return async (
    code: PlatformError['code'],
    message: string,
    findings: readonly string[] = [],
  ): Promise<Refusal> => {
    await tx.audit({
      atMs: nowMs,
      actor: 'unknown',
      action: 'enrolment.refuse',
      subject: `host:${hostId}`,
      outcome: 'refused',
      detail: { code, message, findings },
    })
    return new Refusal(new PlatformError(code, message))
  }
}

/** Runs `work` in one transaction; a refusal commits what it recorded, and is thrown after. */
async function audited<R>(
  store: AttestationStore,
  work: (tx: AttestationTransaction) => Promise<R | Refusal>,
): Promise<R> {
  const result = await store.transaction(work)
  if (result instanceof Refusal) throw result.error
  return result
}
