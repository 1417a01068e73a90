import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto'
import { concat, timingSafeEqual } from '../../core/bytes.js'
import { DecodeError } from '../../core/errors.js'
import { randomOctets } from '../../core/random.js'
import { ByteReader, ByteWriter } from '../../core/reader.js'
import { Secret } from '../../core/secret.js'

/** Largest state that is read; a TPM with full NV memory stays well below. */
export const MAX_VTPM_STATE_OCTETS = 1024 * 1024

const VERSION = 2
const LEAST_VERSION = 1
const HEADER_OCTETS = 10
/** Encrypted, with a key of 256 bits. */
const FLAGS_ENCRYPTED = 0x0009
const FLAGS_PLAIN = 0x0000
const TAG_PLAIN = 1
const TAG_CIPHERTEXT = 2
const TAG_HMAC = 3
const TAG_IV = 6
const HMAC_OCTETS = 32
const IV_STORED_OCTETS = 32
const IV_USED_OCTETS = 16
const BLOCK_OCTETS = 16
/** swtpm pads to whole keys, not to whole blocks. */
const KEY_OCTETS = 32

/** Permanent state of a vTPM as swtpm stores it, still encrypted. */
export interface VtpmState {
  readonly ciphertext: Uint8Array
  readonly iv: Uint8Array
  readonly hmac: Uint8Array
}

/**
 * Reads a state file of swtpm 0.7: header (version, least version, header size, flags, total size), then elements of
 * tag, size and octets. Untrusted until `verifyVtpmState`.
 *
 * @throws DecodeError on anything but a state encrypted with a key of 256 bits: a plain one has the seeds of the TPM in
 *   the clear
 */
export function parseVtpmState(octets: Uint8Array): VtpmState {
  if (octets.length > MAX_VTPM_STATE_OCTETS) {
    throw new DecodeError('DECODE_TOO_LARGE', 0, `expected at most ${MAX_VTPM_STATE_OCTETS} octets`)
  }
  const reader = new ByteReader(octets, 'big')
  expectValue('version', VERSION, reader.u8(), 0)
  expectValue('least version', LEAST_VERSION, reader.u8(), 1)
  expectValue('header size', HEADER_OCTETS, reader.u16(), 2)
  expectValue('flags', FLAGS_ENCRYPTED, reader.u16(), 4)
  const totalSize = reader.u32()
  if (totalSize > octets.length) {
    throw new DecodeError(
      'DECODE_TRUNCATED',
      octets.length,
      `expected ${totalSize} octets in the state of the virtual TPM`,
    )
  }
  expectValue('total size', octets.length, totalSize, 6)
  const elements = new Map<number, Uint8Array>()
  while (reader.remaining > 0) {
    const offset = reader.offset
    const tag = reader.u16()
    if (elements.has(tag)) {
      throw new DecodeError('DECODE_VALUE', offset, `expected one element of tag ${tag}`)
    }
    elements.set(tag, reader.take(reader.u32()))
  }
  const element = (tag: number) => elements.get(tag) ?? new Uint8Array()
  const state = {
    ciphertext: element(TAG_CIPHERTEXT),
    iv: element(TAG_IV),
    hmac: element(TAG_HMAC),
  }
  expectValue('number of elements', 3, elements.size, HEADER_OCTETS)
  expectValue('size of HMAC', HMAC_OCTETS, state.hmac.length, HEADER_OCTETS)
  expectValue('size of IV', IV_STORED_OCTETS, state.iv.length, HEADER_OCTETS)
  expectValue(
    'octets after the last block',
    0,
    state.ciphertext.length % BLOCK_OCTETS,
    HEADER_OCTETS,
  )
  return state
}

/** Whether these octets begin as a state file that is not encrypted: with the seeds of the TPM in the clear. */
export function isPlainVtpmState(octets: Uint8Array): boolean {
  const [version, , , , flagsHigh, flagsLow] = octets
  return version === VERSION && flagsHigh === 0 && flagsLow === 0
}

/**
 * Whether the state was written under this key: HMAC-SHA-256 over ciphertext and IV. Says nothing of its age: an older
 * state of the same TPM verifies too.
 */
export function verifyVtpmState(state: VtpmState, dek: Secret): boolean {
  const hmac = dek.use((key) =>
    createHmac('sha256', key).update(concat(state.ciphertext, state.iv)).digest(),
  )
  return timingSafeEqual(hmac, state.hmac)
}

/** The plain state with its padding, of a state that verified. It has the seeds of the TPM: dispose of it. */
export function decryptVtpmState(state: VtpmState, dek: Secret): Secret {
  return dek.use((key) => {
    const decipher = createDecipheriv('aes-256-cbc', key, state.iv.subarray(0, IV_USED_OCTETS))
    decipher.setAutoPadding(false)
    const plain = decipher.update(state.ciphertext)
    decipher.final()
    return new Secret(plain)
  })
}

/**
 * The plain state, padded as swtpm pads it before it encrypts, of a state file that is not encrypted. Untrusted: nothing
 * authenticates it.
 *
 * @throws DecodeError
 */
export function parsePlainVtpmState(octets: Uint8Array): Secret {
  const reader = new ByteReader(octets, 'big')
  expectValue('version', VERSION, reader.u8(), 0)
  expectValue('least version', LEAST_VERSION, reader.u8(), 1)
  expectValue('header size', HEADER_OCTETS, reader.u16(), 2)
  expectValue('flags', FLAGS_PLAIN, reader.u16(), 4)
  expectValue('total size', octets.length, reader.u32(), 6)
  expectValue('tag', TAG_PLAIN, reader.u16(), HEADER_OCTETS)
  const plain = reader.take(reader.u32())
  expectValue('octets behind the state', 0, reader.remaining, octets.length - reader.remaining)
  const padding = KEY_OCTETS - (plain.length % KEY_OCTETS)
  const padded = new Uint8Array(plain.length + padding).fill(padding)
  padded.set(plain)
  return new Secret(padded)
}

/**
 * A state file with this plain state, as `decryptVtpmState` gave it, under another key. The padding of swtpm (to whole
 * keys of 32 octets) is in it already.
 */
export function encryptVtpmState(plain: Secret, dek: Secret): Uint8Array {
  const iv = randomOctets(IV_STORED_OCTETS)
  return dek.use((key) => {
    const cipher = createCipheriv('aes-256-cbc', key, iv.subarray(0, IV_USED_OCTETS))
    cipher.setAutoPadding(false)
    const ciphertext = plain.use((octets) => concat(cipher.update(octets), cipher.final()))
    const hmac = createHmac('sha256', key).update(concat(ciphertext, iv)).digest()
    const elements = new ByteWriter('big')
    for (const [tag, octets] of [
      [TAG_CIPHERTEXT, ciphertext],
      [TAG_HMAC, hmac],
      [TAG_IV, iv],
    ] as const) {
      elements.u16(tag).u32(octets.length).put(octets)
    }
    const body = elements.finish()
    const header = new ByteWriter('big').u8(VERSION).u8(LEAST_VERSION).u16(HEADER_OCTETS)
    header.u16(FLAGS_ENCRYPTED).u32(HEADER_OCTETS + body.length)
    return concat(header.finish(), body)
  })
}

function expectValue(what: string, expected: number, found: number, offset: number): void {
  if (found !== expected) {
    throw new DecodeError(
      'DECODE_VALUE',
      offset,
      `expected ${what} ${expected} in the state of the virtual TPM, found ${found}`,
    )
  }
}
