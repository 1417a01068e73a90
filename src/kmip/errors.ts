import type { ErrorCode } from '../core/error-codes.js'
import { PlatformError } from '../core/errors.js'

/** What is known about where a KMIP error happened. */
export interface KmipErrorDetail extends ErrorOptions {
  /** The place in the message, as names of tags with slashes. */
  readonly path?: string | undefined
  /** The Result Reason of the server, if it was the server that refused. */
  readonly reason?: number | undefined
  /** The name of the server, as configured. */
  readonly server?: string | undefined
}

/**
 * A message that is not one of KMIP, or an operation that a key server refused or could not be asked for.
 *
 * The text of a server's Result Message may stand in `message`, shortened: it is the server's and untrusted.
 */
export class KmipError extends PlatformError {
  readonly path: string | undefined
  readonly reason: number | undefined
  readonly server: string | undefined

  constructor(code: ErrorCode, message: string, detail: KmipErrorDetail = {}) {
    const { path, reason, server, ...options } = detail
    super(code, path === undefined ? message : `${message} at ${path}`, options)
    this.path = path
    this.reason = reason
    this.server = server
  }
}
