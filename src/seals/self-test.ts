import { scryptSync } from 'node:crypto'
import { equalBytes, fromHex, utf8 } from '../core/bytes.js'
import { PlatformError } from '../core/errors.js'
import { randomOctets } from '../core/random.js'
import { combineShares, inverse, multiply, splitSecret } from './shamir.js'

/** @see RFC 7914, section 12, second vector */
const SCRYPT = {
  N: 1024,
  r: 8,
  p: 16,
  expected:
    'fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162' +
    '2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640',
} as const

/**
 * Tests what seals are made of: scrypt and multiplication by known answers, sharing by a secret that comes back, the
 * source of random octets by its not repeating itself.
 *
 * @throws PlatformError `KEY_SELF_TEST` at the first that fails
 */
export function selfTestSeals(): void {
  const { N, r, p, expected } = SCRYPT
  const derived = scryptSync(utf8('password'), utf8('NaCl'), 64, { N, r, p })
  check('scrypt (RFC 7914, second vector)', equalBytes(derived, fromHex(expected)))
  check('multiplication in GF(2^8) (FIPS 197, section 4.2)', multiply(0x57, 0x83) === 0xc1)
  check('inversion in GF(2^8)', multiply(0x53, inverse(0x53)) === 1)
  const secret = fromHex('000102fdfeff')
  const plan = { threshold: 3, count: 5 }
  const shares = splitSecret(secret, plan, (octets) => new Uint8Array(octets).fill(0xa7))
  check('sharing of a secret', equalBytes(combineShares(shares.slice(1, 4)), secret))
  check('random octets', !equalBytes(randomOctets(32), randomOctets(32)))
}

function check(name: string, held: boolean): void {
  if (held) return
  throw new PlatformError('KEY_SELF_TEST', `expected the known answer of ${name}, found another`)
}
