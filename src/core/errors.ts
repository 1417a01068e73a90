import type { ErrorCode } from './error-codes.js'

/**
 * Base class of every error that Sigillo throws on purpose.
 *
 * The code is stable and documented in `docs/errors.md`; the message says what was expected and what was
 * found, in lower case and without a full stop. Neither ever carries a secret.
 */
export class PlatformError<C extends ErrorCode = ErrorCode> extends Error {
  readonly code: C

  constructor(code: C, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
    this.code = code
  }
}

/** Octets or text that cannot be read. `offset` counts octets from the start of the input. */
export class DecodeError extends PlatformError {
  readonly offset: number

  constructor(code: ErrorCode, offset: number, message: string, options?: ErrorOptions) {
    super(code, message, options)
    this.offset = offset
  }
}

/** Whether `error` is one of ours, with this code when one is given. */
export function isPlatformError(error: unknown, code?: ErrorCode): error is PlatformError {
  return error instanceof PlatformError && (code === undefined || error.code === code)
}

/** Ends a switch over a closed union: the compiler proves that it is never reached. */
export function unreachable(value: never): never {
  throw new TypeError(`unreachable: ${JSON.stringify(value)}`)
}

/** The message of whatever was thrown, for wrapping into a sentence of our own. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}
