import type { Scope } from '../../api/people.js'
import type { PeopleTables } from './tables.js'

/** A scope as columns of a row; the site has no name. */
export function scopeColumns(
  scope: Scope,
): Pick<PeopleTables['people_permissions'], 'scope_kind' | 'scope'> {
  return { scope_kind: scope.kind, scope: scope.kind === 'site' ? '' : scope.name }
}

/** The inverse of `scopeColumns`. */
export function scopeOf(kind: Scope['kind'], name: string): Scope {
  return kind === 'site' ? { kind } : { kind, name }
}
