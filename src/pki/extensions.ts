import { toHex } from '../core/bytes.js'
import { isPlatformError } from '../core/errors.js'
import { type DerNode, derBoolean, derInteger, objectIdentifier, parseDer, TAG } from './der.js'

export interface Extension {
  readonly critical: boolean
  /** Content of the OCTET STRING. */
  readonly value: Uint8Array
}

export type Extensions = ReadonlyMap<string, Extension>

/** @see RFC 5280, section 4.2.1 and 5.2 */
export const EXTENSION = {
  subjectDirectoryAttributes: '2.5.29.9',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  crlNumber: '2.5.29.20',
  deltaCrlIndicator: '2.5.29.27',
  issuingDistributionPoint: '2.5.29.28',
  nameConstraints: '2.5.29.30',
  crlDistributionPoints: '2.5.29.31',
  certificatePolicies: '2.5.29.32',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  authorityInfoAccess: '1.3.6.1.5.5.7.1.1',
} as const

export const KEY_USAGE = {
  digitalSignature: 0,
  keyEncipherment: 2,
  keyAgreement: 4,
  keyCertSign: 5,
  cRLSign: 6,
} as const
export type KeyUsage = keyof typeof KEY_USAGE

/**
 * The extensions in `[3]` of a certificate or `[0]` of a revocation list.
 *
 * @throws DecodeError `CERT_UNREADABLE`, TypeError where one is there twice
 */
export function parseExtensions(wrapper: DerNode | undefined): Extensions {
  const extensions = new Map<string, Extension>()
  for (const node of wrapper?.children[0]?.children ?? []) {
    const { oid, extension } = parseExtension(node)
    if (extensions.has(oid)) throw new TypeError(`extension ${oid} twice`)
    extensions.set(oid, extension)
  }
  return extensions
}

function parseExtension(node: DerNode) {
  const [id, second, third, ...more] = node.children
  const value = third ?? second
  if (!id || value?.tag !== TAG.octetString || more.length > 0) throw new TypeError('an extension')
  const critical = third !== undefined && second !== undefined && derBoolean(second)
  return { oid: objectIdentifier(id), extension: { critical, value: value.content } }
}

/** @throws where the extension is there and cannot be read: whether it is an authority must not be guessed */
export function readBasicConstraints(extensions: Extensions): {
  readonly isCa: boolean
  readonly pathLength: number | undefined
} {
  const extension = extensions.get(EXTENSION.basicConstraints)
  const members = extension ? parseDer(extension.value).children : []
  const ca = members.find(({ tag }) => tag === TAG.boolean)
  const length = members.find(({ tag }) => tag === TAG.integer)
  return { isCa: ca ? derBoolean(ca) : false, pathLength: length && derInteger(length) }
}

/** Whether the extension is there and says this use. One that cannot be read says nothing. */
export function hasUsage(extensions: Extensions, usage: KeyUsage): boolean {
  const extension = extensions.get(EXTENSION.keyUsage)
  const octets = extension && readable(() => parseDer(extension.value))
  if (octets?.tag !== TAG.bitString) return false
  return ((octets.content[1] ?? 0) & (0x80 >> KEY_USAGE[usage])) !== 0
}

/** Whether an authority may use its key so: keyUsage is not there, or says it. */
export function mayUse(extensions: Extensions, usage: KeyUsage): boolean {
  return !extensions.has(EXTENSION.keyUsage) || hasUsage(extensions, usage)
}

/** The purposes of extendedKeyUsage; none where it is absent or cannot be read. */
export function purposesOf(extensions: Extensions): readonly string[] {
  const extension = extensions.get(EXTENSION.extendedKeyUsage)
  return (
    (extension && readable(() => parseDer(extension.value).children.map(objectIdentifier))) ?? []
  )
}

/** The identifiers of certificatePolicies; qualifiers are not looked at, as some makers have them wrong. */
export function policiesOf(extensions: Extensions): readonly string[] {
  const extension = extensions.get(EXTENSION.certificatePolicies)
  const read = () =>
    parseDer(extension?.value ?? new Uint8Array()).children.flatMap(({ children: [id] }) =>
      id ? [objectIdentifier(id)] : [],
    )
  return (extension && readable(read)) ?? []
}

/** Content of subjectKeyIdentifier, hexadecimal. */
export function subjectKeyId(extensions: Extensions): string | undefined {
  const extension = extensions.get(EXTENSION.subjectKeyIdentifier)
  const node = extension && readable(() => parseDer(extension.value))
  return node?.tag === TAG.octetString ? toHex(node.content) : undefined
}

const KEY_IDENTIFIER = 0x80

/** `keyIdentifier` of authorityKeyIdentifier, hexadecimal. */
export function authorityKeyId(extensions: Extensions): string | undefined {
  const extension = extensions.get(EXTENSION.authorityKeyIdentifier)
  const members = (extension && readable(() => parseDer(extension.value).children)) ?? []
  const id = members.find(({ tag }) => tag === KEY_IDENTIFIER)
  return id && toHex(id.content)
}

/** The result of reading, or nothing where the octets cannot be read: the check that needs it fails then. */
export function readable<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (isPlatformError(error)) return undefined
    throw error
  }
}
