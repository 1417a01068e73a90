import type { FastifyRequest } from 'fastify'
import type { Needs } from '../api/needs.js'
import type { ErrorCode } from '../core/error-codes.js'
import { unreachable } from '../core/errors.js'
import type { CallerAccess } from './caller-access.js'
import type { HostAccess } from './host-access.js'

/**
 * Who may call a route. Every route says it; a route that does not is refused at start.
 *
 * `public`: anybody, within the rate limit. `host`: an attested host with a token and a proof of possession.
 * `local`: whoever may open the unix socket of the process. People need privileges.
 */
export type Access = 'public' | 'host' | 'local' | PersonRule

export interface PersonRule {
  readonly needs: Needs
  /** The service that is called: `attestation`. */
  readonly service: string
}

/** How callers are known. What is missing here cannot be declared by a route. */
export interface Doors {
  readonly callers?: CallerAccess | undefined
  readonly hosts?: HostAccess | undefined
  /** Whether the app is served on a unix socket alone: `listen` keeps it. */
  readonly local?: boolean | undefined
}

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: Access
    errors?: readonly ErrorCode[]
    example?: unknown
  }
}

/**
 * Lets a caller through to a route or throws.
 *
 * @returns whether the caller is known
 * @throws PlatformError with status 401 or 403
 */
export async function admit(
  request: FastifyRequest,
  access: Access,
  doors: Doors,
): Promise<boolean> {
  if (typeof access === 'object') {
    await requireDoor(doors.callers, 'people').authorize(request, access)
    return true
  }
  switch (access) {
    case 'public':
      return false
    case 'local':
      requireDoor(doors.local || undefined, 'a unix socket')
      return true
    case 'host':
      await requireDoor(doors.hosts, 'hosts').authenticate(request)
      return true
    default:
      return unreachable(access)
  }
}

/** Throws `TypeError` where a route declares an access that this app cannot check. */
export function checkAccess(access: Access, doors: Doors): void {
  if (access === 'public') return
  if (access === 'local') {
    requireDoor(doors.local || undefined, 'a unix socket')
    return
  }
  if (access === 'host') {
    requireDoor(doors.hosts, 'hosts')
    return
  }
  requireDoor(doors.callers, 'people')
  const { needs } = access
  if (needs === undefined) throw new TypeError('the route declares no privileges')
  if (needs.on !== 'self' && needs.privileges.length === 0) {
    throw new TypeError('the route needs no privilege')
  }
}

function requireDoor<T>(door: T | undefined, what: string): T {
  if (door === undefined) throw new TypeError(`the app has no access for ${what}`)
  return door
}
