import { DecodeError } from '../core/errors.js'
import { ByteReader } from '../core/reader.js'
import { readElement, TAG } from './der.js'

const STORED_CERT = 0x1001
const FULL_CERT = 0x1002
const TYPE_FULL = 0
const TYPE_PARTIAL_SMALL = 1
/** Tag, type and size; the size counts the second tag. */
const HEADER_OCTETS = 5
const FULL_TAG_OCTETS = 2

/**
 * The certificate in what a TPM keeps in NV memory: DER, with nothing or one octet repeated after it (0xff or zero as a
 * rule); in the wrapper of TPM 1.2 that some TPM 2.0 kept, or without.
 *
 * A wrapper says whether the certificate is whole. A stripped one has no signature over what it leaves out: refused.
 *
 * @throws DecodeError `CERT_STRIPPED`, `CERT_UNREADABLE`
 * @see TCG PC Client Specific Implementation Specification for Conventional BIOS 1.21, clause 7.4.4
 */
export function certificateFromNv(octets: Uint8Array): Uint8Array {
  const isWrapped = octets[0] === STORED_CERT >> 8 && octets[1] === (STORED_CERT & 0xff)
  const contents = isWrapped ? unwrapped(octets) : octets
  const { tag, end } = readElement(contents, 0)
  if (tag !== TAG.sequence) throw new DecodeError('CERT_UNREADABLE', 0, 'expected a certificate')
  const rest = contents.subarray(end)
  if (!rest.every((octet) => octet === rest[0])) {
    throw new DecodeError('CERT_UNREADABLE', end, 'expected the end of the certificate')
  }
  return contents.slice(0, end)
}

function unwrapped(octets: Uint8Array): Uint8Array {
  const reader = new ByteReader(octets, 'big')
  if (octets.length < HEADER_OCTETS + FULL_TAG_OCTETS) {
    throw new DecodeError('CERT_UNREADABLE', 0, 'expected a stored certificate')
  }
  reader.u16()
  const type = reader.u8()
  const size = reader.u16()
  if (type === TYPE_PARTIAL_SMALL) {
    throw new DecodeError('CERT_STRIPPED', 2, 'expected a whole certificate, found a stripped one')
  }
  const tag = reader.u16()
  const der = reader.rest()
  const { end } = readElement(der, 0)
  if (type !== TYPE_FULL || tag !== FULL_CERT || size !== end + FULL_TAG_OCTETS) {
    throw new DecodeError('CERT_UNREADABLE', 2, 'expected the header of a full certificate')
  }
  return der
}
