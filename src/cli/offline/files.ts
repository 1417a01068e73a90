import { readFileSync, statSync } from 'node:fs'
import { DecodeError, messageOf, PlatformError } from '../../core/errors.js'

/**
 * The octets of a file that a person named.
 *
 * @throws PlatformError `CONFIG_UNREADABLE`; DecodeError `DECODE_TOO_LARGE` before anything is read
 */
export function readOctets(file: string, maxOctets: number): Uint8Array {
  try {
    const { size } = statSync(file)
    if (size > maxOctets) {
      const message = `expected ${file} to have at most ${maxOctets} octets, found ${size}`
      throw new DecodeError('DECODE_TOO_LARGE', 0, message)
    }
    // Files of the kernel say that they have no octets: the limit is checked again on what was read.
    const octets = new Uint8Array(readFileSync(file))
    if (octets.length <= maxOctets) return octets
  } catch (cause) {
    if (cause instanceof PlatformError) throw cause
    const message = `cannot read ${file}: ${messageOf(cause)}`
    throw new PlatformError('CONFIG_UNREADABLE', message, { cause })
  }
  throw new DecodeError(
    'DECODE_TOO_LARGE',
    0,
    `expected ${file} to have ${maxOctets} octets at most`,
  )
}
