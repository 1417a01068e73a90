import { KeyObject, sign } from 'node:crypto'
import { concat, fromHex } from '../core/bytes.js'
import type { Authority, AuthorityKeyType } from './authority.js'
import { parseCertificate } from './certificate.js'
import { parseDer, TAG } from './der.js'
import {
  encodeDer,
  encodeInteger,
  encodeNull,
  encodeObjectIdentifier,
  encodeOctetString,
  encodeSequence,
  encodeTime,
} from './der-encode.js'
import { EXTENSION, subjectKeyId } from './extensions.js'

/** Why a certificate is taken back, as lists say it. @see RFC 5280, section 5.3.1 */
export const REVOCATION_REASONS = {
  'key-compromise': 1,
  superseded: 4,
  'cessation-of-operation': 5,
} as const
export type RevocationReason = keyof typeof REVOCATION_REASONS

export interface RevokedCertificate {
  /** Hexadecimal, as `Certificate.serial`. */
  readonly serial: string
  readonly revokedAtMs: number
  readonly reason: RevocationReason
}

const VERSION_2 = 1
const EXTENSIONS_TAG = 0xa0
const KEY_IDENTIFIER_TAG = 0x80
const ENUMERATED_TAG = 0x0a
const REASON_CODE = '2.5.29.21'

/** Hash and AlgorithmIdentifier. @see RFC 5758, section 3.2; RFC 4055, section 5 */
const ALGORITHMS: Readonly<
  Record<AuthorityKeyType, { readonly hash: string; readonly identifier: Uint8Array }>
> = {
  p256: {
    hash: 'sha256',
    identifier: encodeSequence(encodeObjectIdentifier('1.2.840.10045.4.3.2')),
  },
  p384: {
    hash: 'sha384',
    identifier: encodeSequence(encodeObjectIdentifier('1.2.840.10045.4.3.3')),
  },
  rsa3072: {
    hash: 'sha256',
    identifier: encodeSequence(encodeObjectIdentifier('1.2.840.113549.1.1.11'), encodeNull()),
  },
}

/**
 * Signs the whole list of what an authority takes back: version 2, with its number and the reason of each entry.
 *
 * **Does not check** that the number rises and that nothing left the list before its time: whoever keeps the entries does.
 *
 * @param options.number rises with each list of the authority; a safe integer
 * @returns DER
 * @see RFC 5280, section 5
 */
export function issueRevocationList(
  authority: Authority,
  options: {
    readonly number: number
    readonly thisUpdateMs: number
    readonly nextUpdateMs: number
    readonly revoked: readonly RevokedCertificate[]
  },
): Uint8Array {
  const { keyType, keys } = authority.signer
  const { hash, identifier } = ALGORITHMS[keyType]
  const { subjectDer, keyId } = issuerOf(authority)
  const list = encodeSequence(
    encodeInteger(VERSION_2),
    identifier,
    subjectDer,
    encodeTime(options.thisUpdateMs),
    encodeTime(options.nextUpdateMs),
    // absent, not empty, where nothing is revoked: section 5.1.2.6
    ...(options.revoked.length > 0
      ? [encodeSequence(new Uint8Array(Buffer.concat(options.revoked.map(encodeEntry))))]
      : []),
    encodeDer(
      EXTENSIONS_TAG,
      encodeSequence(
        encodeExtension(
          EXTENSION.authorityKeyIdentifier,
          encodeSequence(encodeDer(KEY_IDENTIFIER_TAG, keyId)),
        ),
        encodeExtension(EXTENSION.crlNumber, encodeInteger(options.number)),
      ),
    ),
  )
  const signature = sign(hash, list, KeyObject.from(keys.privateKey))
  const noUnusedBits = Uint8Array.of(0)
  return encodeSequence(list, identifier, encodeDer(TAG.bitString, concat(noUnusedBits, signature)))
}

/** The name of the authority octet for octet as in its certificate, and how that names its key. */
function issuerOf({ certificateDer }: Authority) {
  const keyId = subjectKeyId(parseCertificate(certificateDer).extensions)
  if (keyId === undefined) throw new TypeError('an authority of this site says which key it has')
  const [body] = parseDer(certificateDer).children
  // version, serial number, algorithm, issuer, validity, subject
  const subject = body?.children[5]
  if (!subject) throw new TypeError('a certificate that was read has a subject')
  return { subjectDer: subject.whole, keyId: fromHex(keyId) }
}

function encodeEntry({ serial, revokedAtMs, reason }: RevokedCertificate): Uint8Array {
  return encodeSequence(
    encodeDer(TAG.integer, fromHex(serial)),
    encodeTime(revokedAtMs),
    ENTRY_EXTENSIONS[reason],
  )
}

/** One that is not critical, which is the default and so left out. */
function encodeExtension(oid: string, value: Uint8Array): Uint8Array {
  return encodeSequence(encodeObjectIdentifier(oid), encodeOctetString(value))
}

/** The extensions of an entry with a reason: lists are long, and these are always the same. */
const ENTRY_EXTENSIONS: Readonly<Record<RevocationReason, Uint8Array>> = {
  'key-compromise': reasonExtensions('key-compromise'),
  superseded: reasonExtensions('superseded'),
  'cessation-of-operation': reasonExtensions('cessation-of-operation'),
}

function reasonExtensions(reason: RevocationReason): Uint8Array {
  const code = encodeDer(ENUMERATED_TAG, Uint8Array.of(REVOCATION_REASONS[reason]))
  return encodeSequence(encodeExtension(REASON_CODE, code))
}
