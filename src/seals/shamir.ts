/**
 * Secret sharing over GF(2^8): each octet of the secret is the value at 0 of a polynomial of its own, whose other
 * coefficients are random; a share is the values at its index. Fewer shares than the threshold tell nothing of the
 * secret.
 *
 * No table is looked up and no branch taken by a secret, as far as a JavaScript engine lets one say that.
 *
 * @see Shamir, How to share a secret, CACM 22 (1979)
 */

export const MOST_SHARES = 16
export const LEAST_THRESHOLD = 2

/** One share: an index from 1 and as many octets as the secret has. */
export interface ShamirShare {
  readonly index: number
  readonly value: Uint8Array
}

/**
 * Splits a secret into `count` shares, of which any `threshold` bring it back.
 *
 * @param random gives as many random octets as it is asked for; they are filled with zeros here
 * @throws TypeError unless 2 ≤ threshold ≤ count ≤ 16
 */
export function splitSecret(
  secret: Uint8Array,
  plan: { readonly threshold: number; readonly count: number },
  random: (octets: number) => Uint8Array,
): readonly ShamirShare[] {
  const { threshold, count } = plan
  if (!isPlan(threshold, count)) {
    throw new TypeError(`${threshold} of ${count} shares is no plan`)
  }
  const coefficients = random(secret.length * (threshold - 1))
  try {
    return Array.from({ length: count }, (_, at) => {
      const index = at + 1
      return { index, value: secret.map((octet, place) => valueAt(index, octet, place)) }
    })
  } finally {
    coefficients.fill(0)
  }

  /** Horner's rule, from the highest coefficient down to the octet of the secret. */
  function valueAt(index: number, octet: number, place: number): number {
    let value = 0
    for (let power = threshold - 1; power >= 1; power -= 1) {
      const coefficient = coefficients[(power - 1) * secret.length + place] ?? 0
      value = multiply(value, index) ^ coefficient
    }
    return multiply(value, index) ^ octet
  }
}

/**
 * The secret that shares lead to: the right one if they are as many as the threshold and all right, else some octets
 * that have nothing to do with it. Lagrange's interpolation at 0.
 *
 * @throws TypeError for indexes that are not different or not 1 to 16, or values of different lengths
 */
export function combineShares(shares: readonly ShamirShare[]): Uint8Array {
  const [first] = shares
  if (!first) throw new TypeError('no shares')
  const indexes = new Set(shares.map(({ index }) => index))
  const proper = (index: number) => Number.isInteger(index) && index >= 1 && index <= MOST_SHARES
  if (indexes.size !== shares.length || ![...indexes].every(proper)) {
    throw new TypeError('the indexes of shares must be different, and 1 to 16')
  }
  if (shares.some(({ value }) => value.length !== first.value.length)) {
    throw new TypeError('shares of different lengths')
  }
  const secret = new Uint8Array(first.value.length)
  for (const { index, value } of shares) {
    let weight = 1
    for (const other of indexes) {
      if (other !== index) weight = multiply(weight, multiply(other, inverse(other ^ index)))
    }
    for (const [place, octet] of value.entries()) {
      secret[place] = (secret[place] ?? 0) ^ multiply(octet, weight)
    }
  }
  return secret
}

/** Whether 2 ≤ threshold ≤ count ≤ 16. */
export function isPlan(threshold: number, count: number): boolean {
  const whole = Number.isInteger(threshold) && Number.isInteger(count)
  return whole && threshold >= LEAST_THRESHOLD && threshold <= count && count <= MOST_SHARES
}

/** Product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1, the same steps for all operands. @see FIPS 197, section 4.2 */
export function multiply(a: number, b: number): number {
  let product = 0
  let factor = a
  for (let bit = 0; bit < 8; bit += 1) {
    product ^= factor & -((b >> bit) & 1)
    factor = ((factor << 1) ^ (0x11b & -(factor >> 7))) & 0xff
  }
  return product
}

/** a^254, which is 1/a, and 0 for 0. */
export function inverse(a: number): number {
  let power = a
  let result = 1
  for (let bit = 1; bit < 8; bit += 1) {
    power = multiply(power, power)
    result = multiply(result, power)
  }
  return result
}
