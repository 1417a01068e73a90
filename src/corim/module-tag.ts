import { type CborItem, type CborLimits, parseCbor } from './cbor.js'
import {
  listOf,
  Members,
  mapOf,
  nameOf,
  octetsOf,
  refuse,
  tupleOf,
  uintOf,
  uriOf,
} from './cbor-fields.js'
import { type Identifier, parseId, parseIdentifier } from './identifier.js'
import type { Entity, Environment, LinkedTag, ModuleTag, ReferenceValue } from './manifest.js'
import { parseMeasurement } from './measurement.js'

/** Triples that are named and not read. */
const UNREAD_TRIPLES = [
  [1, 'endorsed-triples'],
  [2, 'identity-triples'],
  [3, 'attest-key-triples'],
  [4, 'dependency-triples'],
  [5, 'membership-triples'],
  [6, 'coswid-triples'],
  [8, 'conditional-endorsement-series-triples'],
  [10, 'conditional-endorsement-triples'],
] as const

const ROLES = ['tag-creator', 'creator', 'maintainer'] as const
const RELATIONS = ['supplements', 'replaces'] as const

export interface ParsedModuleTag {
  readonly tag: ModuleTag
  readonly referenceValues: readonly ReferenceValue[]
}

/**
 * `concise-mid-tag`: the octets inside tag 506.
 *
 * @throws DecodeError `CORIM_CBOR`, `CORIM_TOO_LARGE`; PlatformError `CORIM_VALUE`
 * @see draft-ietf-rats-corim-11, section "Concise Module Identifier (CoMID)"
 */
export function parseModuleTag(item: CborItem, path: string, limits: CborLimits): ParsedModuleTag {
  const members = new Members(parseCbor(octetsOf(item, path), limits), path)
  const language = members.optional(0, 'language', nameOf)
  const { id, version } = members.required(1, 'tag-identity', parseTagIdentity)
  const entities = members.optional(2, 'entities', (list, at) =>
    listOf(list, at, (entity, where) => parseEntity(entity, where, ROLES)),
  )
  const linkedTags = members.optional(3, 'linked-tags', (list, at) =>
    listOf(list, at, parseLinkedTag),
  )
  const triples = members.required(4, 'triples', (map, at) => parseTriples(map, at, id))
  members.end()
  const tag: ModuleTag = {
    kind: 'comid',
    id,
    version,
    ...(language === undefined ? {} : { language }),
    entities: entities ?? [],
    linkedTags: linkedTags ?? [],
    otherTriples: triples.otherTriples,
  }
  return { tag, referenceValues: triples.referenceValues }
}

/**
 * `entity-map` with the roles that it may claim, in the order of their numbers; no name is no role.
 *
 * @see draft-ietf-rats-corim-11, section "Entity"
 */
export function parseEntity(
  item: CborItem,
  path: string,
  allRoles: readonly (string | undefined)[],
): Entity {
  const members = new Members(item, path)
  const name = members.required(0, 'entity-name', nameOf)
  const uri = members.optional(1, 'reg-id', uriOf)
  const roles = members.required(2, 'role', (list, at) =>
    listOf(list, at, (role, where) => {
      const known = allRoles[uintOf(role, where)]
      if (known === undefined) throw refuse(where, 'a known role', role)
      return known
    }),
  )
  members.end()
  return { name, ...(uri === undefined ? {} : { uri }), roles }
}

function parseTagIdentity(item: CborItem, path: string) {
  const members = new Members(item, path)
  const id = members.required(0, 'tag-id', parseId)
  const version = members.optional(1, 'tag-version', uintOf) ?? 0
  members.end()
  return { id, version }
}

function parseLinkedTag(item: CborItem, path: string): LinkedTag {
  const members = new Members(item, path)
  const id = members.required(0, 'linked-tag-id', parseId)
  const relation = members.required(1, 'tag-rel', (number, at) => {
    const known = RELATIONS[uintOf(number, at)]
    if (known === undefined) throw refuse(at, 'a known relation', number)
    return known
  })
  members.end()
  return { id, relation }
}

function parseTriples(item: CborItem, path: string, tagId: Identifier) {
  const members = new Members(item, path)
  if (mapOf(item, path).size === 0) throw refuse(path, 'at least one triple', item)
  const referenceValues = members.optional(0, 'reference-triples', (list, at) =>
    listOf(list, at, (triple, where) => parseReferenceTriple(triple, where, tagId)),
  )
  const otherTriples = UNREAD_TRIPLES.flatMap(([key, name]) =>
    members.optional(key, name, (list, at) => listOf(list, at, () => name)) ? [name] : [],
  )
  members.end()
  return { referenceValues: referenceValues ?? [], otherTriples }
}

function parseReferenceTriple(item: CborItem, path: string, tagId: Identifier): ReferenceValue {
  const [environment = null, measurements = null] = tupleOf(item, path, 2)
  return {
    tagId,
    environment: parseEnvironment(environment, `${path}.environment`),
    measurements: listOf(measurements, `${path}.claims`, parseMeasurement),
  }
}

/** @see draft-ietf-rats-corim-11, section "Environments" */
function parseEnvironment(item: CborItem, path: string): Environment {
  const members = new Members(item, path)
  if (mapOf(item, path).size === 0) throw refuse(path, 'a class, an instance or a group', item)
  const environmentClass = members.optional(0, 'class', parseClass)
  const instance = members.optional(1, 'instance', (id, at) =>
    parseIdentifier(id, at, ['ueid', 'uuid', 'octets', 'key']),
  )
  const group = members.optional(2, 'group', (id, at) =>
    parseIdentifier(id, at, ['uuid', 'octets']),
  )
  members.end()
  return { ...environmentClass, ...(instance ? { instance } : {}), ...(group ? { group } : {}) }
}

function parseClass(item: CborItem, path: string): Environment {
  const members = new Members(item, path)
  if (mapOf(item, path).size === 0) throw refuse(path, 'at least one attribute', item)
  const classId = members.optional(0, 'class-id', (id, at) =>
    parseIdentifier(id, at, ['oid', 'uuid', 'octets']),
  )
  const vendor = members.optional(1, 'vendor', nameOf)
  const model = members.optional(2, 'model', nameOf)
  const layer = members.optional(3, 'layer', uintOf)
  const index = members.optional(4, 'index', uintOf)
  members.end()
  if (model !== undefined && vendor === undefined) {
    throw refuse(`${path}.vendor`, 'the vendor of the model', undefined)
  }
  return {
    ...(classId ? { classId } : {}),
    ...(vendor === undefined ? {} : { vendor }),
    ...(model === undefined ? {} : { model }),
    ...(layer === undefined ? {} : { layer }),
    ...(index === undefined ? {} : { index }),
  }
}
