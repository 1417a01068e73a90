import { PlatformError } from '../core/errors.js'

/** Too many requests of one caller; answered with `Retry-After`. */
export class RateLimitedError extends PlatformError {
  /** Whole seconds, one at least. */
  readonly retryAfterSeconds: number

  constructor(message: string, retryAfterSeconds: number) {
    super('RATE_LIMITED', message)
    this.retryAfterSeconds = Math.max(1, Math.ceil(retryAfterSeconds))
  }
}
