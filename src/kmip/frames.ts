import { decodeTtlv, frameLength, TTLV_LIMITS, type TtlvLimits } from './decode.js'
import type { Ttlv } from './ttlv.js'

/**
 * The messages that octets are, one after the other, as a recorded connection has them; or one item that is no
 * message. Throws `DecodeError` on no octets, and when the last message is not whole.
 */
export function parseFrames(octets: Uint8Array, limits: TtlvLimits = TTLV_LIMITS): readonly Ttlv[] {
  const isStructure = octets[3] === 1
  if (!isStructure) return [decodeTtlv(octets, limits)]
  const messages: Ttlv[] = []
  let offset = 0
  while (offset < octets.length) {
    const rest = octets.subarray(offset)
    const length = frameLength(rest, limits.maxOctets)
    messages.push(decodeTtlv(rest.subarray(0, length), limits))
    offset += length
  }
  return messages
}
