import { readFile } from 'node:fs/promises'
import {
  activateEnrolment,
  createAttestation,
  createEnrolment,
  createNonce,
  type EnrolmentRequest,
  type Evidence,
  type HostState,
} from '../../api/attestation.js'
import type { Client } from '../../api/client.js'
import type { Bank } from '../../api/common.js'
import { deviceQualification, evidenceDigest } from '../../api/evidence-binding.js'
import { equalBytes, fromBase64url, toBase64url, toHex } from '../../core/bytes.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import { skipImaEntries } from '../../ima/index.js'
import { generateSessionKeys, jwkThumbprint, type SessionKeys } from '../../tokens/index.js'
import {
  type LoadedKey,
  parseAttest,
  parseSignature,
  pcrDigest,
  type Tpm,
} from '../../tpm/index.js'
import type { StorageKey } from './storage-key.js'
import type { TpmIdentity } from './tpm-identity.js'

/** How much of the measurement list was accepted in this boot, as the service said. */
export interface ImaCursor {
  entries: number
}

/** The initial attestation key (IAK) that the machine was delivered with. */
export interface DeviceKey {
  /** Persistent handle in the TPM. */
  readonly handle: number
  /** DER */
  readonly certificate: Uint8Array
}

/** What one attestation gave: a token, and the keys that it is bound to. */
export interface Session {
  readonly token: string
  readonly issuedAtMs: number
  readonly expiresAtMs: number
  readonly keys: SessionKeys
  readonly bindingKey?: {
    readonly key: LoadedKey
    readonly bank: Bank
    readonly pcrs: readonly number[]
    readonly storage: StorageKey
  }
  readonly tookMs: number
}

const MAX_EVENT_LOG_OCTETS = 1024 * 1024
const MAX_IMA_LIST_OCTETS = 8 * 1024 * 1024
/** How often a quote is made again when PCRs changed between reading and quoting. */
const QUOTE_TRIES = 3

/**
 * Enrols this host: shows its keys and its ticket, and has the TPM open the credential.
 *
 * @throws PlatformError of the authority's code (`TICKET_INVALID`, `HOST_ID_TAKEN`, …), or of the TPM
 */
export async function enrol(
  client: Client,
  identity: TpmIdentity,
  request: {
    readonly hostId: string
    readonly ticket: string
    readonly device?: DeviceKey | undefined
  },
): Promise<{ readonly cluster: string; readonly state: HostState }> {
  const device = request.device && (await deviceClaims(identity, request.device, request))
  return identity.withEndorsementKey(async (ek, certificate) => {
    const challenge = await client.call(createEnrolment, {
      body: {
        hostId: request.hostId,
        ticket: request.ticket,
        ekPublic: toBase64url(ek.publicArea),
        ...(certificate ? { ekCertificate: toBase64url(certificate) } : {}),
        akPublic: toBase64url(identity.ak.publicArea),
        ...(device ? { device } : {}),
      },
    })
    const secret = await identity.tpm.activateCredential(
      ek,
      identity.ak,
      fromBase64url(challenge.credentialBlob),
      fromBase64url(challenge.encryptedSecret),
    )
    try {
      return await client.call(activateEnrolment, {
        params: { enrolmentId: challenge.enrolmentId },
        body: { secret: toBase64url(secret) },
      })
    } finally {
      secret.fill(0)
    }
  })
}

/** The initial attestation key vouches for the attestation key, for this name and ticket alone. */
async function deviceClaims(
  { tpm, ak }: TpmIdentity,
  { handle, certificate }: DeviceKey,
  request: { readonly hostId: string; readonly ticket: string },
): Promise<NonNullable<EnrolmentRequest['device']>> {
  const iak = await tpm.openPersistent(handle)
  if (!iak) {
    const message = `expected the initial attestation key at 0x${handle.toString(16)}, found none`
    throw new PlatformError('DEVICE_KEY_MISSING', message)
  }
  try {
    const { hostId, ticket } = request
    const certified = await tpm.certify(ak, iak, deviceQualification(hostId, ticket))
    return {
      certificate: toBase64url(certificate),
      iakPublic: toBase64url(iak.publicArea),
      attest: toBase64url(certified.attest),
      signature: toBase64url(certified.signature),
    }
  } finally {
    await tpm.flush(iak)
  }
}

/**
 * Attests once: nonce, quote over the demanded PCRs, token.
 *
 * @throws PlatformError `ATTESTATION_REFUSED` and other codes of the authority, or of the TPM
 */
export async function attest(
  client: Client,
  identity: TpmIdentity,
  options: {
    readonly hostId: string
    readonly eventLogFile: string
    readonly bindingKey: boolean
    /** Measurement list of the kernel, binary; read where the policy wants it. */
    readonly imaListFile: string
    readonly imaCursor: ImaCursor
    readonly nowMs: () => number
  },
): Promise<Session> {
  const startedMs = options.nowMs()
  const { tpm, ak } = identity
  const demand = await client.call(createNonce, { body: { hostId: options.hostId } })
  const keys = await generateSessionKeys()
  const eventLog = await readEventLog(options.eventLogFile)

  for (let left = QUOTE_TRIES; ; left -= 1) {
    const values = await tpm.pcrRead(demand.bank, demand.pcrs)
    const binding = options.bindingKey
      ? await identity.bindingKey(demand.bank, pick(values, demand.bindingPcrs))
      : undefined
    const digest = evidenceDigest({
      nonce: fromBase64url(demand.nonce),
      hostId: options.hostId,
      verifier: demand.verifier,
      proofKeyThumbprint: jwkThumbprint(keys.dpop.publicJwk),
      sessionKeyThumbprint: jwkThumbprint(keys.session.publicJwk),
      bindingKeyName: binding?.key.name,
      eventLog,
    })
    const certified = binding && (await tpm.certify(binding.key, ak, digest))
    const quote = await tpm.quote({
      key: ak,
      qualifyingData: digest,
      bank: demand.bank,
      pcrs: demand.pcrs,
    })
    if (!coversValues(quote, demand.pcrs, values)) {
      if (left > 1) continue
      throw new PlatformError('AGENT_PCRS_UNSTABLE', 'PCRs changed while they were being quoted')
    }
    // The list is read after the quote: PCR 10 proves its beginning, and what was added since is passed over.
    const ima = demand.ima ? await readIma(options.imaListFile, options.imaCursor) : undefined
    const evidence: Evidence = {
      hostId: options.hostId,
      nonce: demand.nonce,
      attest: toBase64url(quote.attest),
      signature: toBase64url(quote.signature),
      pcrs: demand.pcrs.map((pcr) => ({ pcr, digest: toHex(valueAt(values, pcr)) })),
      ...(eventLog ? { eventLog: toBase64url(eventLog) } : {}),
      ...(ima ? { ima } : {}),
      proofKey: keys.dpop.publicJwk,
      sessionKey: keys.session.publicJwk,
      ...(binding && certified
        ? {
            bindingKey: {
              publicArea: toBase64url(binding.key.publicArea),
              attest: toBase64url(certified.attest),
              signature: toBase64url(certified.signature),
            },
          }
        : {}),
    }
    const answer = await send(client, evidence, options.imaCursor)
    if (!answer) continue
    const { token, expiresAt, imaEntries } = answer
    options.imaCursor.entries = imaEntries ?? 0
    const nowMs = options.nowMs()
    return {
      token,
      issuedAtMs: nowMs,
      expiresAtMs: Date.parse(expiresAt),
      keys,
      ...(binding
        ? {
            bindingKey: {
              ...{ key: binding.key, bank: demand.bank },
              ...{ pcrs: binding.pcrs, storage: binding.storage },
            },
          }
        : {}),
      tookMs: nowMs - startedMs,
    }
  }
}

/**
 * Sends evidence. After a refusal the whole measurement list is brought again.
 *
 * @returns nothing where the service wants just that, at once
 */
async function send(client: Client, evidence: Evidence, cursor: ImaCursor) {
  const { entries } = cursor
  try {
    return await client.call(createAttestation, { body: evidence })
  } catch (error) {
    cursor.entries = 0
    if (entries > 0 && isPlatformError(error) && error.code === 'IMA_FROM') return undefined
    throw error
  }
}

async function readIma(file: string, cursor: ImaCursor): Promise<Evidence['ima']> {
  const list = await readOptional(file, MAX_IMA_LIST_OCTETS)
  if (!list) return undefined
  const rest = skipImaEntries(list, cursor.entries)
  if (!rest) cursor.entries = 0
  return { from: cursor.entries, list: toBase64url(rest ?? list) }
}

/** A quote with a nonce of the caller, for verification anywhere. */
export async function quoteFor(
  identity: TpmIdentity,
  request: {
    readonly qualifyingData: Uint8Array
    readonly bank: Bank
    readonly pcrs: readonly number[]
    readonly eventLogFile: string
  },
) {
  const { bank, pcrs, qualifyingData } = request
  for (let left = QUOTE_TRIES; ; left -= 1) {
    const values = await identity.tpm.pcrRead(bank, pcrs)
    const quote = await identity.tpm.quote({ key: identity.ak, qualifyingData, bank, pcrs })
    if (coversValues(quote, pcrs, values)) {
      return { quote, values, eventLog: await readEventLog(request.eventLogFile) }
    }
    if (left === 1) {
      throw new PlatformError('AGENT_PCRS_UNSTABLE', 'PCRs changed while they were being quoted')
    }
  }
}

/** Whether the quote is of these values: a PCR may have moved between reading and quoting. */
function coversValues(
  quote: Awaited<ReturnType<Tpm['quote']>>,
  pcrs: readonly number[],
  values: ReadonlyMap<number, Uint8Array>,
): boolean {
  const attest = parseAttest(quote.attest)
  if (attest.type !== 'quote') return false
  const ascending = [...pcrs].sort((a, b) => a - b).map((pcr) => valueAt(values, pcr))
  const { hash } = parseSignature(quote.signature)
  return equalBytes(attest.pcrDigest, pcrDigest(hash, ascending))
}

function valueAt(values: ReadonlyMap<number, Uint8Array>, pcr: number): Uint8Array {
  const value = values.get(pcr)
  if (!value) throw new PlatformError('AGENT_PCRS_UNSTABLE', `the TPM gave no value for PCR ${pcr}`)
  return value
}

function pick(
  values: ReadonlyMap<number, Uint8Array>,
  pcrs: readonly number[],
): ReadonlyMap<number, Uint8Array> {
  return new Map(pcrs.map((pcr) => [pcr, valueAt(values, pcr)]))
}

/** The boot event log, or nothing where the firmware handed none over. */
function readEventLog(file: string): Promise<Uint8Array | undefined> {
  return readOptional(file, MAX_EVENT_LOG_OCTETS)
}

async function readOptional(file: string, maxOctets: number): Promise<Uint8Array | undefined> {
  try {
    const octets = new Uint8Array(await readFile(file))
    if (octets.length > maxOctets) {
      throw new PlatformError(
        'DECODE_TOO_LARGE',
        `expected ${file} to have at most ${maxOctets} octets, found ${octets.length}`,
      )
    }
    return octets
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    if (cause instanceof PlatformError) throw cause
    throw new PlatformError('CONFIG_UNREADABLE', `cannot read ${file}: ${messageOf(cause)}`, {
      cause,
    })
  }
}
