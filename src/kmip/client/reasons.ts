import type { ErrorCode } from '../../core/error-codes.js'
import { enumerationName, RESULT_REASON } from '../enumerations.js'
import { KmipError } from '../errors.js'
import type { KmipResponseItem } from '../message.js'
import { TAG } from '../tags.js'

/** What a Result Reason means for us. @see KMIP 2.1 Specification, clause 11.46 */
const CODES: ReadonlyMap<number, ErrorCode> = new Map<number, ErrorCode>([
  [RESULT_REASON.ItemNotFound, 'KMS_KEY_NOT_FOUND'],
  [RESULT_REASON.ObjectNotFound, 'KMS_KEY_NOT_FOUND'],
  [RESULT_REASON.ObjectDestroyed, 'KMS_KEY_DESTROYED'],
  [RESULT_REASON.PermissionDenied, 'KMS_PERMISSION_DENIED'],
  [RESULT_REASON.NotAuthorised, 'KMS_PERMISSION_DENIED'],
  [RESULT_REASON.AuthenticationNotSuccessful, 'KMS_AUTH_FAILED'],
  [RESULT_REASON.WrongKeyLifecycleState, 'KMS_KEY_STATE'],
  [RESULT_REASON.IllegalOperation, 'KMS_KEY_STATE'],
  [RESULT_REASON.OperationNotSupported, 'KMS_UNSUPPORTED'],
  [RESULT_REASON.FeatureNotSupported, 'KMS_UNSUPPORTED'],
  [RESULT_REASON.UnsupportedAttribute, 'KMS_UNSUPPORTED'],
  [RESULT_REASON.UnsupportedProtocolVersion, 'KMIP_VERSION'],
  [RESULT_REASON.KeyFormatTypeNotSupported, 'KMS_WRAP_UNSUPPORTED'],
  [RESULT_REASON.EncodingOptionError, 'KMS_WRAP_UNSUPPORTED'],
  [RESULT_REASON.KeyWrapTypeNotSupported, 'KMS_WRAP_UNSUPPORTED'],
  [RESULT_REASON.Sensitive, 'KMS_KEY_NOT_EXTRACTABLE'],
  [RESULT_REASON.NotExtractable, 'KMS_KEY_NOT_EXTRACTABLE'],
  [RESULT_REASON.CryptographicFailure, 'KMS_CRYPTO'],
  [RESULT_REASON.BadCryptographicParameters, 'KMS_CRYPTO'],
  [RESULT_REASON.UnsupportedCryptographicParameters, 'KMS_CRYPTO'],
  [RESULT_REASON.UsageLimitExceeded, 'KMS_LIMIT'],
  [RESULT_REASON.ServerLimitExceeded, 'KMS_LIMIT'],
  [RESULT_REASON.GeneralFailure, 'KMS_UNAVAILABLE'],
  [RESULT_REASON.InternalServerError, 'KMS_UNAVAILABLE'],
  [RESULT_REASON.ProtectionStorageUnavailable, 'KMS_UNAVAILABLE'],
  [RESULT_REASON.ObjectArchived, 'KMS_UNAVAILABLE'],
])

const MAX_MESSAGE = 200

/** The error that a refusal of the server is. Its own words are shortened and stripped of control characters. */
export function refusal(item: KmipResponseItem, server: string): KmipError {
  const reason = item.reason ?? RESULT_REASON.GeneralFailure
  const name = enumerationName(TAG.ResultReason, reason) ?? `0x${reason.toString(16)}`
  const words = (item.message ?? '').replaceAll(/[^\x20-\x7e]/g, ' ').slice(0, MAX_MESSAGE)
  return new KmipError(
    CODES.get(reason) ?? 'KMS_PROTOCOL',
    words === '' ? `the key server refused: ${name}` : `the key server refused: ${name}: ${words}`,
    { reason, server },
  )
}
