import type { FastifyReply, FastifyRequest } from 'fastify'
import { ERROR_CODES, type ErrorCode } from '../core/error-codes.js'
import { isPlatformError, PlatformError } from '../core/errors.js'
import type { Logger } from '../core/logger.js'
import { RateLimitedError } from './rate-limited.js'

/** Codes of the framework for requests that it refuses by itself. All others below status 500 are `REQUEST_INVALID`. */
const FRAMEWORK_CODES: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'DECODE_TOO_LARGE',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'MEDIA_TYPE',
  FST_ERR_MAX_PARAM_LENGTH: 'NOT_FOUND',
}

/** What a caller may be told beyond code and title. `owner`: of the process, who can read its files and its log. */
export type Audience = 'owner' | 'known' | 'unknown'

/**
 * Answers an error as a problem document, and logs what the answer leaves out.
 *
 * An error with status 401 is always answered as `UNAUTHENTICATED`: which check failed is for the audit record. An
 * error that is not ours is `INTERNAL` without a word of it. `detail` goes to the owner of the process, and unless our own
 * state is at fault to known callers; unknown ones get it for
 * `REQUEST_INVALID` alone, where it tells about their own input and nothing else.
 *
 * @see RFC 9457
 */
export function sendProblem(
  log: Logger,
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  audience: Audience,
): FastifyReply {
  const problem = platformErrorOf(error)
  const { code: found } = problem
  logProblem(log, error, problem, request)
  const code = ERROR_CODES[found].status === 401 ? 'UNAUTHENTICATED' : found
  const { status, title } = ERROR_CODES[code]
  const mayKnow = isFor(audience, code)
  if (problem instanceof RateLimitedError) {
    void reply.header('retry-after', problem.retryAfterSeconds)
  }
  if (status === 401) void reply.header('www-authenticate', challengeOf(request))
  return reply
    .code(status)
    .type('application/problem+json')
    .send(
      JSON.stringify({
        type: `urn:sigillo:error:${code}`,
        title,
        status,
        code,
        requestId: request.id,
        ...(mayKnow ? { detail: problem.message } : {}),
      }),
    )
}

function isFor(audience: Audience, code: ErrorCode): boolean {
  const { status } = ERROR_CODES[code]
  if (audience === 'unknown') return code === 'REQUEST_INVALID'
  return status !== 401 && (audience === 'owner' ? code !== 'INTERNAL' : status !== 500)
}

function platformErrorOf(error: unknown): PlatformError {
  if (isPlatformError(error)) return error
  const { code, statusCode } = frameworkFields(error)
  if (!code.startsWith('FST_ERR_') || statusCode >= 500) {
    return new PlatformError('INTERNAL', 'an error of our own', { cause: error })
  }
  const ours = FRAMEWORK_CODES[code] ?? 'REQUEST_INVALID'
  return new PlatformError(ours, 'the request cannot be read', { cause: error })
}

function frameworkFields(error: unknown): { readonly code: string; readonly statusCode: number } {
  if (!(error instanceof Error)) return { code: '', statusCode: 500 }
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  const statusCode =
    'statusCode' in error && typeof error.statusCode === 'number' ? error.statusCode : 500
  return { code, statusCode }
}

function logProblem(
  log: Logger,
  error: unknown,
  problem: PlatformError,
  request: FastifyRequest,
): void {
  const { status } = ERROR_CODES[problem.code]
  const entry = {
    requestId: request.id,
    method: request.method,
    route: request.routeOptions.url,
    code: problem.code,
  }
  if (status === 500) log.error({ ...entry, event: 'request.failed', err: error }, 'request failed')
  else if (status > 500) {
    log.warn({ ...entry, event: 'request.unavailable', reason: problem.message }, 'cannot answer')
  } else {
    log.info({ ...entry, event: 'request.refused', reason: problem.message }, 'request refused')
  }
}

function challengeOf(request: FastifyRequest): string {
  return request.routeOptions.config.access === 'host' ? 'DPoP algs="ES256"' : 'Bearer'
}
