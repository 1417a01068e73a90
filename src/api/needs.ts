import type { Privilege } from './privileges.js'

/**
 * What a person must have to call an operation.
 *
 * `self`: nothing but to be known; the operation is about the caller. `site`: all privileges on the whole site, checked
 * before the request is read. `object`: each privilege on some object at least, checked before the request is read, and on
 * the object that is meant by the operation itself; of a list it answers what the caller may see.
 */
export type Needs =
  | { readonly on: 'self' }
  | {
      readonly on: 'site' | 'object'
      readonly privileges: readonly [Privilege, ...(readonly Privilege[])]
    }

export const ABOUT_SELF: Needs = { on: 'self' }

export function onSite(...privileges: readonly [Privilege, ...(readonly Privilege[])]): Needs {
  return { on: 'site', privileges }
}

export function onObject(...privileges: readonly [Privilege, ...(readonly Privilege[])]): Needs {
  return { on: 'object', privileges }
}
