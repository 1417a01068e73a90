import type { FastifyRequest } from 'fastify'
import type { ErrorCode } from '../core/error-codes.js'
import type { PlatformError } from '../core/errors.js'

/** A request whose caller was refused, for the audit record: the answer may not say why. */
export interface Refusal {
  readonly code: ErrorCode
  readonly message: string
  readonly method: string
  /** Of the route, with the names of its parameters: nothing that the caller wrote. */
  readonly path: string
  readonly requestId: string
}

export function refusalOf(error: PlatformError, request: FastifyRequest): Refusal {
  return {
    code: error.code,
    message: error.message,
    method: request.method,
    path: request.routeOptions.url ?? '',
    requestId: request.id,
  }
}
