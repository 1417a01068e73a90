import type { HashName } from '../tpm/index.js'

/** How the text list shows a field: octets and digests in hexadecimal, numbers in decimal. */
export type ImaFieldForm = 'octets' | 'digest' | 'text' | 'u32' | 'u16'

/** Fields of templates. @see Linux, security/integrity/ima/ima_template.c, supported_fields */
export const IMA_FIELDS = {
  d: 'octets',
  n: 'text',
  'd-ng': 'digest',
  'd-ngv2': 'digest',
  'n-ng': 'text',
  sig: 'octets',
  buf: 'octets',
  'd-modsig': 'digest',
  modsig: 'octets',
  evmsig: 'octets',
  xattrnames: 'text',
  xattrlengths: 'octets',
  xattrvalues: 'octets',
  iuid: 'u32',
  igid: 'u32',
  imode: 'u16',
} as const satisfies Readonly<Record<string, ImaFieldForm>>

export type ImaField = keyof typeof IMA_FIELDS

/** Templates of the kernel, by their fields. @see Linux, security/integrity/ima/ima_template.c, builtin_templates */
const TEMPLATES: Readonly<Record<string, readonly ImaField[]>> = {
  ima: ['d', 'n'],
  'ima-ng': ['d-ng', 'n-ng'],
  'ima-sig': ['d-ng', 'n-ng', 'sig'],
  'ima-buf': ['d-ng', 'n-ng', 'buf'],
  'ima-modsig': ['d-ng', 'n-ng', 'sig', 'd-modsig', 'modsig'],
  'ima-ngv2': ['d-ngv2', 'n-ng'],
  'ima-sigv2': ['d-ngv2', 'n-ng', 'sig'],
  'evm-sig': [
    ...(['d-ng', 'n-ng', 'evmsig', 'xattrnames', 'xattrlengths', 'xattrvalues'] as const),
    ...(['iuid', 'igid', 'imode'] as const),
  ],
}

/** Longest name of a template: the fields of `evm-sig`. @see ima_template.c, MAX_TEMPLATE_NAME_LEN */
export const MAX_TEMPLATE_NAME_OCTETS = 80
const DIGEST_FIELDS: readonly string[] = ['d-ng', 'd-ngv2']

/**
 * The fields of a template by its name, or of a template that was set up with `ima_template_fmt`, whose name lists them
 * (`d-ng|n-ng|sig`). Nothing for other names.
 *
 * Whatever the name says, digest and path are the first two fields: the name is not measured, and a host that changes it
 * must not make another field the digest.
 */
export function templateFields(name: string): readonly ImaField[] | undefined {
  if (Object.hasOwn(TEMPLATES, name)) return TEMPLATES[name]
  const fields = name.split('|')
  const [digest = '', path, ...others] = fields
  const isKnown = others.every(
    (field) => isField(field) && !['d', 'n', 'n-ng', ...DIGEST_FIELDS].includes(field),
  )
  const isEachOnce = new Set(fields).size === fields.length
  if (!DIGEST_FIELDS.includes(digest) || path !== 'n-ng' || !isKnown || !isEachOnce)
    return undefined
  return fields.filter(isField)
}

function isField(name: string): name is ImaField {
  return Object.hasOwn(IMA_FIELDS, name)
}

/** Digest of a file, with the name that the kernel gives to the algorithm. */
export interface ImaDigest {
  /** `verity`: not of the content of the file, but of its fs-verity descriptor. */
  readonly kind: 'file' | 'verity'
  readonly algorithm: string
  readonly digest: Uint8Array
}

/** One measurement of the running system. */
export interface ImaEntry {
  /** From 0 in the list of the boot. */
  readonly index: number
  readonly pcr: number
  /** Untrusted: not measured. Digest and path are the same fields whatever it says. */
  readonly template: string
  /**
   * Digest of the template data as the list says: SHA-1, or longer in the lists that kernels since 6.10 show for a bank.
   * All zeros marks a violation.
   */
  readonly templateHash: Uint8Array
  /** What the kernel hashes and extends; untrusted in a violation, of which nothing is extended. */
  readonly templateData: Uint8Array
  readonly digest: ImaDigest
  /** As the kernel has it, blanks as underscores: text of whoever made the file, not escaped. */
  readonly path: string
  /** `security.ima` of the file, if that is a signature. */
  readonly signature?: Uint8Array
  /** What was measured in place of a file: a key, a command line. */
  readonly buffer?: Uint8Array
  /** PKCS #7. Not verified. */
  readonly moduleSignature?: Uint8Array
  /** The file was written while it was measured, or measured while it was open for writing. */
  readonly violation: boolean
}

/** Where a list of measurements stands after some of its entries. */
export interface ImaProgress {
  readonly bank: HashName
  readonly entries: number
  readonly value: Uint8Array
}
