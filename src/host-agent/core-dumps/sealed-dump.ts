import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
} from 'node:crypto'
import { concat, equalBytes, fromHex, utf8 } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { ByteReader, ByteWriter } from '../../core/reader.js'
import type { Secret } from '../../core/secret.js'

const MAGIC = utf8('SGCD')
const VERSION = 1
const LABEL = utf8('sigillo core dump v1')
const KEY_OCTETS = 32
const KEY_ID_OCTETS = 16
const TAG_OCTETS = 16
/** Plain octets in all chunks but the last one. */
const CHUNK_OCTETS = 64 * 1024
const MAX_INFO_OCTETS = 1024
const FIXED_OCTETS = MAGIC.length + 1 + KEY_ID_OCTETS + KEY_OCTETS + 2
/** DER before the 32 octets of a key. @see RFC 8410 */
const SPKI = fromHex('302a300506032b656e032100')
const PKCS8 = fromHex('302e020100300506032b656e04220420')

export const MAX_DUMP_HEADER_OCTETS = FIXED_OCTETS + MAX_INFO_OCTETS

export interface DumpHeader {
  /** All of it: it is authenticated with every chunk. */
  readonly octets: Uint8Array
  /** Of the key that it was sealed for. */
  readonly keyId: Uint8Array
  readonly ephemeral: Uint8Array
  /** Whose dump it is, for people. */
  readonly info: string
}

/**
 * Encrypts a dump as it comes, for whoever has the private key: nothing secret is needed, and nothing is kept.
 *
 * Header: `SGCD` ‖ version (1 octet) ‖ id of the key (16) ‖ ephemeral X25519 key (32) ‖ length of the words (2, big-endian) ‖
 * words. Then chunks of 64 KiB, the last one shorter or as long, each AES-256-GCM with its tag (16); the nonce is 7 zeros ‖ number of the chunk
 * (4) ‖ 1 for the last one, else 0, and the header is authenticated with each. So none can be left out, moved or added.
 *
 * Content key: HKDF-SHA-256 of the X25519 secret, salt: ephemeral ‖ public key, info: `sigillo core dump v1`. It is of one
 * dump, so that nonces never meet again.
 *
 * @see RFC 7748, RFC 5869; Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
 *   Misuse-Resistance" (STREAM)
 */
export async function* sealDump(
  publicKey: Uint8Array,
  info: string,
  plain: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const pair = generateKeyPairSync('x25519')
  const ephemeral = rawPublic(pair.publicKey)
  const words = utf8(info).subarray(0, MAX_INFO_OCTETS)
  const writer = new ByteWriter('big').put(MAGIC).u8(VERSION).put(dumpKeyId(publicKey))
  const header = writer.put(ephemeral).u16(words.length).put(words).finish()
  const key = deriveKey(pair.privateKey, publicKey, ephemeral, publicKey)
  try {
    yield header
    for await (const { octets, index, isLast } of chunksOf(plain, CHUNK_OCTETS)) {
      yield sealChunk(key, header, index, isLast, octets)
    }
  } finally {
    key.fill(0)
  }
}

/** @throws PlatformError `CORE_DUMP` for what is no header, or not all of it */
export function parseDumpHeader(start: Uint8Array): DumpHeader {
  try {
    const reader = new ByteReader(start, 'big')
    if (!equalBytes(reader.take(MAGIC.length), MAGIC)) throw new Error('no magic')
    const version = reader.u8()
    if (version !== VERSION) throw new Error(`version ${version}`)
    const keyId = reader.take(KEY_ID_OCTETS)
    const ephemeral = reader.take(KEY_OCTETS)
    const length = reader.u16()
    if (length > MAX_INFO_OCTETS) throw new Error(`${length} octets of words`)
    const info = Buffer.from(reader.take(length)).toString('utf8')
    return { octets: start.slice(0, FIXED_OCTETS + length), keyId, ephemeral, info }
  } catch (cause) {
    throw new PlatformError('CORE_DUMP', 'expected a core dump that was sealed here', { cause })
  }
}

/** The content key of one dump. The caller erases it. @throws PlatformError `CORE_DUMP` for another key's dump */
export function contentKeyOf(privateKey: Secret, header: DumpHeader): Uint8Array {
  const key = privateKey.use((raw) =>
    createPrivateKey({ key: Buffer.from(concat(PKCS8, raw)), format: 'der', type: 'pkcs8' }),
  )
  const publicKey = rawPublic(createPublicKey(key))
  if (!equalBytes(dumpKeyId(publicKey), header.keyId)) {
    throw new PlatformError('CORE_DUMP', 'the core dump was sealed for another key')
  }
  return deriveKey(key, header.ephemeral, header.ephemeral, publicKey)
}

/**
 * The plain octets of a dump. What comes before an error is authentic; what is to come after it is not there.
 *
 * @param sealed all that follows the header
 * @throws PlatformError `CORE_DUMP` where a chunk was altered, moved, or is missing
 */
export async function* openDump(
  key: Uint8Array,
  header: DumpHeader,
  sealed: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  for await (const { octets, index, isLast } of chunksOf(sealed, CHUNK_OCTETS + TAG_OCTETS)) {
    yield openChunk(key, header, index, isLast, octets)
  }
}

interface Chunk {
  readonly octets: Uint8Array
  readonly index: number
  readonly isLast: boolean
}

/** Cuts octets that come in any pieces into chunks of one size; the last has what is left, which may be nothing. */
async function* chunksOf(pieces: AsyncIterable<Uint8Array>, size: number): AsyncGenerator<Chunk> {
  let held: Uint8Array = new Uint8Array()
  let index = 0
  for await (const piece of pieces) {
    held = concat(held, piece)
    while (held.length > size) {
      yield { octets: held.subarray(0, size), index, isLast: false }
      held = held.slice(size)
      index += 1
    }
  }
  yield { octets: held, index, isLast: true }
}

/** A new key: the public half seals, the private one is for its owner to have wrapped. */
export function makeDumpKey(): { readonly publicKey: Uint8Array; readonly privateKey: Uint8Array } {
  const pair = generateKeyPairSync('x25519')
  const pkcs8 = pair.privateKey.export({ format: 'der', type: 'pkcs8' })
  const privateKey = new Uint8Array(pkcs8.subarray(PKCS8.length))
  pkcs8.fill(0)
  return { publicKey: rawPublic(pair.publicKey), privateKey }
}

export function dumpKeyId(publicKey: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(publicKey).digest().subarray(0, KEY_ID_OCTETS))
}

function deriveKey(
  own: KeyObject,
  other: Uint8Array,
  ephemeral: Uint8Array,
  publicKey: Uint8Array,
): Uint8Array {
  const peer = createPublicKey({
    key: Buffer.from(concat(SPKI, other)),
    format: 'der',
    type: 'spki',
  })
  const secret = diffieHellman({ privateKey: own, publicKey: peer })
  try {
    const salt = concat(ephemeral, publicKey)
    return new Uint8Array(hkdfSync('sha256', secret, salt, LABEL, KEY_OCTETS))
  } finally {
    secret.fill(0)
  }
}

function sealChunk(
  key: Uint8Array,
  header: Uint8Array,
  index: number,
  isLast: boolean,
  plain: Uint8Array,
): Uint8Array {
  const cipher = createCipheriv('aes-256-gcm', key, nonceOf(index, isLast))
  cipher.setAAD(header)
  return concat(cipher.update(plain), cipher.final(), cipher.getAuthTag())
}

function openChunk(
  key: Uint8Array,
  { octets }: DumpHeader,
  index: number,
  isLast: boolean,
  sealed: Uint8Array,
): Uint8Array {
  try {
    const end = sealed.length - TAG_OCTETS
    const options = { authTagLength: TAG_OCTETS }
    const decipher = createDecipheriv('aes-256-gcm', key, nonceOf(index, isLast), options)
    decipher.setAAD(octets)
    decipher.setAuthTag(sealed.subarray(end))
    return concat(decipher.update(sealed.subarray(0, end)), decipher.final())
  } catch (cause) {
    const message = `chunk ${index} of the core dump was altered, or the dump is not whole`
    throw new PlatformError('CORE_DUMP', message, { cause })
  }
}

/** @throws RangeError past 2^32 chunks, which are 256 TiB */
function nonceOf(index: number, isLast: boolean): Uint8Array {
  return new ByteWriter('big')
    .put(new Uint8Array(7))
    .u32(index)
    .u8(isLast ? 1 : 0)
    .finish()
}

function rawPublic(key: KeyObject): Uint8Array {
  return new Uint8Array(key.export({ format: 'der', type: 'spki' }).subarray(SPKI.length))
}
