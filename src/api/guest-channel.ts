import { type Static, Type } from 'typebox'
import { PublicJwk } from './attestation.js'
import {
  type Bank,
  Exactly,
  HexDigest,
  Name,
  Octets,
  Pcr,
  type PcrList,
  Time,
  Uuid,
} from './common.js'
import { operation } from './operation.js'

/**
 * What a guest says to the agent of its host, and is answered: one JSON object for each line, on a port of the VM.
 *
 * The guest does not say which VM it is: the agent knows whose port it is. See docs/guest-attestation.md.
 */
export const GUEST_PORT = 'org.sigillo.attestation'

const Id = Type.String({
  pattern: '^[A-Za-z0-9._-]{1,64}$',
  description: 'comes back with the answer',
})

const Keys = {
  ekPublic: Octets(1024, 'TPMT_PUBLIC of the endorsement key of the virtual TPM'),
  akPublic: Octets(1024, 'TPMT_PUBLIC of the attestation key of the guest'),
}

const ChallengeRequest = Exactly({ id: Id, ask: Type.Literal('challenge'), ...Keys })

const AttestRequest = Exactly({
  id: Id,
  ask: Type.Literal('attest'),
  ...Keys,
  nonce: Octets(64, 'of the challenge'),
  secret: Octets(64, 'the secret that TPM2_ActivateCredential gave'),
  attest: Octets(1024, 'TPMS_ATTEST of the quote'),
  signature: Octets(1024, 'TPMT_SIGNATURE of the quote'),
  pcrs: Type.Array(Exactly({ pcr: Pcr, digest: HexDigest }), { maxItems: 24 }),
  eventLog: Type.Optional(Octets(1024 * 1024, 'boot event log as the firmware wrote it')),
  proofKey: Type.Optional(PublicJwk),
})

export const GuestRequest = Type.Union([ChallengeRequest, AttestRequest])
export type GuestRequest = Static<typeof GuestRequest>

/** Answers, without the `id` of the request. */
export type GuestAnswer =
  | {
      readonly vmId: string
      readonly verifier: string
      readonly nonce: string
      readonly credentialBlob: string
      readonly encryptedSecret: string
      readonly bank: Static<typeof Bank>
      readonly pcrs: Static<typeof PcrList>
    }
  | { readonly token: string; readonly expiresAt: Static<typeof Time> }
  | { readonly error: string; readonly message: string }

/** What the agent knows of the guest of a VM. */
export const VmAttestation = Exactly({
  vmId: Uuid,
  connected: Type.Boolean({ description: 'whether the agent listens to the port of the VM' }),
  last: Type.Optional(
    Exactly({
      at: Time,
      accepted: Type.Boolean(),
      code: Type.Optional(Type.String()),
      message: Type.Optional(Type.String()),
      expiresAt: Type.Optional(Time),
    }),
  ),
})
export type VmAttestation = Static<typeof VmAttestation>

export const getVmAttestation = operation({
  id: 'getVmAttestation',
  summary: 'Whether the guest of a VM attests, and how the last time went',
  method: 'GET',
  path: '/v1/vms/:vm/attestation',
  status: 200,
  params: Exactly({ vm: Name }),
  answer: VmAttestation,
})
