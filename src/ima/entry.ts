import type { HashName } from '../tpm/index.js'

/** Templates of the kernel, by their fields. @see Linux, security/integrity/ima/ima_template.c */
export const IMA_TEMPLATES = {
  ima: ['d', 'n'],
  'ima-ng': ['d-ng', 'n-ng'],
  'ima-sig': ['d-ng', 'n-ng', 'sig'],
  'ima-buf': ['d-ng', 'n-ng', 'buf'],
  'ima-modsig': ['d-ng', 'n-ng', 'sig', 'd-modsig', 'modsig'],
  'ima-ngv2': ['d-ngv2', 'n-ng'],
  'ima-sigv2': ['d-ngv2', 'n-ng', 'sig'],
} as const satisfies Readonly<Record<string, readonly string[]>>

export type ImaTemplate = keyof typeof IMA_TEMPLATES
export type ImaField = (typeof IMA_TEMPLATES)[ImaTemplate][number]

/** Digest of a file, with the name that the kernel gives to the algorithm. */
export interface ImaDigest {
  readonly algorithm: string
  readonly digest: Uint8Array
}

/** One measurement of the running system. */
export interface ImaEntry {
  /** From 0 in the list that was read. */
  readonly index: number
  readonly pcr: number
  readonly template: ImaTemplate
  /**
   * Digest of the template data as the list says: SHA-1, or longer in the lists that kernels since 6.10 show for a bank.
   * All zeros marks a violation.
   */
  readonly templateHash: Uint8Array
  /** What the kernel hashes and extends. */
  readonly templateData: Uint8Array
  readonly digest: ImaDigest
  /** As the kernel has it: text of whoever made the file, not escaped. */
  readonly path: string
  readonly signature?: Uint8Array
  readonly buffer?: Uint8Array
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

export function isImaTemplate(name: string): name is ImaTemplate {
  return Object.hasOwn(IMA_TEMPLATES, name)
}
