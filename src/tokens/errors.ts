import type { ErrorCode } from '../core/error-codes.js'
import { isPlatformError, PlatformError } from '../core/errors.js'

export type TokenErrorCode = Extract<
  ErrorCode,
  `TOKEN_${string}` | `DPOP_${string}` | `PLACEMENT_${string}` | `JWE_${string}`
>

/** A token, proof or encrypted answer that is refused. The message quotes at most a few characters of it. */
export class TokenError extends PlatformError<TokenErrorCode> {}

/** Untrusted text as part of a sentence: quoted, escaped and short. */
export function quoted(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length <= 66 ? text : `${text.slice(0, 63)}…`
}

/** Runs `read`, and wraps what the decoder throws into the code of the layer that asked. */
export function decoding<T>(code: TokenErrorCode, what: string, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    if (!isPlatformError(cause)) throw cause
    throw new TokenError(code, `${what}: ${cause.message}`, { cause })
  }
}

/** Throws `TypeError` unless `value` is a moment in whole seconds: comparisons with NaN are all false. */
export function requireSeconds(name: string, value: number, maximum = Number.MAX_SAFE_INTEGER) {
  if (!Number.isSafeInteger(value) || value < 0 || value > maximum) {
    throw new TypeError(`${name} must be whole seconds from 0 to ${maximum}`)
  }
}
