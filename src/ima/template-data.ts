import { concat, toHex, view } from '../core/bytes.js'
import { DecodeError } from '../core/errors.js'
import { ByteReader, ByteWriter } from '../core/reader.js'
import {
  IMA_TEMPLATES,
  type ImaDigest,
  type ImaEntry,
  type ImaField,
  type ImaTemplate,
} from './entry.js'

/** In the order of the template. */
export type ImaFields = readonly Uint8Array[]

const LEGACY_DIGEST_OCTETS = 20
/** The legacy template hashes the path in a field of fixed size. */
const LEGACY_PATH_OCTETS = 256
const MAX_DIGEST_OCTETS = 64
const ALGORITHM = /^(?:[a-z]{1,16}:)?([a-z0-9_-]{1,32}):$/
/** Names of the kernel. @see Linux, crypto/hash_info.c, hash_algo_name */
const KNOWN_ALGORITHMS: ReadonlySet<string> = new Set([
  ...['md5', 'sha1', 'rmd160', 'sha224', 'sha256', 'sha384', 'sha512'],
  ...[
    'sm3',
    'sm3-256',
    'sm3_256',
    'streebog256',
    'streebog512',
    'sha3-256',
    'sha3-384',
    'sha3-512',
  ],
])
const NONE = new Uint8Array()

/**
 * What the kernel hashes: each field with its length before it; in the legacy template the digest, then the path padded
 * with zeros to 256 octets.
 *
 * @see Linux, security/integrity/ima/ima_crypto.c, ima_calc_field_array_hash_tfm
 */
export function encodeTemplateData(template: ImaTemplate, fields: ImaFields): Uint8Array {
  if (template === 'ima') {
    const [digest = NONE, path = NONE] = fields
    const padding = new Uint8Array(Math.max(0, LEGACY_PATH_OCTETS - path.length))
    return concat(digest, path.subarray(0, LEGACY_PATH_OCTETS), padding)
  }
  const writer = new ByteWriter('little')
  for (const field of fields) writer.u32(field.length).put(field)
  return writer.finish()
}

/** The fields of template data as the binary list has them, to their end. */
export function readTemplateFields(template: ImaTemplate, data: Uint8Array): ImaFields {
  const reader = new ByteReader(data, 'little')
  const fields = IMA_TEMPLATES[template].map(() => reader.take(reader.u32()))
  reader.end('the template data')
  return fields
}

/** Digest and path of an entry. Throws `DecodeError` where they cannot be read. */
export function readDigest(
  template: ImaTemplate,
  [digest = NONE]: ImaFields,
  at: number,
): ImaDigest {
  return template === 'ima' ? { algorithm: 'sha1', digest } : readPrefixed(digest, at)
}

export function readPath([, path = NONE]: ImaFields): string {
  return view(withoutNul(path)).toString('utf8')
}

/** What some templates have besides digest and path; nothing for the others. */
export function readExtras(
  template: ImaTemplate,
  fields: ImaFields,
): Pick<ImaEntry, 'signature' | 'buffer' | 'moduleSignature'> | undefined {
  if (fields.length === 2) return undefined
  const [, , third = NONE, , fifth = NONE] = fields
  const kind: ImaField | undefined = IMA_TEMPLATES[template][2]
  return {
    ...(kind === 'sig' && third.length > 0 ? { signature: third } : {}),
    ...(kind === 'buf' ? { buffer: third } : {}),
    ...(fifth.length > 0 ? { moduleSignature: fifth } : {}),
  }
}

/** `sha256:` and NUL before the digest; in templates of version 2 the kind of digest before that. */
function readPrefixed(octets: Uint8Array, at: number): ImaDigest {
  const end = octets.indexOf(0)
  const prefix = view(octets.subarray(0, Math.max(0, end))).toString('latin1')
  const algorithm = ALGORITHM.exec(prefix)?.[1]
  const digest = octets.subarray(end + 1)
  const isKnown = algorithm !== undefined && KNOWN_ALGORITHMS.has(algorithm)
  if (!isKnown || digest.length === 0 || digest.length > MAX_DIGEST_OCTETS) {
    const found = toHex(octets.subarray(0, 40))
    throw new DecodeError(
      'IMALOG_ENTRY',
      at,
      `expected a known algorithm and a digest, found ${found}`,
    )
  }
  return { algorithm, digest }
}

function withoutNul(octets: Uint8Array): Uint8Array {
  return octets.at(-1) === 0 ? octets.subarray(0, -1) : octets
}

export { LEGACY_DIGEST_OCTETS }
