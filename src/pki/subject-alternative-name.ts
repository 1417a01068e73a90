import type { Certificate } from './certificate.js'
import { type DerNode, derText, objectIdentifier, parseDer, TAG } from './der.js'
import { EXTENSION, readable } from './extensions.js'
import { printableText } from './name.js'

/** What a TPM's certificate says of it. @see TCG EK Credential Profile 2.x, clause 3.2.9 */
export interface TpmDescription {
  /** `id:494E5443` */
  readonly manufacturer: string
  readonly model: string
  readonly version: string
}

/** Attributes of the directory name. @see TCG OID registry: 2.23.133.2 */
export const TPM_ATTRIBUTES = {
  manufacturer: '2.23.133.2.1',
  model: '2.23.133.2.2',
  version: '2.23.133.2.3',
} as const

const OID = {
  hardwareModuleName: '1.3.6.1.5.5.7.8.4',
  tpm20: '2.23.133.1.2',
} as const

const OTHER_NAME = 0
const DIRECTORY_NAME = 4
/** Tag of a URI: `[6]`, implicit and primitive. */
const URI_TAG = 0x86

/** The TCG attributes in the directory name of the subjectAltName: one relative name or several, in any order. */
export function describeTpm(certificate: Certificate): TpmDescription | undefined {
  const attributes = new Map<string, string>()
  for (const name of namesOf(certificate, DIRECTORY_NAME)) collectAttributes(name, attributes)
  const manufacturer = attributes.get(TPM_ATTRIBUTES.manufacturer)
  const model = attributes.get(TPM_ATTRIBUTES.model)
  const version = attributes.get(TPM_ATTRIBUTES.version)
  if (manufacturer === undefined || model === undefined || version === undefined) return undefined
  return { manufacturer, model, version }
}

/**
 * Serial number of the TPM 2.0 in the hardware module name of a device certificate, for people.
 *
 * @see TCG TPM 2.0 Keys for Device Identity and Attestation 1.0, clause 8.1; RFC 4108, section 5
 */
export function hardwareSerial(certificate: Certificate): string | undefined {
  for (const name of namesOf(certificate, OTHER_NAME)) {
    const [type, value] = name.children
    const [hardware, serial] = value?.children[0]?.children ?? []
    const isHardware = type && readable(() => objectIdentifier(type)) === OID.hardwareModuleName
    const isTpm = hardware && readable(() => objectIdentifier(hardware)) === OID.tpm20
    if (isHardware && isTpm && serial?.tag === TAG.octetString && serial.content.length > 0) {
      return printableText(derText(serial))
    }
  }
  return undefined
}

/** An empty subject makes the subjectAltName the only name: it has to be critical then. @see RFC 5280, section 4.2.1.6 */
export function isNamed(certificate: Certificate): boolean {
  const extension = certificate.extensions.get(EXTENSION.subjectAltName)
  return !certificate.isSubjectEmpty || extension?.critical === true
}

/** Its URIs, in their order, whole: to be compared, and not to be printed as they are. @see RFC 5280, section 4.2.1.6 */
export function urisOf(certificate: Certificate): readonly string[] {
  return taggedNamesOf(certificate, URI_TAG).map(derText)
}

function namesOf(certificate: Certificate, kind: number): readonly DerNode[] {
  return taggedNamesOf(certificate, TAG.context(kind))
}

function taggedNamesOf(certificate: Certificate, wanted: number): readonly DerNode[] {
  const extension = certificate.extensions.get(EXTENSION.subjectAltName)
  const names = extension && readable(() => parseDer(extension.value).children)
  return names?.filter(({ tag }) => tag === wanted) ?? []
}

function collectAttributes(node: DerNode, attributes: Map<string, string>): void {
  const [type, value] = node.children
  if (node.tag === TAG.sequence && type?.tag === TAG.objectIdentifier && value) {
    const oid = readable(() => objectIdentifier(type))
    if (oid !== undefined && !attributes.has(oid))
      attributes.set(oid, printableText(derText(value)))
    return
  }
  for (const child of node.children) collectAttributes(child, attributes)
}
