import type { KmipAttribute } from '../attributes.js'
import { TAG } from '../tags.js'
import type { Call } from './call.js'
import { KmipRefusal } from './refusal.js'

/**
 * Throws `KMIP_REFUSED`, Non Unique Name Attribute, when an object of this client has a name among these. Names of
 * destroyed objects are free again.
 *
 * @see KMIP 2.1 Specification, clause 4.34
 */
export function checkNames(call: Call, attributes: readonly KmipAttribute[]): void {
  for (const { value } of attributes.filter(isName)) {
    if (call.store.hasName(value, call.client)) {
      throw new KmipRefusal('NonUniqueNameAttribute', 'an object has this name already')
    }
  }
}

export function isName(attribute: KmipAttribute): boolean {
  return attribute.kind === 'standard' && attribute.tag === TAG.Name
}
