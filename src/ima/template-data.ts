import { toHex, view } from '../core/bytes.js'
import { DecodeError } from '../core/errors.js'
import { ByteReader } from '../core/reader.js'
import type { ImaDigest, ImaEntry, ImaField } from './entry.js'

/** In the order of the template. */
export type ImaFields = readonly Uint8Array[]

export const LEGACY_DIGEST_OCTETS = 20
/** The legacy template hashes the path in a field of fixed size. */
const LEGACY_PATH_OCTETS = 256
/** Older kernels write this many zeros for a violation, whatever the algorithm. */
const VIOLATION_OCTETS = 20
const PREFIX = /^([a-z0-9_-]{1,32}):$/
const PREFIX_V2 = /^(ima|verity):([a-z0-9_-]{1,32}):$/
/** Names of the kernel, older ones too, with octets. @see Linux, crypto/hash_info.c */
const DIGEST_OCTETS: ReadonlyMap<string, number> = new Map([
  ['md5', 16],
  ['sha1', 20],
  ['rmd160', 20],
  ['sha224', 28],
  ['sha256', 32],
  ['sha384', 48],
  ['sha512', 64],
  ['sm3', 32],
  ['sm3-256', 32],
  ['sm3_256', 32],
  ['streebog256', 32],
  ['streebog512', 64],
  ['sha3-256', 32],
  ['sha3-384', 48],
  ['sha3-512', 64],
])
const SIZE_OCTETS = 4
const NONE = new Uint8Array()

/**
 * What the kernel hashes: each field with its length before it; in the legacy template the digest, then the path padded
 * with zeros to 256 octets.
 *
 * @see Linux, security/integrity/ima/ima_crypto.c, ima_calc_field_array_hash_tfm
 */
export function encodeTemplateData(template: string, fields: ImaFields): Uint8Array {
  if (template === 'ima') {
    const [digest = NONE, path = NONE] = fields
    const data = new Uint8Array(LEGACY_DIGEST_OCTETS + LEGACY_PATH_OCTETS)
    data.set(digest)
    data.set(path.subarray(0, LEGACY_PATH_OCTETS), LEGACY_DIGEST_OCTETS)
    return data
  }
  let length = 0
  for (const field of fields) length += SIZE_OCTETS + field.length
  const data = new Uint8Array(length)
  const sizes = new DataView(data.buffer)
  let at = 0
  for (const field of fields) {
    sizes.setUint32(at, field.length, true)
    data.set(field, at + SIZE_OCTETS)
    at += SIZE_OCTETS + field.length
  }
  return data
}

/** The fields of template data as the binary list has them, to their end. */
export function readTemplateFields(names: readonly ImaField[], data: Uint8Array): ImaFields {
  const reader = new ByteReader(data, 'little')
  const fields: Uint8Array[] = []
  for (const _ of names) fields.push(reader.take(reader.u32()))
  reader.end('the template data')
  return fields
}

/** The digest of an entry. @throws DecodeError `IMALOG_ENTRY` */
export function readDigest(
  name: ImaField | undefined,
  [octets = NONE]: ImaFields,
  violation: boolean,
  at: number,
): ImaDigest {
  if (name === 'd') {
    if (octets.length === LEGACY_DIGEST_OCTETS)
      return { kind: 'file', algorithm: 'sha1', digest: octets }
    throw unreadable(octets, at)
  }
  const end = octets.indexOf(0)
  const prefix = view(octets.subarray(0, Math.max(0, end))).toString('latin1')
  const [kind, algorithm] =
    name === 'd-ngv2' ? (PREFIX_V2.exec(prefix)?.slice(1) ?? []) : ['ima', PREFIX.exec(prefix)?.[1]]
  const digest = octets.subarray(end + 1)
  const size = DIGEST_OCTETS.get(algorithm ?? '')
  const isWhole = digest.length === size || (violation && digest.length === VIOLATION_OCTETS)
  if (algorithm === undefined || size === undefined || !isWhole) throw unreadable(octets, at)
  return { kind: kind === 'verity' ? 'verity' : 'file', algorithm, digest }
}

export function readPath([, path = NONE]: ImaFields): string {
  return view(path.at(-1) === 0 ? path.subarray(0, -1) : path).toString('utf8')
}

/** What some templates have besides digest and path; nothing for the others. */
export function readExtras(
  names: readonly ImaField[],
  fields: ImaFields,
): Pick<ImaEntry, 'signature' | 'buffer' | 'moduleSignature'> {
  const extras: { signature?: Uint8Array; buffer?: Uint8Array; moduleSignature?: Uint8Array } = {}
  for (const [index, name] of names.entries()) {
    const octets = fields[index]
    if (octets === undefined || octets.length === 0) continue
    if (name === 'sig') extras.signature = octets
    else if (name === 'buf') extras.buffer = octets
    else if (name === 'modsig') extras.moduleSignature = octets
  }
  return extras
}

function unreadable(octets: Uint8Array, at: number): DecodeError {
  const found = toHex(octets.subarray(0, 40))
  return new DecodeError(
    'IMALOG_ENTRY',
    at,
    `expected a known algorithm and a digest of its size, found ${found}`,
  )
}
