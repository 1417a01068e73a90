import { timingSafeEqual, utf8 } from '../../core/bytes.js'
import { type Clock, secondsOf } from '../../core/clock.js'
import { DecodeError, messageOf } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import { decodeTtlv, type TtlvLimits } from '../decode.js'
import { encodeTtlv } from '../encode.js'
import { ASYNCHRONOUS_INDICATOR, CREDENTIAL_TYPE } from '../enumerations.js'
import { KmipError } from '../errors.js'
import {
  type KmipRequest,
  type KmipResponseItem,
  requestFromTtlv,
  responseToTtlv,
} from '../message.js'
import { TAG } from '../tags.js'
import {
  child,
  optionalValueAt,
  requiredChild,
  type Structure,
  type Ttlv,
  valueAt,
} from '../ttlv.js'
import { compareVersions, type ProtocolVersion, versionFromTtlv } from '../version.js'
import { type BatchContext, failedItem, runBatch } from './batch.js'
import type { ServerFacts } from './call.js'
import { KmipRefusal } from './refusal.js'
import type { ObjectStore } from './store.js'

export interface HandlerOptions {
  readonly store: ObjectStore
  readonly server: ServerFacts
  readonly limits: TtlvLimits
  /** Items of one request. */
  readonly maxBatchItems: number
  readonly users: readonly KmipUser[] | undefined
  readonly clock: Clock
  readonly fault: (error: unknown) => void
}

/** Who may use the server, with a password beside the certificate. */
export interface KmipUser {
  readonly username: string
  readonly password: Secret
}

/** What was answered: the octets, and what of it may be told. */
export interface Handled {
  /** To be filled with zeros when they were sent: keys may be in them. */
  readonly response: Uint8Array
  readonly version: ProtocolVersion
  readonly items: readonly KmipResponseItem[]
}

/** Octets of a response beyond which no response grows, whatever the client would take. */
const MAX_RESPONSE_OCTETS = 1 << 20

/**
 * Answers one message. Never throws, whatever the octets; they are filled with zeros after it. What a request
 * changes, it changes before this returns.
 *
 * @param client whose objects it may see
 */
export function handleMessage(
  octets: Uint8Array,
  client: string,
  options: HandlerOptions,
): Handled {
  const { server, fault } = options
  const now = BigInt(secondsOf(options.clock.nowMs()))
  let version = oldest(server.versions)
  try {
    const message = decoded(octets, options.limits)
    version = spokenVersion(message, server.versions) ?? version
    const request = readRequest(message, options)
    const owner = ownerOf(request, client, options.users)
    return answer(request, { client: owner, now, store: options.store, server, fault })
  } catch (error) {
    options.store.undo(0)
    const items = [failedItem(undefined, asMessageError(error), version, fault)]
    return { response: encoded(version, now, items), version, items }
  } finally {
    octets.fill(0)
  }
}

function answer(request: KmipRequest, context: BatchContext): Handled {
  const { version } = request
  const { store, now } = context
  const { items, wipe } = runBatch(request, context)
  const response = encoded(version, now, items, request.clientCorrelationValue)
  for (const part of wipe) part.fill(0)
  if (response.length <= Math.min(request.maximumResponseSize ?? Infinity, MAX_RESPONSE_OCTETS)) {
    store.commit()
    return { response, version, items }
  }
  response.fill(0)
  store.undo(0)
  const refusal = new KmipRefusal('ResponseTooLarge', `the response has ${response.length} octets`)
  const failed = request.items.map((item) => failedItem(item, refusal, version, context.fault))
  return { response: encoded(version, now, failed), version, items: failed }
}

function decoded(octets: Uint8Array, limits: TtlvLimits): Ttlv {
  try {
    return decodeTtlv(octets, limits)
  } catch (cause) {
    throw new KmipRefusal('InvalidMessage', `the request cannot be read: ${messageOf(cause)}`)
  }
}

/** The version to answer in: that of the request, or the nearest that we have. */
function spokenVersion(
  message: Ttlv,
  ours: readonly ProtocolVersion[],
): ProtocolVersion | undefined {
  try {
    const header = requiredChild(message, TAG.RequestHeader)
    const theirs = versionFromTtlv(requiredChild(header, TAG.ProtocolVersion))
    return ours.find((one) => compareVersions(one, theirs) <= 0)
  } catch {
    // What is wrong is said when the request is read in earnest.
    return undefined
  }
}

function readRequest(message: Ttlv, options: HandlerOptions): KmipRequest {
  const request = requestFromTtlv(message)
  const { versions } = options.server
  if (!versions.some((one) => compareVersions(one, request.version) === 0)) {
    throw new KmipRefusal('UnsupportedProtocolVersion', 'this server does not speak the version')
  }
  if (request.items.length > options.maxBatchItems) {
    throw new KmipRefusal('InvalidMessage', `a batch has ${options.maxBatchItems} items at most`)
  }
  const { asynchronousIndicator: later } = request
  if (later?.type === 'Enumeration' && later.value === ASYNCHRONOUS_INDICATOR.Mandatory) {
    throw new KmipRefusal('FeatureNotSupported', 'this server answers at once')
  }
  return request
}

/** The client, or one user of it where users are told apart. Throws `KMIP_REFUSED`. */
function ownerOf(
  request: KmipRequest,
  client: string,
  users: readonly KmipUser[] | undefined,
): string {
  if (users === undefined) return client
  for (const credential of request.credentials ?? []) {
    const user = users.find((one) => isCredentialOf(credential, one))
    if (user !== undefined) return `${client} ${user.username}`
  }
  throw new KmipRefusal('AuthenticationNotSuccessful', 'expected the password of a known user')
}

function isCredentialOf(credential: Structure, { username, password }: KmipUser): boolean {
  const type = optionalValueAt(credential, TAG.CredentialType, 'Enumeration')
  if (type !== CREDENTIAL_TYPE.UsernameAndPassword) return false
  const value = child(credential, TAG.CredentialValue)
  if (value === undefined || valueAt(value, TAG.Username, 'TextString') !== username) return false
  const given = utf8(optionalValueAt(value, TAG.Password, 'TextString') ?? '')
  try {
    return password.use((octets) => timingSafeEqual(octets, given))
  } finally {
    given.fill(0)
  }
}

function encoded(
  version: ProtocolVersion,
  now: bigint,
  items: readonly KmipResponseItem[],
  clientCorrelationValue?: string,
): Uint8Array {
  return encodeTtlv(responseToTtlv({ version, timeStamp: now, clientCorrelationValue, items }))
}

function asMessageError(error: unknown): unknown {
  if (error instanceof DecodeError) return new KmipError('KMIP_MESSAGE', error.message)
  return error
}

function oldest(versions: readonly ProtocolVersion[]): ProtocolVersion {
  const last = versions.at(-1)
  if (last === undefined) throw new TypeError('expected at least one version')
  return last
}
