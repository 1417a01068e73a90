import { PlatformError } from '../core/errors.js'
import { type CborItem, type CborLimits, CborTag, parseCbor } from './cbor.js'
import { arrayOf, listOf, Members, octetsOf, refuse, tagOf, timeOf, uriOf } from './cbor-fields.js'
import { parseDigest } from './digests.js'
import { type Identifier, oidText, parseId, TAG_OID } from './identifier.js'
import type { Corim, CorimTag, ReferenceValue, Validity } from './manifest.js'
import { type ParsedModuleTag, parseEntity, parseModuleTag } from './module-tag.js'

/** Manifests of machines have some kilobytes. */
export const CORIM_LIMITS: CborLimits = { maxOctets: 1024 * 1024, maxDepth: 24, maxItems: 50_000 }

/**
 * Profiles that change nothing of how a manifest is read here. That of Parsec says that measurement keys are indexes
 * of PCRs, which is how they are taken without it too.
 *
 * @see https://github.com/veraison/services, scheme/parsec-tpm
 */
export const CORIM_PROFILES: readonly string[] = ['tag:github.com/parallaxsecond,2023-03-03:tpm']

const TAG = {
  coseSign1: 18,
  outer: 500,
  corim: 501,
  signed: 502,
  coswid: 505,
  comid: 506,
  cotl: 508,
} as const
/** Role 0 is none of a manifest. @see draft-ietf-rats-corim-11, CDDL `$corim-role-type-choice` */
const ROLES = [undefined, 'manifest-creator', 'manifest-signer'] as const

/**
 * Reads an unsigned concise reference integrity manifest: tag 501, or 501 inside the 500 of drafts 00 to 06.
 *
 * Read are reference values of module tags (CoMID, tag 506). Software identifiers (CoSWID, 505), tag lists (CoTL, 508)
 * and other triples are named and not read; tags count without a tag list. What the draft does not know, and members
 * that only a profile could explain, are refused with the whole manifest, as is a profile that is not in `profiles`.
 *
 * **Does not check** who made the manifest nor whether it is valid now. A signed manifest is refused here: its content
 * is read by `verifySignedCorim` alone.
 *
 * @throws DecodeError `CORIM_TOO_LARGE`, `CORIM_CBOR`
 * @throws PlatformError `CORIM_TYPE`, `CORIM_VALUE`, `CORIM_PROFILE`
 * @see draft-ietf-rats-corim-11 (2026-07)
 */
export function parseCorim(
  octets: Uint8Array,
  limits: CborLimits = CORIM_LIMITS,
  profiles: readonly string[] = CORIM_PROFILES,
): Corim {
  const { isSigned, content } = openCorim(octets, limits)
  if (!isSigned) return corimOf(content, limits, profiles)
  throw new PlatformError('CORIM_TYPE', 'expected an unsigned manifest, found a signed one')
}

interface OpenedCorim {
  readonly isSigned: boolean
  /** COSE_Sign1 where it is signed, else the map of the manifest. */
  readonly content: CborItem
}

/**
 * What the outermost tag says that the octets are: 501, or 18 for COSE_Sign1.
 *
 * @throws DecodeError `CORIM_TOO_LARGE`, `CORIM_CBOR`; PlatformError `CORIM_TYPE`
 * @see draft-ietf-rats-corim-11, CDDL `concise-rim-type-choice`; draft-ietf-rats-corim-06 for tags 500 and 502
 */
export function openCorim(octets: Uint8Array, limits: CborLimits): OpenedCorim {
  const outermost = parseCbor(octets, limits)
  const outer = inside(outermost, TAG.outer)
  const unsigned = inside(outer ?? outermost, TAG.corim)
  if (unsigned !== undefined) return { isSigned: false, content: unsigned }
  const signed = inside(outer === undefined ? outermost : inside(outer, TAG.signed), TAG.coseSign1)
  if (signed !== undefined) return { isSigned: true, content: signed }
  throw new PlatformError(
    'CORIM_TYPE',
    'expected a manifest (tag 501) or a signed one (tag 18), found other data',
  )
}

function inside(item: CborItem | undefined, tag: number): CborItem | undefined {
  return item instanceof CborTag && item.tag === tag ? item.item : undefined
}

/** @see draft-ietf-rats-corim-11, section "CoRIM Map" */
function corimOf(item: CborItem, limits: CborLimits, profiles: readonly string[]): Corim {
  const members = new Members(item, 'corim')
  // Before anything that a profile could give another meaning.
  const profile = members.optional(3, 'profile', parseProfile)
  if (profile !== undefined && !profiles.includes(profile)) {
    throw new PlatformError(
      'CORIM_PROFILE',
      `expected ${profiles.join(' or ') || 'no'} profile, found ${profile}`,
    )
  }
  const id = members.required(0, 'id', parseId)
  const tags = members.required(1, 'tags', (list, path) =>
    listOf(list, path, (tag, at) => parseTag(tag, at, limits)),
  )
  const dependentRims = members.optional(2, 'dependent-rims', (list, path) =>
    listOf(list, path, parseLocator),
  )
  const validity = members.optional(4, 'rim-validity', parseValidity)
  const entities = members.optional(5, 'entities', (list, path) =>
    listOf(list, path, (entity, at) => parseEntity(entity, at, ROLES)),
  )
  members.end()
  const signers = entities?.filter(({ roles }) => roles.includes('manifest-signer')) ?? []
  if (signers.length > 1) throw refuse('corim.entities', 'one signer at most', signers.length)
  return {
    id,
    ...(profile === undefined ? {} : { profile }),
    ...(validity ? { validity } : {}),
    entities: entities ?? [],
    dependentRims: dependentRims?.flat() ?? [],
    tags: tags.map(({ tag }) => tag),
    referenceValues: activeValues(tags),
  }
}

interface ParsedTag {
  readonly tag: CorimTag
  readonly referenceValues: readonly ReferenceValue[]
}

function parseTag(item: CborItem, path: string, limits: CborLimits): ParsedTag | ParsedModuleTag {
  const { tag, item: content } = tagOf(item, path)
  if (tag === TAG.comid) return parseModuleTag(content, path, limits)
  if (tag !== TAG.coswid && tag !== TAG.cotl) throw refuse(path, 'a tag that is known', item)
  parseCbor(octetsOf(content, path), limits)
  return { tag: { kind: tag === TAG.coswid ? 'coswid' : 'cotl' }, referenceValues: [] }
}

/**
 * Reference values but for those of replaced tags, which must not be used. Two module tags of one identity are refused,
 * since nothing says which of them counts.
 *
 * @see draft-ietf-rats-corim-11, section "Linked Tag"
 */
function activeValues(tags: readonly ParsedTag[]): readonly ReferenceValue[] {
  const modules = tags.flatMap(({ tag }) => (tag.kind === 'comid' ? [tag] : []))
  const names = modules.map(({ id }) => nameOfId(id))
  if (new Set(names).size < names.length) {
    throw refuse('corim.tags', 'module tags of different identities', names.length)
  }
  const replaced = new Set(
    modules.flatMap(({ linkedTags }) =>
      linkedTags.flatMap(({ id, relation }) => (relation === 'replaces' ? [nameOfId(id)] : [])),
    ),
  )
  return tags.flatMap(({ tag, referenceValues }) =>
    tag.kind === 'comid' && replaced.has(nameOfId(tag.id)) ? [] : referenceValues,
  )
}

function nameOfId({ kind, text }: Identifier): string {
  return `${kind} ${text}`
}

function parseProfile(item: CborItem, path: string): string {
  const { tag, item: content } = tagOf(item, path)
  return tag === TAG_OID ? `urn:oid:${oidText(content, path)}` : uriOf(item, path)
}

/** `validity-map`. @see draft-ietf-rats-corim-11, section "Validity" */
export function parseValidity(item: CborItem, path: string): Validity {
  const members = new Members(item, path)
  const notBeforeMs = members.optional(0, 'not-before', timeOf)
  const notAfterMs = members.required(1, 'not-after', timeOf)
  members.end()
  if (notBeforeMs !== undefined && notBeforeMs > notAfterMs) {
    throw refuse(path, 'an end that is not before the beginning', item)
  }
  return { ...(notBeforeMs === undefined ? {} : { notBeforeMs }), notAfterMs }
}

/** The addresses of `corim-locator-map`; their thumbprints are read and not kept, as nothing is fetched. */
function parseLocator(item: CborItem, path: string): readonly string[] {
  const members = new Members(item, path)
  const addresses = members.required(0, 'href', (href, at) =>
    href instanceof CborTag ? [uriOf(href, at)] : listOf(href, at, uriOf),
  )
  members.optional(1, 'thumbprint', (thumbprint, at) =>
    Array.isArray(arrayOf(thumbprint, at)[0])
      ? listOf(thumbprint, at, parseDigest)
      : parseDigest(thumbprint, at),
  )
  members.end()
  return addresses
}
