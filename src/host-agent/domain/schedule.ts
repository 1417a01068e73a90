/** How long before its end a token is renewed, as a part of its life. */
const RENEW_AT = 0.6
const FIRST_RETRY_MS = 1_000
const LONGEST_RETRY_MS = 60_000

/**
 * When to attest again after a success: at six tenths of the token's life, up to a tenth earlier, so that hosts that
 * started together do not come back together.
 *
 * @param random from 0 to below 1
 * @returns milliseconds from now
 */
export function renewalDelayMs(token: { readonly lifeMs: number }, random: number): number {
  return Math.max(0, Math.round(token.lifeMs * (RENEW_AT - 0.1 * random)))
}

/**
 * When to try again after a failure: doubling from one second to a minute, each between half and the whole of it.
 *
 * @param failures how many there were in a row, at least 1
 * @param random from 0 to below 1
 * @returns milliseconds from now
 */
export function retryDelayMs(failures: number, random: number): number {
  const doubled = FIRST_RETRY_MS * 2 ** Math.min(failures - 1, 10)
  return Math.round(Math.min(LONGEST_RETRY_MS, doubled) * (0.5 + random / 2))
}
