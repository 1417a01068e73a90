import { ByteReader } from '../core/reader.js'
import { parseDevicePath } from './device-path.js'
import { printable, utf16Text } from './printable.js'
import { must } from './sized.js'

/** What Boot#### and its kin tell the firmware to start. */
export interface LoadOption {
  readonly description: string
  readonly devicePath: string
  readonly active: boolean
  readonly hidden: boolean
  /** The attributes as they are, with the category in bits 8 to 12. */
  readonly attributes: number
  /** Data that the application gets, as a count. */
  readonly optionalOctets: number
}

const ACTIVE = 0x1
const HIDDEN = 0x8

/** @throws DecodeError @see UEFI Specification, clause 3.1.3 (EFI_LOAD_OPTION) */
export function parseLoadOption(octets: Uint8Array): LoadOption {
  const reader = new ByteReader(octets, 'little')
  const attributes = reader.u32()
  const pathOctets = reader.u16()
  const description = takeWideText(reader)
  const { text } = parseDevicePath(reader.take(pathOctets))
  return {
    description,
    devicePath: text,
    active: (attributes & ACTIVE) !== 0,
    hidden: (attributes & HIDDEN) !== 0,
    attributes,
    optionalOctets: reader.remaining,
  }
}

function takeWideText(reader: ByteReader): string {
  const rest = reader.peek(reader.remaining)
  let end = 0
  while (end + 1 < rest.length && (rest[end] !== 0 || rest[end + 1] !== 0)) end += 2
  must(end + 1 < rest.length, reader, 'a description that ends with a zero')
  return printable(utf16Text(reader.take(end + 2)))
}
