import { createPublicKey } from 'node:crypto'
import {
  BasicConstraintsExtension,
  CRLDistributionPointsExtension,
  ExtendedKeyUsageExtension,
  Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PublicKey,
} from '@peculiar/x509'
import { utf8, view } from '../core/bytes.js'
import { type Authority, issue, nameOf } from './authority.js'
import type { Certificate } from './certificate.js'
import { type DerNode, derInteger, derText, objectIdentifier, parseDer, TAG } from './der.js'
import {
  encodeDer,
  encodeInteger,
  encodeObjectIdentifier,
  encodeSequence,
  encodeUtf8String,
} from './der-encode.js'
import { EXTENSION, readable } from './extensions.js'
import { TPM_ATTRIBUTES, type TpmDescription } from './subject-alternative-name.js'

/** Which library specification a TPM implements. @see TCG EK Credential Profile 2.x, attribute tPMSpecification */
export interface TpmSpecification {
  /** `2.0` */
  readonly family: string
  readonly level: number
  /** In hundredths: 138 is 1.38. */
  readonly revision: number
}

/** A TPM as its certificates describe it. */
export interface CertifiedTpm extends TpmDescription {
  /** Absent where nobody told. */
  readonly specification?: TpmSpecification
}

/** What is certified of an endorsement key, beside dates. */
export interface EkSubject {
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  readonly subjectName: string
  readonly tpm: CertifiedTpm
  readonly kind: 'ek' | 'platform'
  readonly subjectAltUris: readonly string[]
}

/** Key purposes and attributes of the TCG. @see TCG OID registry: 2.23.133.8, 2.23.133.2 and 2.23.133.5.1 */
const OID = {
  ekCertificate: '2.23.133.8.1',
  platformKeyCertificate: '2.23.133.8.4',
  tpmSpecification: '2.23.133.2.16',
  platformManufacturer: '2.23.133.5.1.1',
  platformModel: '2.23.133.5.1.4',
  platformVersion: '2.23.133.5.1.5',
  platformSerial: '2.23.133.5.1.6',
} as const

/** The platform of a virtual TPM is its VM. */
const PLATFORM = { manufacturer: 'Sigillo', model: 'virtual machine', version: '1' } as const

const DIRECTORY_NAME_TAG = 0xa4
const URI_TAG = 0x86

/**
 * Certifies the endorsement key of a (virtual) TPM.
 *
 * The platform certificate is an ordinary certificate of the same key that says which platform the TPM is in. Of the TCG's
 * platform profile it has the purpose and the names; it is no attribute certificate and lists no components.
 *
 * @returns DER
 * @see TCG EK Credential Profile 2.x, clause 3; TCG Platform Certificate Profile 1.1, clause 3
 */
export async function issueEkCertificate(
  authority: Authority,
  options: EkSubject & {
    /** Where anybody finds the revocation list of the authority. */
    readonly revocationListUrl?: string
    readonly validityDays: number
    readonly now: number
  },
): Promise<Uint8Array> {
  const { revocationListUrl: url } = options
  const certificate = await issue({
    subject: nameOf(options.subjectName),
    publicKey: new PublicKey(view(options.publicKey)),
    signer: authority.signer,
    validityDays: options.validityDays,
    now: options.now,
    extensions: [
      ...ekExtensions(options),
      ...(url === undefined ? [] : [new CRLDistributionPointsExtension([url])]),
    ],
  })
  return new Uint8Array(certificate.rawData)
}

/**
 * What a certificate of an endorsement key says beside names, key and dates.
 *
 * The subjectAltName is not critical, as there is a subject too (RFC 5280, section 4.2.1.6); the values of TPM and platform
 * are UTF-8.
 */
export function ekExtensions(subject: EkSubject): readonly Extension[] {
  const { kind, tpm } = subject
  const isEk = kind === 'ek'
  const publicKey = createPublicKey({ key: view(subject.publicKey), type: 'spki', format: 'der' })
  const usage =
    publicKey.asymmetricKeyType === 'rsa'
      ? KeyUsageFlags.keyEncipherment
      : KeyUsageFlags.keyAgreement
  return [
    new BasicConstraintsExtension(false, undefined, true),
    new KeyUsagesExtension(usage, true),
    new ExtendedKeyUsageExtension([isEk ? OID.ekCertificate : OID.platformKeyCertificate]),
    new Extension(
      EXTENSION.subjectAltName,
      false,
      view(encodeAltNames(isEk ? tpmName(tpm) : platformName(subject), subject.subjectAltUris)),
    ),
    ...(isEk && tpm.specification
      ? [
          new Extension(
            EXTENSION.subjectDirectoryAttributes,
            false,
            view(encodeSpecification(tpm.specification)),
          ),
        ]
      : []),
  ]
}

/** What a certificate says of the specification of its TPM, where it says that in a way that can be read. */
export function readTpmSpecification({ extensions }: Certificate): TpmSpecification | undefined {
  const extension = extensions.get(EXTENSION.subjectDirectoryAttributes)
  const attributes = extension && readable(() => parseDer(extension.value).children)
  const attribute = attributes?.find(
    ({ children: [type] }) =>
      type && readable(() => objectIdentifier(type)) === OID.tpmSpecification,
  )
  return attribute && readable(() => specificationOf(attribute.children[1]?.children[0]))
}

function specificationOf(node: DerNode | undefined): TpmSpecification | undefined {
  const [family, level, revision] = node?.children ?? []
  if (!family || !level || !revision) return undefined
  return { family: derText(family), level: derInteger(level), revision: derInteger(revision) }
}

function tpmName({ manufacturer, model, version }: TpmDescription): Uint8Array {
  return encodeName([
    [TPM_ATTRIBUTES.manufacturer, manufacturer],
    [TPM_ATTRIBUTES.model, model],
    [TPM_ATTRIBUTES.version, version],
  ])
}

function platformName({ subjectName }: EkSubject): Uint8Array {
  return encodeName([
    [OID.platformManufacturer, PLATFORM.manufacturer],
    [OID.platformModel, PLATFORM.model],
    [OID.platformVersion, PLATFORM.version],
    [OID.platformSerial, subjectName],
  ])
}

/** Each attribute as a relative name of its own. */
function encodeName(attributes: readonly (readonly [oid: string, value: string])[]): Uint8Array {
  return encodeSequence(
    ...attributes.map(([oid, value]) =>
      encodeDer(TAG.set, encodeSequence(encodeObjectIdentifier(oid), encodeUtf8String(value))),
    ),
  )
}

/** @see RFC 5280, section 4.2.1.6: GeneralNames */
function encodeAltNames(name: Uint8Array, uris: readonly string[]): Uint8Array {
  return encodeSequence(
    encodeDer(DIRECTORY_NAME_TAG, name),
    ...uris.map((uri) => encodeDer(URI_TAG, utf8(uri))),
  )
}

/** @see RFC 5280, section 4.2.1.8: SubjectDirectoryAttributes */
function encodeSpecification({ family, level, revision }: TpmSpecification): Uint8Array {
  const value = encodeSequence(
    encodeUtf8String(family),
    encodeInteger(level),
    encodeInteger(revision),
  )
  return encodeSequence(
    encodeSequence(encodeObjectIdentifier(OID.tpmSpecification), encodeDer(TAG.set, value)),
  )
}
