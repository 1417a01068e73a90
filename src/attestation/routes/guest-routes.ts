import type { FastifyRequest } from 'fastify'
import {
  createGuestAttestation,
  createGuestChallenge,
  getGuest,
  getGuestBundle,
  getGuestPolicy,
  listGuests,
  removeGuest,
  revokeGuest,
  setGuestPolicy,
} from '../../api/guests.js'
import { toBase64url } from '../../core/bytes.js'
import { type Clock, isoTime } from '../../core/clock.js'
import { newUuid, randomOctets } from '../../core/random.js'
import { type App, addOperation, type CallerAccess } from '../../http/index.js'
import { attestGuest, type GuestAttestationDeps } from '../domain/attest-guest.js'
import type { GuestAdministration } from '../domain/guest-administration.js'
import { challengeGuest } from '../domain/guest-challenge.js'
import type { GuestPolicies } from '../domain/guest-policies.js'

const SERVICE = 'attestation'
const FOR_PEOPLE = { access: { people: SERVICE } } as const
const NONCE_RANDOM_OCTETS = 16
const KEYS_BODY_OCTETS = 64 * 1024
/** An event log of 1 MiB, as base64, and the rest. */
const EVIDENCE_BODY_OCTETS = 2 * 1024 * 1024
const POLICY_BODY_OCTETS = 4 * 1024 * 1024

/** Guests of VMs: their evidence, which hosts bring, and what administrators do with it. */
export function addGuestRoutes(
  app: App,
  deps: {
    readonly attestation: GuestAttestationDeps
    readonly administration: GuestAdministration
    readonly policies: GuestPolicies
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { attestation, administration, policies, clock } = deps
  const actOf = (request: FastifyRequest) => deps.callers.actOf(request, clock.nowMs())

  addOperation(
    app,
    createGuestChallenge,
    { access: 'public', bodyLimitOctets: KEYS_BODY_OCTETS },
    async ({ body }) => {
      const nowMs = clock.nowMs()
      const { nonce, credentialBlob, encryptedSecret, policy } = await challengeGuest(
        attestation,
        body,
        { random: randomOctets(NONCE_RANDOM_OCTETS), nowMs },
      )
      return {
        nonce: toBase64url(nonce),
        credentialBlob: toBase64url(credentialBlob),
        encryptedSecret: toBase64url(encryptedSecret),
        expiresAt: isoTime(nowMs + attestation.nonceTtlSeconds * 1000),
        verifier: attestation.issuer,
        bank: policy.bank,
        pcrs: [...policy.pcrs],
      }
    },
  )
  addOperation(
    app,
    createGuestAttestation,
    { access: 'public', bodyLimitOctets: EVIDENCE_BODY_OCTETS },
    async ({ body }) => {
      const { token, expiresAtMs } = await attestGuest(attestation, body, {
        tokenId: newUuid(),
        nowMs: clock.nowMs(),
      })
      return { token, expiresAt: isoTime(expiresAtMs) }
    },
  )

  addOperation(app, listGuests, FOR_PEOPLE, async ({ query: { hostId, ...page } }) =>
    administration.list({ hostId }, page),
  )
  addOperation(app, getGuest, FOR_PEOPLE, async ({ params }) => administration.get(params.vmId))
  addOperation(app, getGuestBundle, FOR_PEOPLE, async ({ params }) =>
    administration.getBundle(params.vmId),
  )
  addOperation(app, revokeGuest, FOR_PEOPLE, async ({ params, body, request }) =>
    administration.revoke(actOf(request), params.vmId, body.reason),
  )
  addOperation(app, removeGuest, FOR_PEOPLE, async ({ params, request }) => {
    await administration.remove(actOf(request), params.vmId)
    return {}
  })

  addOperation(app, getGuestPolicy, FOR_PEOPLE, async ({ params }) => policies.get(params.cluster))
  addOperation(
    app,
    setGuestPolicy,
    { ...FOR_PEOPLE, bodyLimitOctets: POLICY_BODY_OCTETS },
    async ({ params, body, request }) => policies.set(actOf(request), params.cluster, body),
  )
}
