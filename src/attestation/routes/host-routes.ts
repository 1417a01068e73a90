import {
  activateEnrolment as activateOperation,
  createAttestation,
  createEnrolment,
  createNonce,
  getDiscovery,
  getJwks,
} from '../../api/attestation.js'
import { fromBase64url, toBase64url } from '../../core/bytes.js'
import { type Clock, isoTime } from '../../core/clock.js'
import { newUuid, randomOctets } from '../../core/random.js'
import { type App, addOperation } from '../../http/index.js'
import { ATTESTATION_RESULT_PROFILE, type PublishedJwks } from '../../tokens/index.js'
import { type AttestationDeps, attest, policyOf } from '../domain/attestation.js'
import { activateEnrolment, beginEnrolment, type EnrolmentDeps } from '../domain/enrolment.js'
import { createNonce as makeNonce } from '../domain/nonce.js'

const SECRET_OCTETS = 32
/** An event log of 1 MiB and a measurement list of 8 MiB, as base64. */
const EVIDENCE_BODY_OCTETS = 13 * 1024 * 1024
const SMALL_BODY_OCTETS = 64 * 1024

/** What hosts call. They are not known yet: each route says by itself what proves anything. */
export function addHostRoutes(
  app: App,
  deps: {
    readonly enrolment: EnrolmentDeps
    readonly attestation: AttestationDeps
    readonly jwks: () => PublishedJwks
    readonly clock: Clock
  },
): void {
  const { enrolment, attestation, clock } = deps
  const small = { access: 'public', bodyLimitOctets: SMALL_BODY_OCTETS } as const

  addOperation(app, createEnrolment, small, async ({ body }) => {
    const secret = randomOctets(SECRET_OCTETS)
    try {
      const challenge = await beginEnrolment(enrolment, body, {
        enrolmentId: newUuid(),
        secret,
        nowMs: clock.nowMs(),
      })
      return {
        enrolmentId: challenge.enrolmentId,
        credentialBlob: toBase64url(challenge.credentialBlob),
        encryptedSecret: toBase64url(challenge.encryptedSecret),
        expiresAt: isoTime(challenge.expiresAtMs),
      }
    } finally {
      secret.fill(0)
    }
  })

  addOperation(app, activateOperation, small, async ({ params, body }) =>
    activateEnrolment(enrolment, {
      enrolmentId: params.enrolmentId,
      secret: fromBase64url(body.secret),
      nowMs: clock.nowMs(),
    }),
  )

  // An unknown host is asked for the default policy: where clusters have others, the answer tells what it has to.
  addOperation(app, createNonce, small, async ({ body: { hostId } }) => {
    const nowMs = clock.nowMs()
    const { policy } = await attestation.store.transaction(async (tx) =>
      policyOf(tx, (await tx.findHost(hostId))?.cluster),
    )
    const nonce = attestation.keys.nonceKey.use((key) =>
      makeNonce({ key, hostId, nowMs, random: randomOctets(16) }),
    )
    return {
      nonce: toBase64url(nonce),
      expiresAt: isoTime(nowMs + attestation.nonceTtlSeconds * 1000),
      verifier: attestation.issuer,
      bank: policy.bank,
      pcrs: [...policy.pcrs],
      bindingPcrs: [...policy.bindingPcrs],
      ima: policy.ima !== undefined,
    }
  })

  addOperation(
    app,
    createAttestation,
    { access: 'public', bodyLimitOctets: EVIDENCE_BODY_OCTETS },
    async ({ body }) => {
      const { token, expiresAtMs, imaEntries } = await attest(attestation, body, {
        tokenId: newUuid(),
        bundleId: newUuid(),
        nowMs: clock.nowMs(),
        monotonicMs: () => clock.monotonicMs(),
      })
      return {
        token,
        expiresAt: isoTime(expiresAtMs),
        ...(imaEntries === undefined ? {} : { imaEntries }),
      }
    },
  )

  addOperation(app, getJwks, { access: 'public' }, async () => ({
    keys: deps.jwks().keys.map((key) => ({ ...key })),
  }))

  addOperation(app, getDiscovery, { access: 'public' }, async () => ({
    issuer: attestation.issuer,
    jwks_uri: `${attestation.issuer}/v1/jwks.json`,
    id_token_signing_alg_values_supported: [...new Set(deps.jwks().keys.map(({ alg }) => alg))],
    response_types_supported: ['none'],
    subject_types_supported: ['public'],
    eat_profile: ATTESTATION_RESULT_PROFILE,
  }))
}
