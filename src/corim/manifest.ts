import type { Digest } from './digests.js'
import type { Identifier } from './identifier.js'

/**
 * A concise reference integrity manifest that was read. Who made it, and whether it is valid now, is not known by
 * having it: see `verifySignedCorim` and `verifyCorimValidity`.
 */
export interface Corim {
  readonly id: Identifier
  /** URI, or `urn:oid:` and an OID. */
  readonly profile?: string
  readonly validity?: Validity
  readonly entities: readonly Entity[]
  /** Where other manifests may be found, as the maker says. Never fetched here. */
  readonly dependentRims: readonly string[]
  readonly tags: readonly CorimTag[]
  /** Those of every module tag that no other tag of the manifest replaces. */
  readonly referenceValues: readonly ReferenceValue[]
}

/** Both ends belong to it. Milliseconds. */
export interface Validity {
  readonly notBeforeMs?: number
  readonly notAfterMs: number
}

export interface Entity {
  readonly name: string
  readonly uri?: string
  readonly roles: readonly string[]
}

export type CorimTag = ModuleTag | UnreadTag

/** A concise module identifier (CoMID). */
export interface ModuleTag {
  readonly kind: 'comid'
  readonly id: Identifier
  readonly version: number
  readonly language?: string
  readonly entities: readonly Entity[]
  readonly linkedTags: readonly LinkedTag[]
  /** Triples other than reference values, by name: they are there, and are not read. */
  readonly otherTriples: readonly string[]
}

/** Software identifiers and tag lists: well-formed, and not read. */
export interface UnreadTag {
  readonly kind: 'coswid' | 'cotl'
}

export interface LinkedTag {
  readonly id: Identifier
  readonly relation: 'supplements' | 'replaces'
}

/** One state that the environment may be in: all measurements together. Another state is another reference value. */
export interface ReferenceValue {
  readonly tagId: Identifier
  readonly environment: Environment
  readonly measurements: readonly Measurement[]
}

export interface Environment {
  readonly classId?: Identifier
  readonly vendor?: string
  readonly model?: string
  readonly layer?: number
  readonly index?: number
  readonly instance?: Identifier
  readonly group?: Identifier
}

export interface Measurement {
  /** What is measured: a number is the index of a PCR where the maker means a TPM. */
  readonly key?: number | Identifier
  /** Of one thing, each with another algorithm. */
  readonly digests: readonly Digest[]
  /** Digests by register; 5 and "5" are two registers. */
  readonly integrityRegisters?: ReadonlyMap<number | string, readonly Digest[]>
  readonly version?: string
  readonly name?: string
  readonly svn?: SecurityVersion
  readonly flags?: ReadonlyMap<string, boolean>
  /** Values and conditions of other kinds, by name: they are there, and are not read. */
  readonly others: readonly string[]
}

export interface SecurityVersion {
  readonly svn: number
  /** Whether higher ones are as good. */
  readonly minimum: boolean
}
