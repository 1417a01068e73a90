import { ByteReader } from '../core/reader.js'
import { readGuid } from './guid.js'
import { printable, utf16Text } from './printable.js'
import { takeSized } from './sized.js'

/** A UEFI variable as it was measured. */
export interface EfiVariable {
  readonly guid: string
  readonly name: string
  /** A view of the log. */
  readonly value: Uint8Array
  /** Octets behind the value: old shims logged some more than they had. */
  readonly trailingOctets: number
}

/**
 * Reads UEFI_VARIABLE_DATA; the value is not looked at.
 *
 * @throws DecodeError
 * @see TCG PC Client Platform Firmware Profile, clause 10.2.6 (UEFI_VARIABLE_DATA)
 */
export function parseVariable(data: Uint8Array): EfiVariable {
  const reader = new ByteReader(data, 'little')
  const guid = readGuid(reader)
  const nameLength = reader.u64()
  const valueLength = reader.u64()
  const name = printable(utf16Text(takeSized(reader, nameLength * 2n)))
  const value = takeSized(reader, valueLength)
  return { guid, name, value, trailingOctets: reader.remaining }
}
