import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { toBase64url } from '../core/bytes.js'
import { PlatformError } from '../core/errors.js'
import { randomOctets } from '../core/random.js'
import type { OperatorRole, OperatorRule } from './access.js'
import { credentialsOf } from './authorization.js'
import { type Refusal, refusalOf } from './refusal.js'

const TOKEN = /^sgl_op_[A-Za-z0-9_-]{43}$/

export interface Operator {
  readonly name: string
  readonly role: OperatorRole
}

export interface OperatorAccessOptions {
  /**
   * The operator who has this token, within the service. Gets tokens of the right form only; looks them up by
   * `operatorTokenHash`, never by their text.
   */
  readonly find: (token: string, service: string) => Promise<Operator | undefined>
  /**
   * Writes the audit record of a known operator who asked for more than the role allows; what it throws is what the
   * caller gets. Unknown callers are not told of: anybody could fill the audit.
   */
  readonly onForbidden?: (operator: Operator, service: string, refusal: Refusal) => Promise<void>
}

export interface OperatorAccess {
  /**
   * Finds the operator and checks the role.
   *
   * @throws PlatformError `UNAUTHENTICATED` in one form for all that can be wrong; `FORBIDDEN` for a known operator
   */
  authorize(request: FastifyRequest, rule: OperatorRule): Promise<Operator>
  /** The operator of a request that was let through; `TypeError` for any other. */
  operatorOf(request: FastifyRequest): Operator
}

/** Operators by bearer token: `Authorization: Bearer sgl_op_…`. */
export function operatorAccess(options: OperatorAccessOptions): OperatorAccess {
  const known = new WeakMap<FastifyRequest, Operator>()
  return {
    async authorize(request, rule) {
      const token = credentialsOf(request, 'Bearer')
      const operator = TOKEN.test(token) ? await options.find(token, rule.service) : undefined
      if (!operator) throw new PlatformError('UNAUTHENTICATED', 'expected the token of an operator')
      const mayWrite = operator.role === 'administrator' || request.method === 'GET'
      if (!rule.operator.includes(operator.role) || !mayWrite) {
        const expected = `expected role ${rule.operator.join(' or ')}, found ${operator.role}`
        const error = new PlatformError('FORBIDDEN', expected)
        await options.onForbidden?.(operator, rule.service, refusalOf(error, request))
        throw error
      }
      known.set(request, operator)
      return operator
    },
    operatorOf(request) {
      const operator = known.get(request)
      if (!operator) throw new TypeError('the route is not for operators')
      return operator
    },
  }
}

/** A new token for an operator: 256 random bits. Shown once; only its hash is kept. */
export function newOperatorToken(): string {
  return `sgl_op_${toBase64url(randomOctets(32))}`
}

/** What is stored of a token, and what it is found by. Plain SHA-256: the token has nothing to guess. */
export function operatorTokenHash(token: string): Uint8Array {
  return new Uint8Array(createHash('sha256').update(token).digest())
}
