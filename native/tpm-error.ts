import { PlatformError } from '../src/core/errors.js'
import { Tss2_RC_Decode } from './tss2/rc.js'

type TpmErrorCode =
  | 'TPM_RC'
  | 'TPM_POLICY_FAIL'
  | 'TPM_DECRYPT_FAILED'
  | 'TPM_OBJECT_FOREIGN'
  | 'TPM_UNREACHABLE'

/** A response code of the TPM or of a layer of tpm2-tss, with its name from the standard in the message. */
export class TpmError extends PlatformError<TpmErrorCode> {
  /** TSS2_RC, layer included. */
  readonly rc: number

  constructor(code: TpmErrorCode, rc: number, message: string) {
    super(code, message)
    this.rc = rc
  }
}

/** @see TCG TSS 2.0 Overview, clause on response codes: the layer is in bits 16 to 23 */
const LAYER_SHIFT = 16
const LAYER_TCTI = 10
/** A format-one code: bit 7 set, the error in bits 0 to 5. @see TPM 2.0 Library, Part 2, clause 6.6.2 */
const FORMAT_ONE = 0x080
const ERROR_MASK = 0x0bf

const RC = {
  handle: 0x08b,
  policyFail: 0x09d,
  value: 0x084,
  integrity: 0x09f,
  size: 0x095,
  failure: 0x101,
  pcrChanged: 0x128,
  objectMemory: 0x902,
  sessionMemory: 0x903,
} as const

/** For a TPM that cannot be opened. */
export function absentError(tcti: string, rc: number): TpmError {
  return new TpmError('TPM_UNREACHABLE', rc, `expected a TPM at ${tcti}, found none (${name(rc)})`)
}

/** For a response code other than success of any command but TPM2_RSA_Decrypt. */
export function tpmError(command: string, rc: number): TpmError {
  const layer = (rc >>> LAYER_SHIFT) & 0xff
  if (layer === LAYER_TCTI) {
    return new TpmError('TPM_UNREACHABLE', rc, `${command}: the TPM does not answer (${name(rc)})`)
  }
  const base = baseOf(rc)
  if (base === RC.policyFail || base === RC.pcrChanged) {
    return new TpmError(
      'TPM_POLICY_FAIL',
      rc,
      `${command}: expected PCRs as the policy of the key has them, found others (${name(rc)})`,
    )
  }
  return new TpmError('TPM_RC', rc, `${command}: ${name(rc)}`)
}

/**
 * For TPM2_RSA_Decrypt: libtpms answers TPM_RC_FAILURE to padding that does not open, others TPM_RC_VALUE; both answer
 * TPM_RC_SIZE to a ciphertext that is not as long as the modulus.
 */
export function decryptError(rc: number): TpmError {
  const base = baseOf(rc)
  if (base === RC.failure || base === RC.value || base === RC.size) {
    const message = `RSA_Decrypt: the ciphertext is not for this key (${name(rc)})`
    return new TpmError('TPM_DECRYPT_FAILED', rc, message)
  }
  return tpmError('RSA_Decrypt', rc)
}

/** For TPM2_Load: an object that this TPM's key did not wrap fails in its integrity. */
export function foreignObjectError(command: string, rc: number): TpmError {
  if (baseOf(rc) !== RC.integrity) return tpmError(command, rc)
  const message = `${command}: the object is not of this TPM, or was altered (${name(rc)})`
  return new TpmError('TPM_OBJECT_FOREIGN', rc, message)
}

/** Whether an error says that the TPM has no slot left for a key or a session. */
export function isTpmFull(error: unknown): boolean {
  return (
    error instanceof TpmError && (error.rc === RC.objectMemory || error.rc === RC.sessionMemory)
  )
}

/** Whether a code says that there is no object at a handle. */
export function isMissingHandle(rc: number): boolean {
  return rc >>> LAYER_SHIFT === 0 && baseOf(rc) === RC.handle
}

function baseOf(rc: number): number {
  const code = rc & 0xfff
  return (code & FORMAT_ONE) === 0 ? code : code & ERROR_MASK
}

function name(rc: number): string {
  return `${Tss2_RC_Decode(rc)}, 0x${rc.toString(16)}`
}
