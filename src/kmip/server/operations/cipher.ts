import { createCipheriv, createDecipheriv } from 'node:crypto'
import { randomOctets } from '../../../core/random.js'
import {
  BLOCK_CIPHER_MODE,
  CRYPTOGRAPHIC_ALGORITHM,
  CRYPTOGRAPHIC_USAGE_MASK,
  OPERATION,
  PADDING_METHOD,
  USAGE_LIMITS_UNIT,
} from '../../enumerations.js'
import { TAG } from '../../tags.js'
import {
  byteString,
  child,
  optionalValueAt,
  structure,
  type Ttlv,
  textString,
  valueAt,
} from '../../ttlv.js'
import { type Answer, type Call, livingObjectOf, type Operation } from '../call.js'
import { useKey } from '../key-block.js'
import {
  dateOf,
  type ManagedObject,
  standardValue,
  stateOf,
  usageMaskOf,
  withValues,
} from '../object.js'
import { KmipRefusal } from '../refusal.js'

const FIELDS: readonly number[] = [
  ...[TAG.UniqueIdentifier, TAG.CryptographicParameters, TAG.Data, TAG.IVCounterNonce],
  ...[TAG.CorrelationValue, TAG.InitIndicator, TAG.FinalIndicator],
  TAG.AuthenticatedEncryptionAdditionalData,
]

const V1_2 = { major: 1, minor: 2 }

/** @see KMIP 2.1 Specification, clause 6.1.19 */
export const ENCRYPT: Operation = {
  operation: OPERATION.Encrypt,
  since: V1_2,
  fields: FIELDS,
  run: encrypt,
}

/** @see KMIP 2.1 Specification, clause 6.1.10 */
export const DECRYPT: Operation = {
  operation: OPERATION.Decrypt,
  since: V1_2,
  fields: [...FIELDS, TAG.AuthenticatedEncryptionTag],
  run: decrypt,
}

const MODES = {
  [BLOCK_CIPHER_MODE.CBC]: { name: 'cbc', pads: true },
  [BLOCK_CIPHER_MODE.ECB]: { name: 'ecb', pads: true },
  [BLOCK_CIPHER_MODE.CTR]: { name: 'ctr', pads: false },
  [BLOCK_CIPHER_MODE.GCM]: { name: 'gcm', pads: false },
} as const

type ModeName = (typeof MODES)[keyof typeof MODES]['name']

interface Cipher {
  readonly mode: ModeName
  readonly algorithm: 'aes' | 'des3'
  readonly padded: boolean
  readonly randomIv: boolean
  readonly ivOctets: number
  readonly tagOctets: number
}

const GCM_IV_OCTETS = 12
const GCM_TAG_OCTETS: readonly number[] = [4, 8, 12, 13, 14, 15, 16]

function encrypt(call: Call): Answer {
  const object = objectFor(call, CRYPTOGRAPHIC_USAGE_MASK.Encrypt)
  const cipher = cipherOf(call, object)
  const data = valueAt(call.payload, TAG.Data, 'ByteString')
  const given = optionalValueAt(call.payload, TAG.IVCounterNonce, 'ByteString')
  const made = given === undefined && cipher.ivOctets > 0 && cipher.randomIv
  const iv = made ? randomOctets(cipher.ivOctets) : ivOf(cipher, given)
  consume(call, object, data.length)
  const { output, tag } = useKey(object, (key) => run(call, cipher, key, iv, data))
  return {
    items: [
      textString(TAG.UniqueIdentifier, object.id),
      byteString(TAG.Data, output),
      made ? byteString(TAG.IVCounterNonce, iv) : undefined,
      tag && byteString(TAG.AuthenticatedEncryptionTag, tag),
    ],
  }
}

function decrypt(call: Call): Answer {
  const object = objectFor(call, CRYPTOGRAPHIC_USAGE_MASK.Decrypt)
  const cipher = cipherOf(call, object)
  const data = valueAt(call.payload, TAG.Data, 'ByteString')
  const iv = ivOf(cipher, optionalValueAt(call.payload, TAG.IVCounterNonce, 'ByteString'))
  const plain = useKey(object, (key) => undo(call, cipher, key, iv, data))
  return {
    items: [textString(TAG.UniqueIdentifier, object.id), byteString(TAG.Data, plain)],
    wipe: [plain],
  }
}

/**
 * The key, when it may be used so now. A key that is no longer active still decrypts what it encrypted.
 *
 * @see NIST SP 800-57 Part 1, clause 7
 */
function objectFor(call: Call, usage: number): ManagedObject {
  const object = livingObjectOf(call)
  const { payload, now } = call
  const isEncrypt = usage === CRYPTOGRAPHIC_USAGE_MASK.Encrypt
  for (const tag of [TAG.CorrelationValue, TAG.InitIndicator, TAG.FinalIndicator]) {
    if (child(payload, tag) !== undefined) {
      throw new KmipRefusal('FeatureNotSupported', 'this server takes data in one part')
    }
  }
  if ((usageMaskOf(object) & usage) === 0) {
    throw new KmipRefusal('IncompatibleCryptographicUsageMask', 'the key is not for this')
  }
  const state = stateOf(object, now)
  const start = dateOf(object, TAG.ProcessStartDate)
  const stop = dateOf(object, TAG.ProtectStopDate)
  const isUsable = isEncrypt
    ? state === 'Active' && (stop === undefined || now < stop)
    : state !== 'PreActive' && (start === undefined || start <= now)
  if (isUsable) return object
  throw new KmipRefusal(
    'WrongKeyLifecycleState',
    `the key is ${state}, or not for use at this time`,
  )
}

/** What the request says, else what the key says. */
function cipherOf(call: Call, object: ManagedObject): Cipher {
  const parameters =
    child(call.payload, TAG.CryptographicParameters) ??
    standardValue(object, TAG.CryptographicParameters) ??
    structure(TAG.CryptographicParameters, [])
  const { AES, DES3 } = CRYPTOGRAPHIC_ALGORITHM
  const own = standardValue(object, TAG.CryptographicAlgorithm)?.value
  const wanted = optionalValueAt(parameters, TAG.CryptographicAlgorithm, 'Enumeration') ?? own
  if (wanted !== own || (own !== AES && own !== DES3)) {
    throw unsupported('this server encrypts with keys of AES and Triple DES, as they are')
  }
  const mode = modeOf(optionalValueAt(parameters, TAG.BlockCipherMode, 'Enumeration'))
  const algorithm = own === AES ? 'aes' : 'des3'
  if (algorithm === 'des3' && !mode.pads) throw unsupported('Triple DES is with CBC and ECB alone')
  const block = algorithm === 'aes' ? 16 : 8
  const isGcm = mode.name === 'gcm'
  return {
    mode: mode.name,
    algorithm,
    padded: isPadded(mode.pads, optionalValueAt(parameters, TAG.PaddingMethod, 'Enumeration')),
    randomIv: optionalValueAt(parameters, TAG.RandomIV, 'Boolean') ?? false,
    ivOctets: mode.name === 'ecb' ? 0 : isGcm ? GCM_IV_OCTETS : block,
    tagOctets: isGcm ? tagOctets(parameters) : 0,
  }
}

function modeOf(mode: number | undefined): (typeof MODES)[keyof typeof MODES] {
  for (const [number, found] of Object.entries(MODES)) if (Number(number) === mode) return found
  throw unsupported('expected the mode CBC, ECB, CTR or GCM')
}

function isPadded(pads: boolean, padding: number | undefined): boolean {
  if (padding === undefined || padding === PADDING_METHOD.None) return false
  if (pads && padding === PADDING_METHOD.PKCS5) return true
  throw unsupported('expected the padding None or, with CBC and ECB, PKCS5')
}

function tagOctets(parameters: Ttlv): number {
  const octets = optionalValueAt(parameters, TAG.TagLength, 'Integer') ?? 16
  if (GCM_TAG_OCTETS.includes(octets)) return octets
  throw new KmipRefusal('GeneralFailure', 'a tag has 4, 8 or 12 to 16 octets')
}

function ivOf(cipher: Cipher, given: Uint8Array | undefined): Uint8Array {
  if (cipher.ivOctets === 0) return new Uint8Array()
  if (given === undefined) {
    throw new KmipRefusal('InvalidMessage', 'this mode needs an initialization vector')
  }
  const isRight = cipher.mode === 'gcm' ? given.length > 0 : given.length === cipher.ivOctets
  if (isRight) return given
  throw unsupported('the initialization vector has another length than the mode wants')
}

function run(
  { payload }: Call,
  cipher: Cipher,
  key: Uint8Array,
  iv: Uint8Array,
  data: Uint8Array,
): { readonly output: Uint8Array; readonly tag: Uint8Array | undefined } {
  if (cipher.mode === 'gcm') {
    const gcm = createCipheriv(gcmName(key), key, iv, { authTagLength: cipher.tagOctets })
    const additional = additionalData(payload)
    if (additional !== undefined) gcm.setAAD(additional)
    const output = joined(gcm.update(data), gcm.final())
    return { output, tag: new Uint8Array(gcm.getAuthTag()) }
  }
  return { output: block(cipher, key, iv, data, true), tag: undefined }
}

function undo(
  { payload }: Call,
  cipher: Cipher,
  key: Uint8Array,
  iv: Uint8Array,
  data: Uint8Array,
): Uint8Array {
  if (cipher.mode !== 'gcm') return block(cipher, key, iv, data, false)
  const tag = optionalValueAt(payload, TAG.AuthenticatedEncryptionTag, 'ByteString')
  if (tag === undefined || tag.length !== cipher.tagOctets) {
    throw new KmipRefusal('CryptographicFailure', 'expected a tag of the length that is asked for')
  }
  const gcm = createDecipheriv(gcmName(key), key, iv, { authTagLength: cipher.tagOctets })
  gcm.setAuthTag(tag)
  const additional = additionalData(payload)
  if (additional !== undefined) gcm.setAAD(additional)
  const first = gcm.update(data)
  try {
    return joined(first, gcm.final())
  } catch (cause) {
    throw failed(cause)
  } finally {
    first.fill(0)
  }
}

function block(
  { mode, algorithm, padded }: Cipher,
  key: Uint8Array,
  iv: Uint8Array,
  data: Uint8Array,
  isEncrypt: boolean,
): Uint8Array {
  const name = algorithm === 'aes' ? `aes-${key.length * 8}-${mode}` : `des-ede3-${mode}`
  const wanted = algorithm === 'aes' ? [16, 24, 32] : [24]
  // With two keys, the first is used again in the third place.
  const full = algorithm === 'des3' && key.length === 16 ? joined(key, key.subarray(0, 8)) : key
  if (!wanted.includes(full.length)) throw unsupported('the key has another length than is used')
  const withIv = mode === 'ecb' ? null : iv
  const cipher = isEncrypt
    ? createCipheriv(name === 'des-ede3-ecb' ? 'des-ede3' : name, full, withIv)
    : createDecipheriv(name === 'des-ede3-ecb' ? 'des-ede3' : name, full, withIv)
  cipher.setAutoPadding(padded)
  const first = cipher.update(data)
  try {
    return joined(first, cipher.final())
  } catch (cause) {
    throw failed(cause)
  } finally {
    first.fill(0)
    if (full !== key) full.fill(0)
  }
}

function gcmName(key: Uint8Array): 'aes-128-gcm' | 'aes-192-gcm' | 'aes-256-gcm' {
  if (key.length === 16) return 'aes-128-gcm'
  if (key.length === 24) return 'aes-192-gcm'
  if (key.length === 32) return 'aes-256-gcm'
  throw unsupported('the key has another length than is used')
}

/** Takes from Usage Limits what this use needs. @see KMIP 2.1 Specification, clause 4.64 */
function consume(call: Call, object: ManagedObject, octets: number): void {
  const limits = standardValue(object, TAG.UsageLimits)
  if (limits === undefined) return
  const left = valueAt(limits, TAG.UsageLimitsCount, 'LongInteger')
  const unit = valueAt(limits, TAG.UsageLimitsUnit, 'Enumeration')
  const needed = unit === USAGE_LIMITS_UNIT.Byte ? BigInt(octets) : 1n
  if (needed > left) {
    // The test cases of the standard want this reason in all versions.
    throw new KmipRefusal('PermissionDenied', 'the usage limits of the key are reached')
  }
  const after = structure(TAG.UsageLimits, [
    child(limits, TAG.UsageLimitsTotal),
    { tag: TAG.UsageLimitsCount, type: 'LongInteger', value: left - needed },
    child(limits, TAG.UsageLimitsUnit),
  ])
  call.store.put(withValues(object, [after], call.now))
}

function additionalData(payload: Ttlv): Uint8Array | undefined {
  return optionalValueAt(payload, TAG.AuthenticatedEncryptionAdditionalData, 'ByteString')
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts))
}

function unsupported(message: string): KmipRefusal {
  return new KmipRefusal('UnsupportedCryptographicParameters', message)
}

function failed(cause: unknown): KmipRefusal {
  return new KmipRefusal('CryptographicFailure', 'the data does not fit the key', cause)
}
