import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { openTpm } from '../../native/index.js'
import type { Client } from '../../src/api/client.js'
import { issueVtpmCertificate, type VmReport } from '../../src/api/control-plane.js'
import { guestEvidenceDigest } from '../../src/api/guest-binding.js'
import {
  createGuestAttestation,
  createGuestChallenge,
  type GuestEvidence,
} from '../../src/api/guests.js'
import type { AnswerOf } from '../../src/api/operation.js'
import { offerVm, takeVm } from '../../src/api/vm-moves.js'
import { fromBase64url, toBase64url, toHex } from '../../src/core/bytes.js'
import { systemClock } from '../../src/core/clock.js'
import type { Session } from '../../src/host-agent/adapters/attester.js'
import { type Authority, createAuthority } from '../../src/host-agent/adapters/authority.js'
import { spkiOf } from '../../src/pki/index.js'
import { createPlacement } from '../../src/tokens/index.js'
import {
  attestationKeyTemplate,
  EK_TEMPLATES,
  type LoadedKey,
  parsePublicArea,
  publicKeyOf,
  STORAGE_PRIMARY_TEMPLATE,
  type Tpm,
} from '../../src/tpm/index.js'
import type { Lab, LabTpm } from '../../swtpm/index.js'
import { GOOD_BOOT } from './host.js'

export type Challenge = AnswerOf<typeof createGuestChallenge>

/** A guest of a test: a software TPM that was booted, in the place of the virtual TPM of a VM. */
export interface TestGuest extends AsyncDisposable {
  readonly vmId: string
  readonly lab: LabTpm
  readonly tpm: Tpm
  readonly ek: LoadedKey
  readonly ak: LoadedKey
  readonly ekPublicSpki: Uint8Array
  /** Has the control plane certify the endorsement key for the VM, as the agent of a host does. */
  certify(client: Client, session: Session, vmId?: string): Promise<Uint8Array>
  challenge(client: Client, certificate: Uint8Array): Promise<Challenge>
  /** What the guest says in answer to a challenge, without the word of its host. */
  evidence(
    challenge: Challenge,
    certificate: Uint8Array,
    changed?: Partial<GuestEvidence>,
  ): Promise<GuestEvidence>
}

export async function bootGuest(
  lab: Lab,
  name: string,
  options: { readonly eventLog?: Uint8Array } = {},
): Promise<TestGuest> {
  const labTpm = await lab.manufacture(name, { ekCertificates: false })
  const eventLog = options.eventLog ?? GOOD_BOOT
  await labTpm.boot(eventLog)
  const tpm = await openTpm({ tcti: labTpm.tcti })
  const ek = await tpm.createPrimary('endorsement', EK_TEMPLATES.rsa2048.publicArea)
  const parent = await tpm.createPrimary('owner', STORAGE_PRIMARY_TEMPLATE)
  const ak = await tpm.load(parent, await tpm.create(parent, attestationKeyTemplate('ecc-p256')))
  await tpm.flush(parent)
  const vmId = randomUUID()
  const ekPublicSpki = spkiOf(publicKeyOf(parsePublicArea(ek.publicArea)))
  const keys = (certificate: Uint8Array) => ({
    vmId,
    ekPublic: toBase64url(ek.publicArea),
    ekCertificate: toBase64url(certificate),
    akPublic: toBase64url(ak.publicArea),
  })
  return {
    ...{ vmId, lab: labTpm, tpm, ek, ak, ekPublicSpki },
    async certify(client, session, forVm = vmId) {
      const authority = createAuthority(client, async () => session, systemClock)
      const { certificate } = await authority.call(issueVtpmCertificate, {
        body: {
          vmId: forVm,
          kind: 'ek',
          publicKey: toBase64url(ekPublicSpki),
          tpm: { manufacturer: 'id:00001014', model: 'swtpm', version: 'id:20191023' },
        },
      })
      return fromBase64url(certificate)
    },
    challenge: (client, certificate) =>
      client.call(createGuestChallenge, { body: keys(certificate) }),
    async evidence(challenge, certificate, changed = {}) {
      const secret = await tpm.activateCredential(
        ek,
        ak,
        fromBase64url(challenge.credentialBlob),
        fromBase64url(challenge.encryptedSecret),
      )
      const values = await tpm.pcrRead(challenge.bank, challenge.pcrs)
      const quote = await tpm.quote({
        key: ak,
        qualifyingData: guestEvidenceDigest({
          nonce: fromBase64url(challenge.nonce),
          vmId: changed.vmId ?? vmId,
          verifier: challenge.verifier,
          secret: changed.secret === undefined ? secret : fromBase64url(changed.secret),
          eventLog,
        }),
        bank: challenge.bank,
        pcrs: challenge.pcrs,
      })
      return {
        ...keys(certificate),
        nonce: challenge.nonce,
        secret: toBase64url(secret),
        attest: toBase64url(quote.attest),
        signature: toBase64url(quote.signature),
        pcrs: [...values].map(([pcr, digest]) => ({ pcr, digest: toHex(digest) })),
        eventLog: toBase64url(eventLog),
        ...changed,
      }
    },
    async [Symbol.asyncDispose]() {
      await tpm[Symbol.asyncDispose]()
      await labTpm.stop()
    },
  }
}

/** Has a VM go from one host to another, as their agents tell the control plane. */
export async function moveVm(move: {
  readonly from: Authority
  readonly to: Authority
  readonly vmId: string
  readonly report: VmReport
}): Promise<void> {
  const { from, to, vmId, report } = move
  const exportId = randomUUID()
  const ticket = randomBytes(32)
  const ticketDigest = toBase64url(createHash('sha256').update(ticket).digest())
  await from.call(offerVm, { params: { vmId }, body: { exportId, ticketDigest } })
  const body = { exportId, ticket: toBase64url(ticket), report }
  await to.call(takeVm, { params: { vmId }, body })
}

/** Evidence of a guest with the word of a host: its token, and its statement about the VM. */
export async function spokenFor(
  evidence: GuestEvidence,
  session: Session,
  verifier: string,
): Promise<GuestEvidence> {
  const placement = await createPlacement(
    {
      verifier,
      vmId: evidence.vmId,
      nonce: fromBase64url(evidence.nonce),
      ekPublic: fromBase64url(evidence.ekPublic),
      akPublic: fromBase64url(evidence.akPublic),
      hostToken: session.token,
    },
    session.keys.dpop,
    Math.floor(Date.now() / 1000),
  )
  return { ...evidence, host: { token: session.token, placement } }
}

/** Sends what a guest says in answer to a new challenge, with the word of a host. */
export async function attestGuest(
  client: Client,
  guest: TestGuest,
  certificate: Uint8Array,
  session: Session,
) {
  const challenge = await guest.challenge(client, certificate)
  const evidence = await guest.evidence(challenge, certificate)
  const body = await spokenFor(evidence, session, challenge.verifier)
  return client.call(createGuestAttestation, { body })
}
