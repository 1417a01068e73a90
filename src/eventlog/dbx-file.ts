import { ByteReader } from '../core/reader.js'
import { parseSignatureLists, type SignatureList } from './signature-list.js'
import { must } from './sized.js'

const TIME_OCTETS = 16
/** WIN_CERTIFICATE without its contents. */
const CERTIFICATE_HEADER_OCTETS = 8
/** WIN_CERT_TYPE_EFI_GUID */
const CERTIFICATE_OF_GUID = 0x0ef1
/** The attributes that a file of efivarfs begins with are flags of one octet; a list begins with a GUID. */
const MAX_ATTRIBUTES = 0xff

/**
 * Reads the forbidden signatures of a file: a signed update as firmware takes it (EFI_VARIABLE_AUTHENTICATION_2), the
 * variable dbx of Linux's efivarfs, or bare lists.
 *
 * **Does not check** who signed an update.
 *
 * @throws DecodeError
 * @see UEFI Specification, clauses 8.2.2 and 32.4.1
 */
export function parseDbxFile(octets: Uint8Array): readonly SignatureList[] {
  return parseSignatureLists(
    octets.subarray(authenticationOctets(octets) ?? attributeOctets(octets)),
  )
}

function authenticationOctets(octets: Uint8Array): number | undefined {
  if (octets.length < TIME_OCTETS + CERTIFICATE_HEADER_OCTETS) return undefined
  const reader = new ByteReader(octets, 'little')
  reader.take(TIME_OCTETS)
  const length = reader.u32()
  reader.u16()
  if (reader.u16() !== CERTIFICATE_OF_GUID) return undefined
  must(length >= CERTIFICATE_HEADER_OCTETS, reader, 'a signature that holds its header')
  reader.take(length - CERTIFICATE_HEADER_OCTETS)
  return TIME_OCTETS + length
}

function attributeOctets(octets: Uint8Array): number {
  if (octets.length < 4) return 0
  return new ByteReader(octets, 'little').u32() <= MAX_ATTRIBUTES ? 4 : 0
}
