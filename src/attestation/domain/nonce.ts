import { createHmac } from 'node:crypto'
import { concat, timingSafeEqual, utf8 } from '../../core/bytes.js'
import { type Finding, failed, passed } from '../../core/finding.js'
import { ByteReader, ByteWriter } from '../../core/reader.js'

/**
 * Nonces that the service does not store until they are used.
 *
 * Octets: issue time in milliseconds (8), random (16), MAC (16). The MAC is HMAC-SHA-256, cut to 16 octets, over time,
 * random and the host that the nonce was made for; every node that has the key can check it. That a nonce is used once
 * is not checked here: whoever accepts evidence records it.
 */
const RANDOM_OCTETS = 16
const MAC_OCTETS = 16
const NONCE_OCTETS = 8 + RANDOM_OCTETS + MAC_OCTETS
const DOMAIN = 'sigillo nonce v1'

/** How far ahead of the clock a nonce may be: the difference between two nodes of one site. */
const SKEW_MS = 5_000

export function createNonce(input: {
  readonly key: Uint8Array
  readonly hostId: string
  readonly nowMs: number
  /** 16 octets from the system's generator. */
  readonly random: Uint8Array
}): Uint8Array {
  if (input.random.length !== RANDOM_OCTETS) throw new TypeError('a nonce takes 16 random octets')
  const body = new ByteWriter('big').u64(BigInt(input.nowMs)).put(input.random).finish()
  return concat(body, mac(input.key, input.hostId, body))
}

/** Checks that a nonce is ours, made for this host, and not older than `ttlMs`. */
export function verifyNonce(input: {
  readonly key: Uint8Array
  readonly hostId: string
  readonly nonce: Uint8Array
  readonly nowMs: number
  readonly ttlMs: number
}): Finding {
  const { nonce } = input
  const unknown = failed('nonce', 'NONCE_UNKNOWN', 'a nonce that was given to this host', 'another')
  if (nonce.length !== NONCE_OCTETS) return unknown
  const body = nonce.subarray(0, NONCE_OCTETS - MAC_OCTETS)
  const expected = mac(input.key, input.hostId, body)
  if (!timingSafeEqual(expected, nonce.subarray(NONCE_OCTETS - MAC_OCTETS))) return unknown
  const ageMs = input.nowMs - Number(new ByteReader(body, 'big').u64())
  if (ageMs > input.ttlMs || ageMs < -SKEW_MS) {
    return failed('nonce', 'NONCE_EXPIRED', `an age of at most ${input.ttlMs} ms`, `${ageMs} ms`)
  }
  return passed('nonce', `${Math.max(0, ageMs)} ms old`)
}

function mac(key: Uint8Array, hostId: string, body: Uint8Array): Uint8Array {
  const hmac = createHmac('sha256', key)
  hmac.update(utf8(`${DOMAIN}\0${hostId}\0`)).update(body)
  return new Uint8Array(hmac.digest()).subarray(0, MAC_OCTETS)
}
