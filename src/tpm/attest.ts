import { DecodeError } from '../core/errors.js'
import { ByteReader, ByteWriter } from '../core/reader.js'
import { encodePcrSelections, type PcrSelection, readPcrSelections } from './pcr.js'
import { encodeSized, readSized } from './sized.js'

/** `TCG` behind 0xff: only the TPM signs structures that begin so with a restricted key. */
export const TPM_GENERATED = 0xff544347

/** @see TPM 2.0 Library, Part 2, clause 6.9 (TPM_ST) */
export const ATTEST_TYPES = { certify: 0x8017, quote: 0x8018, creation: 0x801a } as const

/** TPMS_CLOCK_INFO. @see TPM 2.0 Library, Part 2, clause 10.11.1 */
export interface ClockInfo {
  /** Milliseconds that the TPM was powered, since its clear. */
  readonly clock: bigint
  readonly resetCount: number
  readonly restartCount: number
  /** Whether no later clock value can have been reported before. */
  readonly safe: boolean
}

interface AttestBase {
  /** As found; `TPM_GENERATED` in whatever a TPM made. */
  readonly magic: number
  readonly qualifiedSigner: Uint8Array
  readonly extraData: Uint8Array
  readonly clockInfo: ClockInfo
  readonly firmwareVersion: bigint
}

/** TPMS_ATTEST. Nothing in it is to be believed before its signature is verified and its magic compared. */
export type Attest =
  | (AttestBase & {
      readonly type: 'quote'
      readonly selections: readonly PcrSelection[]
      readonly pcrDigest: Uint8Array
    })
  | (AttestBase & {
      readonly type: 'certify'
      readonly name: Uint8Array
      readonly qualifiedName: Uint8Array
    })
  | (AttestBase & {
      readonly type: 'creation'
      readonly name: Uint8Array
      readonly creationHash: Uint8Array
    })

const MAX_NAME_OCTETS = 66
const MAX_DATA_OCTETS = 66
const MAX_DIGEST_OCTETS = 64

/** Magic and type alone: a verifier reports a wrong one as a finding of its own. */
export function peekAttest(octets: Uint8Array): { readonly magic: number; readonly type: number } {
  const reader = new ByteReader(octets, 'big')
  return { magic: reader.u32(), type: reader.u16() }
}

/**
 * Reads a TPMS_ATTEST of a quote, a certification or a creation, all of it.
 *
 * **Does not check the magic**: whoever verifies compares it with `TPM_GENERATED`.
 *
 * @throws DecodeError, also for every other type
 * @see TPM 2.0 Library, Part 2, clause 10.12.12
 */
export function parseAttest(octets: Uint8Array): Attest {
  const reader = new ByteReader(octets, 'big')
  const magic = reader.u32()
  const type = reader.u16()
  const base: AttestBase = {
    magic,
    qualifiedSigner: readSized(reader, 'qualifiedSigner', MAX_NAME_OCTETS),
    extraData: readSized(reader, 'extraData', MAX_DATA_OCTETS),
    clockInfo: readClockInfo(reader),
    firmwareVersion: reader.u64(),
  }
  const attest = readAttested(reader, type, base)
  reader.end('TPMS_ATTEST')
  return attest
}

function readAttested(reader: ByteReader, type: number, base: AttestBase): Attest {
  switch (type) {
    case ATTEST_TYPES.quote:
      return {
        ...base,
        type: 'quote',
        selections: readPcrSelections(reader),
        pcrDigest: readSized(reader, 'pcrDigest', MAX_DIGEST_OCTETS),
      }
    case ATTEST_TYPES.certify:
      return {
        ...base,
        type: 'certify',
        name: readSized(reader, 'name', MAX_NAME_OCTETS),
        qualifiedName: readSized(reader, 'qualifiedName', MAX_NAME_OCTETS),
      }
    case ATTEST_TYPES.creation:
      return {
        ...base,
        type: 'creation',
        name: readSized(reader, 'name', MAX_NAME_OCTETS),
        creationHash: readSized(reader, 'creationHash', MAX_DIGEST_OCTETS),
      }
    default:
      throw new DecodeError(
        'DECODE_VALUE',
        4,
        `expected a quote, certification or creation, found type 0x${type.toString(16)}`,
      )
  }
}

function readClockInfo(reader: ByteReader): ClockInfo {
  const clock = reader.u64()
  const resetCount = reader.u32()
  const restartCount = reader.u32()
  const safe = reader.u8()
  if (safe > 1) {
    throw new DecodeError('DECODE_VALUE', reader.offset, `expected YES or NO, found ${safe}`)
  }
  return { clock, resetCount, restartCount, safe: safe === 1 }
}

/** The inverse of `parseAttest`. */
export function encodeAttest(attest: Attest): Uint8Array {
  const { clockInfo } = attest
  const writer = new ByteWriter('big')
    .u32(attest.magic)
    .u16(ATTEST_TYPES[attest.type])
    .put(encodeSized(attest.qualifiedSigner))
    .put(encodeSized(attest.extraData))
    .u64(clockInfo.clock)
    .u32(clockInfo.resetCount)
    .u32(clockInfo.restartCount)
    .u8(clockInfo.safe ? 1 : 0)
    .u64(attest.firmwareVersion)
  switch (attest.type) {
    case 'quote':
      writer.put(encodePcrSelections(attest.selections)).put(encodeSized(attest.pcrDigest))
      break
    case 'certify':
      writer.put(encodeSized(attest.name)).put(encodeSized(attest.qualifiedName))
      break
    case 'creation':
      writer.put(encodeSized(attest.name)).put(encodeSized(attest.creationHash))
      break
  }
  return writer.finish()
}
