import { RESULT_REASON } from '../enumerations.js'
import { KmipError } from '../errors.js'
import type { ProtocolVersion } from '../version.js'

type Reason = keyof typeof RESULT_REASON

/**
 * What versions of 1.x say for reasons that came with 2.0.
 *
 * @see KMIP 1.4, clause 11; KMIP 2.1 Specification, clause 11.46
 */
const BEFORE_2_0: Partial<Record<Reason, Reason>> = {
  ObjectNotFound: 'ItemNotFound',
  ObjectDestroyed: 'ItemNotFound',
  AttributeNotFound: 'ItemNotFound',
  WrappingObjectNotFound: 'ItemNotFound',
  WrappingObjectDestroyed: 'ItemNotFound',
  WrongKeyLifecycleState: 'PermissionDenied',
  IncompatibleCryptographicUsageMask: 'PermissionDenied',
  UsageLimitExceeded: 'PermissionDenied',
  AttributeReadOnly: 'PermissionDenied',
  AttributeSingleValued: 'InvalidField',
  MultiValuedAttribute: 'InvalidField',
  NonUniqueNameAttribute: 'InvalidField',
  UnsupportedAttribute: 'InvalidField',
  InvalidAttribute: 'InvalidField',
  InvalidAttributeValue: 'InvalidField',
  InvalidObjectType: 'InvalidField',
  UnsupportedCryptographicParameters: 'InvalidField',
  ServerLimitExceeded: 'GeneralFailure',
  UnsupportedProtocolVersion: 'InvalidMessage',
}

/** An operation that the server refuses, for a reason of the standard in its 2.1 form. */
export class KmipRefusal extends KmipError {
  readonly #reason: Reason

  constructor(reason: Reason, message: string, cause?: unknown) {
    super('KMIP_REFUSED', message, { reason: RESULT_REASON[reason], cause })
    this.#reason = reason
  }

  /** The Result Reason in the words that a version has. */
  reasonIn(version: ProtocolVersion): number {
    const early = version.major < 2 ? BEFORE_2_0[this.#reason] : undefined
    if (early !== undefined) return RESULT_REASON[early]
    // Sensitive and Not Extractable came with 1.4.
    const since1_4 = this.#reason === 'Sensitive' || this.#reason === 'NotExtractable'
    if (since1_4 && version.major < 2 && version.minor < 4) return RESULT_REASON.PermissionDenied
    return RESULT_REASON[this.#reason]
  }
}
