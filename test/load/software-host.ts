import { createSign, type KeyObject } from 'node:crypto'
import {
  activateEnrolment,
  createEnrolment,
  createNonce,
  type Evidence,
} from '../../src/api/attestation.js'
import type { Client } from '../../src/api/client.js'
import { evidenceDigest } from '../../src/api/evidence-binding.js'
import { approveHost, getHost } from '../../src/api/hosts.js'
import type { Policy } from '../../src/api/policies.js'
import { fromBase64url, toBase64url, toHex } from '../../src/core/bytes.js'
import { generateSessionKeys, jwkThumbprint, type SessionKey } from '../../src/tokens/index.js'
import {
  attestationKeyTemplate,
  bindingKeyTemplate,
  EK_TEMPLATES,
  encodeAttest,
  encodePublicArea,
  encodeSignature,
  nameOf,
  parsePublicArea,
  pcrDigest,
  policyPcrDigest,
  TPM_GENERATED,
} from '../../src/tpm/index.js'
import { openCredential } from '../helpers/open-credential.js'
import { type SoftwareKey, softwareKey } from '../helpers/software-key.js'

/** What every host of a load test measured: the values of its PCRs, and the log that leads there. */
export interface SoftwareBoot {
  readonly pcrValues: ReadonlyMap<number, Uint8Array>
  readonly eventLog?: Uint8Array
}

/**
 * A host whose TPM is a few keys in memory, for load: a real one signs no faster than a thousand times a second. It is
 * enrolled as hosts without a certificate are, by approval.
 */
export interface SoftwareHost {
  readonly hostId: string
  readonly ak: SoftwareKey
  /** Signs its proofs. */
  readonly proofKey: SessionKey
  enrol(anybody: Client, admin: Client, ticket: string): Promise<void>
  evidence(demand: {
    readonly nonce: Uint8Array
    readonly verifier: string
    readonly policy: Pick<Policy, 'bank' | 'pcrs' | 'bindingPcrs'>
  }): Evidence
  /** Asks for a nonce and makes evidence for it. */
  answer(anybody: Client): Promise<Evidence>
}

export async function createSoftwareHost(
  hostId: string,
  boot: SoftwareBoot,
): Promise<SoftwareHost> {
  const ek = softwareKey(parsePublicArea(EK_TEMPLATES.rsa2048.publicArea))
  const ak = softwareKey(parsePublicArea(attestationKeyTemplate('ecc-p256')))
  const keys = await generateSessionKeys()
  const proofKeyThumbprint = jwkThumbprint(keys.dpop.publicJwk)
  const sessionKeyThumbprint = jwkThumbprint(keys.session.publicJwk)
  let clock = 0n
  let binding: SoftwareKey | undefined

  const attestBase = (extraData: Uint8Array) => {
    clock += 1n
    return {
      magic: TPM_GENERATED,
      qualifiedSigner: nameOf(ak.area),
      extraData,
      clockInfo: { clock, resetCount: 1, restartCount: 0, safe: true },
      firmwareVersion: 1n,
    }
  }
  const evidence: SoftwareHost['evidence'] = ({ nonce, verifier, policy }) => {
    const valuesOf = (pcrs: readonly number[]) =>
      pcrs.map((pcr) => boot.pcrValues.get(pcr) ?? new Uint8Array(32))
    const bound = policyPcrDigest(
      { bank: policy.bank, pcrs: policy.bindingPcrs },
      pcrDigest('sha256', valuesOf(policy.bindingPcrs)),
    )
    binding ??= softwareKey(parsePublicArea(bindingKeyTemplate(bound)))
    const extraData = evidenceDigest({
      ...{ nonce, hostId, verifier, proofKeyThumbprint, sessionKeyThumbprint },
      bindingKeyName: nameOf(binding.area),
      eventLog: boot.eventLog,
    })
    const certified = encodeAttest({
      ...attestBase(extraData),
      type: 'certify',
      name: nameOf(binding.area),
      qualifiedName: nameOf(binding.area),
    })
    const quote = encodeAttest({
      ...attestBase(extraData),
      type: 'quote',
      selections: [{ bank: policy.bank, pcrs: policy.pcrs }],
      pcrDigest: pcrDigest('sha256', valuesOf(policy.pcrs)),
    })
    return {
      hostId,
      nonce: toBase64url(nonce),
      attest: toBase64url(quote),
      signature: toBase64url(sign(ak.privateKey, quote)),
      pcrs: policy.pcrs.map((pcr) => ({
        pcr,
        digest: toHex(boot.pcrValues.get(pcr) ?? new Uint8Array(32)),
      })),
      ...(boot.eventLog ? { eventLog: toBase64url(boot.eventLog) } : {}),
      proofKey: keys.dpop.publicJwk,
      sessionKey: keys.session.publicJwk,
      bindingKey: {
        publicArea: toBase64url(encodePublicArea(binding.area)),
        attest: toBase64url(certified),
        signature: toBase64url(sign(ak.privateKey, certified)),
      },
    }
  }
  return {
    hostId,
    ak,
    proofKey: keys.dpop,
    evidence,
    async enrol(anybody, admin, ticket) {
      const challenge = await anybody.call(createEnrolment, {
        body: {
          ...{ hostId, ticket },
          ekPublic: toBase64url(encodePublicArea(ek.area)),
          akPublic: toBase64url(encodePublicArea(ak.area)),
        },
      })
      const secret = openCredential(ek.area, ek.privateKey, nameOf(ak.area), {
        credentialBlob: fromBase64url(challenge.credentialBlob),
        encryptedSecret: fromBase64url(challenge.encryptedSecret),
      })
      const { enrolmentId } = challenge
      await anybody.call(activateEnrolment, {
        params: { enrolmentId },
        body: { secret: toBase64url(secret) },
      })
      const params = { hostId }
      const { ekFingerprint } = await admin.call(getHost, { params })
      await admin.call(approveHost, { params, body: { ekFingerprint } })
    },
    async answer(anybody) {
      const demand = await anybody.call(createNonce, { body: { hostId } })
      return evidence({
        nonce: fromBase64url(demand.nonce),
        verifier: demand.verifier,
        policy: demand,
      })
    },
  }
}

function sign(key: KeyObject, message: Uint8Array): Uint8Array {
  const signature = createSign('sha256').update(message).sign({ key, dsaEncoding: 'ieee-p1363' })
  return encodeSignature({
    kind: 'ecdsa',
    hash: 'sha256',
    r: new Uint8Array(signature.subarray(0, 32)),
    s: new Uint8Array(signature.subarray(32)),
  })
}
