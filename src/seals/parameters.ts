import type { Static, TSchema } from 'typebox'
import { Value } from 'typebox/value'
import { PlatformError } from '../core/errors.js'
import type { SealKind } from '../store/index.js'

/** The parameters of a seal, if they are what its kind writes; else `SEAL_RECORD`. */
export function readParameters<S extends TSchema>(
  kind: SealKind,
  schema: S,
  stored: unknown,
): Static<S> {
  try {
    return Value.Parse(schema, stored)
  } catch (cause) {
    const message = `the parameters of a seal of kind ${kind} are not what was written`
    throw new PlatformError('SEAL_RECORD', message, { cause })
  }
}
