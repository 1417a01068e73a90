import type { CborItem } from './cbor.js'
import { CborTag } from './cbor.js'
import { boolOf, listOf, Members, mapOf, nameOf, refuse, uintOf } from './cbor-fields.js'
import { type Digest, parseDigests } from './digests.js'
import { type Identifier, parseIdentifier } from './identifier.js'
import type { Measurement, SecurityVersion } from './manifest.js'

const TAG_SVN = 552
const TAG_MIN_SVN = 553

/** @see draft-ietf-rats-corim-11, CDDL `flags-map` */
const FLAGS = [
  'is-configured',
  'is-secure',
  'is-recovery',
  'is-debug',
  'is-replay-protected',
  'is-integrity-protected',
  'is-runtime-meas',
  'is-immutable',
  'is-tcb',
  'is-confidentiality-protected',
  'is-runtime-updatable',
] as const

/** Members of `measurement-values-map` that are named and not read. */
const UNREAD_VALUES = [
  [4, 'raw-value'],
  [5, 'raw-value-mask'],
  [6, 'mac-addr'],
  [7, 'ip-addr'],
  [8, 'serial-number'],
  [9, 'ueid'],
  [10, 'uuid'],
  [13, 'cryptokeys'],
  [15, 'int-range'],
] as const

/**
 * `measurement-map`: what a measured element is expected to be.
 *
 * @throws PlatformError `CORIM_VALUE`
 * @see draft-ietf-rats-corim-11, section "Measurements"
 */
export function parseMeasurement(item: CborItem, path: string): Measurement {
  const members = new Members(item, path)
  const key = members.optional(0, 'mkey', parseKey)
  const measurement = members.required(1, 'mval', parseValues)
  const authorities = members.optional(2, 'authorized-by', parseAuthorities)
  members.end()
  if (key !== undefined) measurement.key = key
  if (authorities) measurement.others = [...measurement.others, 'authorized-by']
  return measurement
}

function parseAuthorities(item: CborItem, path: string): readonly Identifier[] {
  return listOf(item, path, (key, at) => parseIdentifier(key, at, ['key', 'octets']))
}

function parseKey(item: CborItem, path: string): number | Identifier {
  if (typeof item === 'number') return uintOf(item, path)
  if (typeof item === 'string') return { kind: 'text', text: nameOf(item, path) }
  return parseIdentifier(item, path, ['uuid', 'oid'])
}

/** Members one by one: spreading objects together takes most of the time of a large manifest. */
type Growing<T> = { -readonly [K in keyof T]: T[K] }

function parseValues(item: CborItem, path: string): Growing<Measurement> {
  const members = new Members(item, path)
  if (mapOf(item, path).size === 0) throw refuse(path, 'at least one value', item)
  const digests = members.optional(2, 'digests', parseDigests) ?? []
  const integrityRegisters = members.optional(14, 'integrity-registers', parseRegisters)
  const version = members.optional(0, 'version', parseVersion)
  const name = members.optional(11, 'name', nameOf)
  const svn = members.optional(1, 'svn', parseSvn)
  const flags = members.optional(3, 'flags', parseFlags)
  const measurement: Growing<Measurement> = { digests, others: members.present(UNREAD_VALUES) }
  members.end()
  if (integrityRegisters) measurement.integrityRegisters = integrityRegisters
  if (version !== undefined) measurement.version = version
  if (name !== undefined) measurement.name = name
  if (svn) measurement.svn = svn
  if (flags) measurement.flags = flags
  return measurement
}

/** The scheme says how versions are ordered; they are not compared here. */
function parseVersion(item: CborItem, path: string): string {
  const members = new Members(item, path)
  const version = members.required(0, 'version', nameOf)
  members.optional(1, 'version-scheme', (scheme, at) =>
    typeof scheme === 'number' ? scheme : nameOf(scheme, at),
  )
  members.end()
  return version
}

function parseSvn(item: CborItem, path: string): SecurityVersion {
  if (!(item instanceof CborTag)) return { svn: uintOf(item, path), minimum: false }
  if (item.tag !== TAG_SVN && item.tag !== TAG_MIN_SVN) {
    throw refuse(path, 'a security version number', item)
  }
  return { svn: uintOf(item.item, path), minimum: item.tag === TAG_MIN_SVN }
}

function parseFlags(item: CborItem, path: string): ReadonlyMap<string, boolean> {
  const members = new Members(item, path)
  const flags = FLAGS.flatMap((name, key): [string, boolean][] => {
    const value = members.optional(key, name, boolOf)
    return value === undefined ? [] : [[name, value]]
  })
  members.end()
  if (flags.length === 0) throw refuse(path, 'at least one flag', item)
  return new Map(flags)
}

function parseRegisters(
  item: CborItem,
  path: string,
): ReadonlyMap<number | string, readonly Digest[]> {
  const registers = [...mapOf(item, path)].map(([register, digests]) => {
    const at = `${path}[${String(register).slice(0, 20)}]`
    const id = typeof register === 'string' ? nameOf(register, at) : uintOf(register, at)
    return [id, parseDigests(digests, at)] as const
  })
  if (registers.length === 0) throw refuse(path, 'at least one register', item)
  return new Map(registers)
}
