import { equalBytes } from '../../core/bytes.js'
import { DecodeError } from '../../core/errors.js'
import { ByteReader } from '../../core/reader.js'

/** Octets of a LUKS1 header without its key material. */
export const LUKS_HEADER_OCTETS = 592

const MAGIC = Uint8Array.of(0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe)
const SECTOR_OCTETS = 512

export interface LuksHeader {
  readonly cipher: string
  readonly mode: string
  readonly hash: string
  readonly keyOctets: number
  readonly payloadOctets: number
  readonly volumeId: string
  /** The most rounds of PBKDF2 that a key slot in use takes, or the digest of the key. */
  readonly rounds: number
  /** The most stripes that a key slot in use is split into. */
  readonly stripes: number
}

/** More rounds than that are none of ours, and more stripes neither: they cost whoever opens the volume time and memory. */
export const MOST_ROUNDS = 10_000
const STRIPES = 4000

const SLOTS = 8
const SLOT_IN_USE = 0x00ac_71f3

/**
 * Reads the start of a LUKS1 volume. Attacker-controlled: nothing of it is authenticated.
 *
 * @throws DecodeError
 * @see LUKS On-Disk Format Specification 1.2.3, section 2
 */
export function parseLuksHeader(octets: Uint8Array): LuksHeader {
  const reader = new ByteReader(octets, 'big')
  if (!equalBytes(reader.take(MAGIC.length), MAGIC)) {
    throw new DecodeError('DECODE_VALUE', 0, 'expected the magic of LUKS')
  }
  const version = reader.u16()
  if (version !== 1) {
    throw new DecodeError('DECODE_VALUE', 6, `expected version 1 of LUKS, found ${version}`)
  }
  const cipher = text(reader.take(32))
  const mode = text(reader.take(32))
  const hash = text(reader.take(32))
  const payloadOctets = reader.u32() * SECTOR_OCTETS
  const keyOctets = reader.u32()
  reader.take(20 + 32)
  const digestRounds = reader.u32()
  const volumeId = text(reader.take(40))
  const inUse = Array.from({ length: SLOTS }, () => readSlot(reader)).filter(
    ({ state }) => state === SLOT_IN_USE,
  )
  return {
    ...{ cipher, mode, hash, payloadOctets, keyOctets, volumeId },
    rounds: Math.max(digestRounds, ...inUse.map(({ rounds }) => rounds)),
    stripes: Math.max(0, ...inUse.map(({ stripes }) => stripes)),
  }
}

function readSlot(reader: ByteReader) {
  const state = reader.u32()
  const rounds = reader.u32()
  // salt, and where the material of the key is
  reader.take(32 + 4)
  return { state, rounds, stripes: reader.u32() }
}

function text(octets: Uint8Array): string {
  const end = octets.indexOf(0)
  return Buffer.from(end < 0 ? octets : octets.subarray(0, end)).toString('latin1')
}

/** The header that `cryptsetup luksFormat` makes for a disk of ours. */
export function expectedLuksHeader(volumeId: string): Omit<LuksHeader, 'rounds'> {
  return {
    cipher: 'aes',
    mode: 'xts-plain64',
    hash: 'sha256',
    keyOctets: 64,
    payloadOctets: LUKS_PAYLOAD_OCTETS,
    volumeId,
    stripes: STRIPES,
  }
}

/** Where the data of a volume with keys of 512 bits begins: eight slots of 4000 stripes, rounded up to 1 MiB. */
export const LUKS_PAYLOAD_OCTETS = 2 * 1024 * 1024
