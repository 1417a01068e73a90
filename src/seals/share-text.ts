import { createHash } from 'node:crypto'
import { concat, equalBytes, timingSafeEqual, toHex, utf8 } from '../core/bytes.js'
import { PlatformError } from '../core/errors.js'
import { Secret } from '../core/secret.js'
import { isPlan, MOST_SHARES } from './shamir.js'

/**
 * A share as its holder keeps it: `sgl-share-` and 72 letters and digits (base32, lower case) in groups of six.
 *
 * | octets | what |
 * |---|---|
 * | 1 | version, 1 |
 * | 5 | set id: the same for all shares that were made together |
 * | 1 | threshold |
 * | 1 | index, from 1 |
 * | 32 | value |
 * | 5 | checksum: the first octets of SHA-256 over `sigillo share v1` and all before |
 *
 * The checksum finds mistakes in writing, not forgeries.
 */
export interface Share {
  /** 10 hexadecimal digits. */
  readonly setId: string
  readonly threshold: number
  readonly index: number
  readonly value: Secret
}

export const SET_ID_OCTETS = 5
const VERSION = 1
const VALUE_OCTETS = 32
const CHECKSUM_OCTETS = 5
const HEADER_OCTETS = 1 + SET_ID_OCTETS + 1 + 1
const ALL_OCTETS = HEADER_OCTETS + VALUE_OCTETS + CHECKSUM_OCTETS
const PREFIX = 'sgl-share-'
const GROUP = 6
const DOMAIN = utf8('sigillo share v1')
/** @see RFC 4648, section 6 */
const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567'
const CHARACTERS = (ALL_OCTETS * 8) / 5

/** The text of a share. A string cannot be erased: it is for being shown once. */
export function encodeShare(share: Omit<Share, 'value'> & { readonly value: Uint8Array }): string {
  const octets = concat(
    Uint8Array.of(VERSION),
    Uint8Array.from(Buffer.from(share.setId, 'hex')),
    Uint8Array.of(share.threshold, share.index),
    share.value,
  )
  const whole = concat(octets, checksumOf(octets))
  const letters = base32(whole)
  octets.fill(0)
  whole.fill(0)
  const groups = letters.match(new RegExp(`.{${GROUP}}`, 'g')) ?? []
  return PREFIX + groups.join('-')
}

/**
 * Reads a share as a person gives it: capitals, blanks and further hyphens do not matter.
 *
 * @throws PlatformError `SHARE_FORMAT` for text of another form or version, `SHARE_CHECKSUM` where a letter was changed
 */
export function parseShare(text: string): Share {
  const plain = text.toLowerCase().replace(/[\s-]/g, '')
  const prefix = PREFIX.replaceAll('-', '')
  if (!plain.startsWith(prefix)) throw unreadable(`expected ${PREFIX}…`)
  const letters = plain.slice(prefix.length)
  if (letters.length !== CHARACTERS) {
    throw unreadable(`expected ${CHARACTERS} letters after ${PREFIX}, found ${letters.length}`)
  }
  const octets = fromBase32(letters)
  try {
    const content = octets.subarray(0, -CHECKSUM_OCTETS)
    if (!equalBytes(checksumOf(content), octets.subarray(-CHECKSUM_OCTETS))) {
      throw new PlatformError('SHARE_CHECKSUM', 'the checksum of the share is wrong: a slip of pen')
    }
    const [version] = content
    if (version !== VERSION) throw unreadable(`expected version ${VERSION}, found ${version}`)
    const threshold = content[1 + SET_ID_OCTETS] ?? 0
    const index = content[2 + SET_ID_OCTETS] ?? 0
    if (!isPlan(threshold, MOST_SHARES) || index < 1 || index > MOST_SHARES) {
      throw unreadable(`found share ${index} of a threshold of ${threshold}`)
    }
    return {
      setId: toHex(content.subarray(1, 1 + SET_ID_OCTETS)),
      threshold,
      index,
      value: new Secret(content.slice(HEADER_OCTETS)),
    }
  } finally {
    octets.fill(0)
  }
}

/**
 * What the seal keeps of each share, to tell a forged one by: it says nothing of the value, which is 256 random bits.
 *
 * @returns SHA-256, hexadecimal
 */
export function commitmentOf(share: Omit<Share, 'value'> & { readonly value: Uint8Array }): string {
  return createHash('sha256')
    .update(utf8('sigillo share commitment v1'))
    .update(utf8(`${share.setId} ${share.threshold} ${share.index} `))
    .update(share.value)
    .digest('hex')
}

/** Whether a share is the one that was given out. */
export function isCommitted(share: Share, commitment: string): boolean {
  const found = share.value.use((value) => commitmentOf({ ...share, value }))
  return timingSafeEqual(utf8(found), utf8(commitment))
}

function checksumOf(octets: Uint8Array): Uint8Array {
  const digest = createHash('sha256').update(DOMAIN).update(octets).digest()
  return Uint8Array.from(digest.subarray(0, CHECKSUM_OCTETS))
}

function unreadable(message: string): PlatformError {
  return new PlatformError('SHARE_FORMAT', message)
}

function base32(octets: Uint8Array): string {
  let text = ''
  let bits = 0
  let value = 0
  for (const octet of octets) {
    value = ((value << 8) | octet) & 0xfff
    bits += 8
    while (bits >= 5) {
      bits -= 5
      text += ALPHABET[(value >> bits) & 31]
    }
  }
  return text
}

function fromBase32(letters: string): Uint8Array {
  const octets = new Uint8Array((letters.length * 5) / 8)
  let place = 0
  let bits = 0
  let value = 0
  for (const letter of letters) {
    const digit = ALPHABET.indexOf(letter)
    if (digit < 0) throw unreadable('expected letters a to z and digits 2 to 7')
    value = ((value << 5) | digit) & 0xfff
    bits += 5
    if (bits >= 8) {
      bits -= 8
      octets[place] = (value >> bits) & 0xff
      place += 1
    }
  }
  return octets
}
