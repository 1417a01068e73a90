import type { Scope } from '../../api/people.js'
import type { Privilege } from '../../api/privileges.js'
import { PlatformError } from '../../core/errors.js'

/** What an act is about. A VM that is not there yet has a cluster and no id; one that nobody knows has an id alone. */
export type Place =
  | { readonly kind: 'site' }
  | { readonly kind: 'cluster'; readonly name: string }
  | { readonly kind: 'tag'; readonly name: string }
  | {
      readonly kind: 'vm'
      readonly vmId?: string
      readonly cluster?: string
      readonly tags: readonly string[]
    }

/** A role at a scope, as it was granted. */
export interface Permission {
  readonly role: string
  readonly privileges: readonly Privilege[]
  readonly scope: Scope
}

/** What somebody may do, as of the moment in which it was read. */
export interface Rights {
  readonly permissions: readonly Permission[]
  /**
   * @param named how a refusal names the object, where its place says more than the caller may know
   * @throws PlatformError `FORBIDDEN`, which names the first privilege that is missing, and the object
   */
  require(privileges: readonly Privilege[], place: Place, named?: string): void
  may(privilege: Privilege, place: Place): boolean
  /** Whether the privilege is held on any object at all. */
  mayAnywhere(privilege: Privilege): boolean
}

export const SITE = { kind: 'site' } as const satisfies Place

export function rightsOf(permissions: readonly Permission[]): Rights {
  const may = (privilege: Privilege, place: Place): boolean =>
    permissions.some(
      ({ privileges, scope }) => privileges.includes(privilege) && covers(scope, place),
    )
  return {
    permissions,
    may,
    mayAnywhere: (privilege) =>
      permissions.some(({ privileges }) => privileges.includes(privilege)),
    require(privileges, place, named = describePlace(place)) {
      const missing = privileges.find((privilege) => !may(privilege, place))
      if (missing === undefined) return
      throw new PlatformError(
        'FORBIDDEN',
        `expected privilege ${missing} on ${named}, found it missing`,
      )
    },
  }
}

/** `site`, `cluster lab`, `VM 6f…`: for messages and audit records. */
export function describePlace(place: Place): string {
  switch (place.kind) {
    case 'site':
      return 'the site'
    case 'cluster':
    case 'tag':
      return `${place.kind} ${place.name}`
    case 'vm':
      return place.vmId === undefined
        ? `a new VM in cluster ${place.cluster ?? 'unknown'}`
        : `VM ${place.vmId}`
  }
}

function covers(scope: Scope, place: Place): boolean {
  if (scope.kind === 'site') return true
  if (place.kind !== 'vm') return place.kind === scope.kind && place.name === scope.name
  switch (scope.kind) {
    case 'cluster':
      return place.cluster === scope.name
    case 'tag':
      return place.tags.includes(scope.name)
    case 'vm':
      return place.vmId === scope.name
  }
}
