import { createHash } from 'node:crypto'
import { concat } from '../core/bytes.js'
import { nameOf } from './authority.js'
import { TAG } from './der.js'
import {
  encodeDer,
  encodeInteger,
  encodeNull,
  encodeObjectIdentifier,
  encodeOctetString,
  encodeSequence,
} from './der-encode.js'
import { type EkSubject, ekExtensions } from './ek-certificate.js'

const NO_SIGNATURE = '1.3.6.1.5.5.7.6.2'
const EXTENSION_REQUEST = '1.2.840.113549.1.9.14'
const ATTRIBUTES_TAG = 0xa0

/**
 * A request (PKCS#10, DER) for the certificate of an endorsement key, with the extensions that the profile asks for.
 *
 * An endorsement key decrypts and cannot sign, so nothing here proves that the key is held: in the place of a signature
 * there is what the standard has for such keys: id-alg-noSignature with NULL as its parameters, and an OCTET STRING with the
 * digest of what would be signed. The appendix names no hash; the module in the newer syntax says SHA-1 (`HASHES { mda-sha1 }`).
 * Nothing rests on it. Whoever certifies it takes the word of the one who brings it that the key is in a TPM, or challenges the
 * TPM with a credential.
 *
 * @see RFC 2986, section 4; RFC 5272, appendix C.1; RFC 5912, section 12 (sa-noSignature)
 */
export function encodeEkRequest(options: Omit<EkSubject, 'kind'>): Uint8Array {
  const extensions = ekExtensions({ ...options, kind: 'ek' }).map(
    ({ rawData }) => new Uint8Array(rawData),
  )
  const attribute = encodeSequence(
    encodeObjectIdentifier(EXTENSION_REQUEST),
    encodeDer(TAG.set, encodeSequence(...extensions)),
  )
  const info = encodeSequence(
    encodeInteger(0),
    new Uint8Array(nameOf(options.subjectName).toArrayBuffer()),
    options.publicKey,
    encodeDer(ATTRIBUTES_TAG, attribute),
  )
  const digest = createHash('sha1').update(info).digest()
  const noUnusedBits = Uint8Array.of(0)
  return encodeSequence(
    info,
    encodeSequence(encodeObjectIdentifier(NO_SIGNATURE), encodeNull()),
    encodeDer(TAG.bitString, concat(noUnusedBits, encodeOctetString(digest))),
  )
}
