import { createHash } from 'node:crypto'
import { toBase64url, utf8 } from '../../core/bytes.js'

const PREFIX = 'sgl_en_'

/** The text of a ticket: a recognisable prefix and 256 random bits. */
export function ticketText(random: Uint8Array): string {
  if (random.length !== 32) throw new TypeError('a ticket takes 32 random octets')
  return PREFIX + toBase64url(random)
}

/** What is kept of a ticket. It has 256 random bits, so a plain hash cannot be guessed back. */
export function ticketHash(ticket: string): string {
  return createHash('sha256').update(utf8(ticket)).digest('hex')
}
