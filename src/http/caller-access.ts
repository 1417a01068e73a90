import type { FastifyRequest } from 'fastify'
import type { Needs } from '../api/needs.js'
import type { Privilege } from '../api/privileges.js'
import { PlatformError } from '../core/errors.js'
import type { PersonRule } from './access.js'
import { credentialsOf } from './authorization.js'
import { actorOf, type Caller, displayNameOf } from './caller.js'
import { type Refusal, refusalOf } from './refusal.js'

export interface CallerAccessOptions {
  /** The caller who has this token, at the service; nobody where the token is not in force there. */
  readonly find: (token: string, service: string) => Promise<Caller | undefined>
  /** The first privilege of these that the caller does not have: on the site, or on any object at all. */
  readonly missing: (caller: Caller, needs: PrivilegeNeeds) => Promise<Privilege | undefined>
  /**
   * Writes the audit record of a known caller who asked for more than they may; what it throws is what the caller gets.
   * Unknown callers are not told of: anybody could fill the audit.
   */
  readonly onForbidden?: (caller: Caller, service: string, refusal: Refusal) => Promise<void>
}

export type PrivilegeNeeds = Exclude<Needs, { readonly on: 'self' }>

/** Who does something and when, as domains take it. */
export interface CallersAct {
  readonly caller: Caller
  /** For audit records: `user:anna`. */
  readonly actor: string
  /** For lists and events. */
  readonly operator: string
  readonly nowMs: number
}

export interface CallerAccess {
  /**
   * Finds the caller and checks the privileges of the rule.
   *
   * @throws PlatformError `UNAUTHENTICATED` in one form for all that can be wrong; `FORBIDDEN`, which names the first
   *   privilege that is missing, for a known caller
   */
  authorize(request: FastifyRequest, rule: PersonRule): Promise<void>
  /** The caller of a request that was let through; `TypeError` for any other. */
  callerOf(request: FastifyRequest): Caller
  /** What the caller of a request is about to do. */
  actOf(request: FastifyRequest, nowMs: number): CallersAct
  /** Writes the audit record of a refusal that came while the request was handled. */
  refused(request: FastifyRequest, rule: PersonRule, error: PlatformError): Promise<void>
}

/** Callers by bearer token: `Authorization: Bearer …`. */
export function callerAccess(options: CallerAccessOptions): CallerAccess {
  const known = new WeakMap<FastifyRequest, Caller>()
  const callerOf = (request: FastifyRequest): Caller => {
    const caller = known.get(request)
    if (!caller) throw new TypeError('the route is not for people')
    return caller
  }
  return {
    callerOf,
    async authorize(request, { service, needs }) {
      const found = await options.find(credentialsOf(request, 'Bearer'), service)
      if (!found) throw new PlatformError('UNAUTHENTICATED', 'expected the token of a person')
      // one object for each request: what was checked is noted by it
      const caller = { ...found }
      if (needs.on !== 'self') {
        const missing = await options.missing(caller, needs)
        if (missing !== undefined) {
          const where = needs.on === 'site' ? 'on the site' : 'on some object'
          const message = `expected privilege ${missing} ${where}, found it missing`
          const error = new PlatformError('FORBIDDEN', message)
          await options.onForbidden?.(caller, service, refusalOf(error, request))
          throw error
        }
      }
      known.set(request, caller)
    },
    actOf(request, nowMs) {
      const caller = callerOf(request)
      return { caller, actor: actorOf(caller), operator: displayNameOf(caller), nowMs }
    },
    async refused(request, { service }, error) {
      await options.onForbidden?.(callerOf(request), service, refusalOf(error, request))
    },
  }
}
