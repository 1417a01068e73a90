import { toHex } from '../core/bytes.js'
import { DecodeError } from '../core/errors.js'
import { ByteReader } from '../core/reader.js'
import {
  describeCertificate,
  type LoggedCertificate,
  MAX_CERTIFICATES_READ,
} from './certificate.js'
import { guidText, readGuid } from './guid.js'
import { must } from './sized.js'

/** One EFI_SIGNATURE_LIST: entries of one kind. */
export interface SignatureList {
  readonly type: string
  /** Name of the type in the standard, or nothing where it has none. */
  readonly typeName: SignatureTypeName | undefined
  readonly signatures: readonly EfiSignature[]
}

/** EFI_SIGNATURE_DATA: who put it there, by the GUID that it says, and what it is. Views of the value. */
export interface EfiSignature {
  readonly owner: Uint8Array
  readonly data: Uint8Array
}

/** A list for people: of a variable with more than 1024 entries the first are shown, and the others counted. */
export interface DescribedSignatureList {
  readonly type: string
  readonly signatures: readonly DescribedSignature[]
  readonly omitted?: number
}

/** An entry for people. */
export type DescribedSignature = { readonly owner?: string } & (
  | { readonly certificate: LoggedCertificate }
  | { readonly hash: string; readonly of: 'image' | 'certificate' }
  | { readonly octets: number }
)

interface SignatureType {
  readonly name: string
  /** Octets of the data of one entry; 0 where any number is allowed. */
  readonly octets: number
  readonly hash?: { readonly octets: number; readonly of: 'image' | 'certificate' }
}

const OWNER_OCTETS = 16
const LIST_HEADER_OCTETS = 28
/** Entries of one variable: the revocation list of 2025 has fewer than 500. */
const MAX_ENTRIES = 10_000
const MAX_LISTS = 1024
const MAX_DESCRIBED = 1024

const image = (octets: number) => ({ octets, hash: { octets, of: 'image' } }) as const
/** A hash of a certificate is followed by the time of its revocation, 16 octets. */
const revoked = (octets: number) =>
  ({ octets: octets + 16, hash: { octets, of: 'certificate' } }) as const

/** @see UEFI Specification, clause 32.4.1 (signature types) */
const TYPES = {
  '826ca512-cf10-4ac9-b187-be01496631bd': { name: 'EFI_CERT_SHA1', ...image(20) },
  '0b6e5233-a65c-44c9-9407-d9ab83bfc8bd': { name: 'EFI_CERT_SHA224', ...image(28) },
  'c1c41626-504c-4092-aca9-41f936934328': { name: 'EFI_CERT_SHA256', ...image(32) },
  'ff3e5307-9fd0-48c9-85f1-8ad56c701e01': { name: 'EFI_CERT_SHA384', ...image(48) },
  '093e0fae-a6c4-4f50-9f1b-d41e2b89c19a': { name: 'EFI_CERT_SHA512', ...image(64) },
  'a5c059a1-94e4-4aa7-87b5-ab155c2bf072': { name: 'EFI_CERT_X509', octets: 0 },
  '3bd2a492-96c0-4079-b420-fcf98ef103ed': { name: 'EFI_CERT_X509_SHA256', ...revoked(32) },
  '7076876e-80c2-4ee6-aad2-28b349a6865b': { name: 'EFI_CERT_X509_SHA384', ...revoked(48) },
  '446dbf63-2502-4cda-bcfa-2465d2b0fe9d': { name: 'EFI_CERT_X509_SHA512', ...revoked(64) },
  '3c5766e8-269c-4e34-aa14-ed776e85b3b6': { name: 'EFI_CERT_RSA2048', octets: 256 },
  '67f8444f-8743-48f1-a328-1eaab8736080': { name: 'EFI_CERT_RSA2048_SHA1', octets: 256 },
  'e2b36190-879b-4a3d-ad8d-f2e7bba32784': { name: 'EFI_CERT_RSA2048_SHA256', octets: 256 },
  '4aafd29d-68df-49ee-8aa9-347d375665a7': { name: 'EFI_CERT_TYPE_PKCS7', octets: 0 },
} as const satisfies Record<string, SignatureType>

export type SignatureTypeName = (typeof TYPES)[keyof typeof TYPES]['name']

const types: ReadonlyMap<string, SignatureType & { readonly name: SignatureTypeName }> = new Map(
  Object.entries(TYPES),
)

/**
 * Reads the EFI_SIGNATURE_LISTs of PK, KEK, db, dbx and their kin, to the last octet.
 *
 * Each list must hold its header, the type's own header and whole entries of the size that its type has. The type's own
 * header is passed over and never taken for an entry. What entries hold is not looked at.
 *
 * @throws DecodeError: `DECODE_VALUE` for sizes that contradict one another, `DECODE_TOO_LARGE`, `DECODE_TRUNCATED`
 * @see UEFI Specification, clause 32.4.1 (EFI_SIGNATURE_LIST)
 */
export function parseSignatureLists(octets: Uint8Array): readonly SignatureList[] {
  const reader = new ByteReader(octets, 'little')
  const lists: SignatureList[] = []
  let entries = 0
  while (reader.remaining > 0) {
    const list = readList(reader)
    entries += list.signatures.length
    if (entries > MAX_ENTRIES || lists.length >= MAX_LISTS) {
      const expected = `expected at most ${MAX_ENTRIES} signatures in ${MAX_LISTS} lists`
      throw new DecodeError('DECODE_TOO_LARGE', reader.offset, expected)
    }
    lists.push(list)
  }
  return lists
}

function readList(reader: ByteReader): SignatureList {
  const type = readGuid(reader)
  const listOctets = reader.u32()
  const headerOctets = reader.u32()
  const entryOctets = reader.u32()
  must(listOctets >= LIST_HEADER_OCTETS + headerOctets, reader, 'a list that holds its headers')
  const body = new ByteReader(reader.take(listOctets - LIST_HEADER_OCTETS), 'little')
  body.take(headerOctets)
  const known = types.get(type)
  must(entryOctets > OWNER_OCTETS, reader, 'entries with an owner and data')
  must(body.remaining % entryOctets === 0, reader, `whole entries of ${entryOctets} octets`)
  const fits = !known || known.octets === 0 || known.octets === entryOctets - OWNER_OCTETS
  must(fits, reader, `entries of the size that ${known?.name} has`)
  must(body.remaining / entryOctets <= MAX_ENTRIES, reader, `at most ${MAX_ENTRIES} entries`)
  const signatures: EfiSignature[] = []
  while (body.remaining > 0) {
    signatures.push({
      owner: body.take(OWNER_OCTETS),
      data: body.take(entryOctets - OWNER_OCTETS),
    })
  }
  return { type, typeName: known?.name, signatures }
}

/** SHA-256 hashes of images in the lists, as lower-case hexadecimal text, in their order. */
export function imageHashesOf(lists: readonly SignatureList[]): readonly string[] {
  return lists
    .filter(({ typeName }) => typeName === 'EFI_CERT_SHA256')
    .flatMap(({ signatures }) => signatures.map(({ data }) => toHex(data)))
}

/** The lists for people; names are read of the first few certificates. */
export function describeSignatureLists(
  lists: readonly SignatureList[],
): readonly DescribedSignatureList[] {
  let shown = 0
  let certificates = 0
  return lists.map(({ type, typeName, signatures }) => {
    const some = signatures.slice(0, MAX_DESCRIBED - shown)
    shown += some.length
    const omitted = signatures.length - some.length
    const described = some.map((signature) => {
      if (typeName === 'EFI_CERT_X509') certificates += 1
      return describeSignature(type, signature, certificates <= MAX_CERTIFICATES_READ)
    })
    const list = { type: typeName ?? type, signatures: described }
    return omitted > 0 ? { ...list, omitted } : list
  })
}

function describeSignature(
  type: string,
  { owner: ownerGuid, data }: EfiSignature,
  readNames: boolean,
): DescribedSignature {
  const owner = guidText(ownerGuid)
  const known = types.get(type)
  if (known?.name === 'EFI_CERT_X509') {
    return { owner, certificate: describeCertificate(data, readNames) }
  }
  return known?.hash
    ? { owner, hash: toHex(data.subarray(0, known.hash.octets)), of: known.hash.of }
    : { owner, octets: data.length }
}

const DER_SEQUENCE = 0x30
const LENGTH_IN_TWO_OCTETS = 0x82
const SHA256_OCTETS = 32

/**
 * The entry that allowed an image, from EV_EFI_VARIABLE_AUTHORITY: an EFI_SIGNATURE_DATA whose type the log does not
 * tell. Old shims left the owner out and logged a bare certificate.
 *
 * @throws DecodeError where not even an owner is there
 */
export function describeAuthority(octets: Uint8Array): DescribedSignature {
  if (isCertificate(octets)) return { certificate: describeCertificate(octets) }
  const reader = new ByteReader(octets, 'little')
  const owner = readGuid(reader)
  const data = reader.rest()
  if (isCertificate(data)) return { owner, certificate: describeCertificate(data) }
  return data.length === SHA256_OCTETS
    ? { owner, hash: toHex(data), of: 'image' }
    : { owner, octets: data.length }
}

function isCertificate(octets: Uint8Array): boolean {
  if (octets[0] !== DER_SEQUENCE || octets[1] !== LENGTH_IN_TWO_OCTETS) return false
  const content = ((octets[2] ?? 0) << 8) | (octets[3] ?? 0)
  return content + 4 === octets.length
}
