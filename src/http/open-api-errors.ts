import { ERROR_CODES, type ErrorCode } from '../core/error-codes.js'
import type { RouteEntry } from './route-rules.js'

interface JsonSchema {
  readonly [keyword: string]: unknown
}

const PROBLEM_TYPE = 'application/problem+json'

/** The problem document (RFC 9457) that every refusal is, as a schema of its own. */
export const PROBLEM_SCHEMA: JsonSchema = {
  type: 'object',
  required: ['type', 'title', 'status', 'code', 'requestId'],
  properties: {
    type: { type: 'string', description: '`urn:sigillo:error:` and the code' },
    title: { type: 'string' },
    status: { type: 'integer' },
    code: { type: 'string', enum: Object.keys(ERROR_CODES).sort() },
    requestId: { type: 'string', description: 'in the log of the authority as well' },
    detail: {
      type: 'string',
      description: 'what was expected and what was found, for known callers',
    },
  },
}

/** What is answered where none of the other answers of an operation is. */
export const PROBLEM_RESPONSE: JsonSchema = {
  description: 'any other refusal: `code` is one of docs/errors.md and never changes its meaning',
  content: { [PROBLEM_TYPE]: { schema: { $ref: '#/components/schemas/Problem' } } },
}

/** Services that have a root key, without which they answer `SEALED`. */
const SEALABLE = /^\/(attestation|key-provider|control-plane)\//

/** The refusals of an operation by their status: those that follow from how it is called, and its own. */
export function refusalsOf(route: RouteEntry): Readonly<Record<string, JsonSchema>> {
  const codes = new Set([...codesOfCalls(route), ...(route.errors ?? [])])
  const statuses = [...new Set([...codes].map((code) => ERROR_CODES[code].status))].sort()
  return Object.fromEntries(
    statuses.map((status) => {
      const own = [...codes].filter((code) => ERROR_CODES[code].status === status)
      return [status, refusal(own)]
    }),
  )
}

function refusal(codes: readonly ErrorCode[]): JsonSchema {
  return {
    description: codes.map((code) => `\`${code}\`: ${ERROR_CODES[code].title}`).join('; '),
    content: {
      [PROBLEM_TYPE]: {
        schema: {
          allOf: [
            { $ref: '#/components/schemas/Problem' },
            { properties: { code: { enum: codes } } },
          ],
        },
      },
    },
  }
}

function codesOfCalls({ access, method, path, schema }: RouteEntry): readonly ErrorCode[] {
  const isForPeople = typeof access === 'object'
  const needsPrivileges = isForPeople && access.needs.on !== 'self'
  return [
    ...when(access !== 'public' && access !== 'local', 'UNAUTHENTICATED'),
    ...when(needsPrivileges, 'FORBIDDEN'),
    ...when(access === 'host', 'HOST_STATUS'),
    ...when(path.includes(':'), 'NOT_FOUND'),
    ...when(schema.body !== undefined, 'MEDIA_TYPE', 'DECODE_TOO_LARGE'),
    ...when(isForPeople && method === 'POST', 'IDEMPOTENCY_MISMATCH', 'IDEMPOTENCY_UNKNOWN'),
    ...when(SEALABLE.test(path), 'SEALED'),
    // also of a member of the query that the operation does not have
    ...(['REQUEST_INVALID', 'RATE_LIMITED', 'INTERNAL'] as const),
  ]
}

function when(holds: boolean, ...codes: readonly ErrorCode[]): readonly ErrorCode[] {
  return holds ? codes : []
}
