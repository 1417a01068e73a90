import { toHex } from '../core/bytes.js'
import { PlatformError } from '../core/errors.js'
import { type CborArray, CborFloat, type CborItem, type CborMap, CborTag } from './cbor.js'

/** Names and sentences of a manifest; keys and certificates in PEM may be longer. */
const MAX_NAME_CHARACTERS = 1000
const MAX_SHOWN_CHARACTERS = 60
/** The end of year 9999, seconds. */
const MAX_SECONDS = 253_402_300_799
const TAG_TIME = 1
const TAG_URI = 32

/** A refusal that says where in the manifest: `triples[0].environment`. */
export function refuse(path: string, expected: string, found: CborItem | undefined): PlatformError {
  const shown = found === undefined ? 'nothing' : describeItem(found)
  return new PlatformError('CORIM_VALUE', `${path}: expected ${expected}, found ${shown}`)
}

/** A map whose keys are known: every member is asked for by `take`, and `end` refuses what was not. */
export class Members {
  readonly path: string
  readonly #map: CborMap
  readonly #taken: number[] = []

  constructor(item: CborItem | undefined, path: string) {
    this.path = path
    this.#map = mapOf(item, path)
  }

  take(key: number): CborItem | undefined {
    const item = this.#map.get(key)
    if (item !== undefined) this.#taken.push(key)
    return item
  }

  /** What `read` makes of a member; nothing where there is none. */
  optional<T>(key: number, name: string, read: (item: CborItem, path: string) => T): T | undefined {
    const item = this.take(key)
    return item === undefined ? undefined : read(item, this.at(name))
  }

  required<T>(key: number, name: string, read: (item: CborItem, path: string) => T): T {
    const item = this.take(key)
    if (item === undefined) throw refuse(this.at(name), 'a value', undefined)
    return read(item, this.at(name))
  }

  /** Names of those members that are there. */
  present(members: readonly (readonly [key: number, name: string])[]): readonly string[] {
    const left = this.#map.size - this.#taken.length
    return left === 0 ? [] : members.filter(([key]) => this.take(key) !== undefined).map(nameOnly)
  }

  at(name: string): string {
    return `${this.path}.${name}`
  }

  /** Negative keys are those of profiles, and no profile that is understood here has any. */
  end(): void {
    if (this.#taken.length === this.#map.size) return
    for (const key of this.#map.keys()) {
      const isTaken = typeof key === 'number' && this.#taken.includes(key)
      if (!isTaken) throw refuse(this.path, 'no other members', key)
    }
  }
}

function nameOnly([, name]: readonly [key: number, name: string]): string {
  return name
}

export function mapOf(item: CborItem | undefined, path: string): CborMap {
  if (item instanceof Map) return item
  throw refuse(path, 'a map', item)
}

export function arrayOf(item: CborItem | undefined, path: string): CborArray {
  if (Array.isArray(item)) return item
  throw refuse(path, 'an array', item)
}

/** An array of at least one item, each read. */
export function listOf<T>(
  item: CborItem,
  path: string,
  read: (item: CborItem, path: string) => T,
): readonly T[] {
  const items = arrayOf(item, path)
  if (items.length === 0) throw refuse(path, 'at least one item', item)
  return items.map((each, index) => read(each, `${path}[${index}]`))
}

/** An array of exactly so many items. */
export function tupleOf(item: CborItem, path: string, length: number): CborArray {
  const items = arrayOf(item, path)
  if (items.length !== length) throw refuse(path, `${length} items`, item)
  return items
}

export function tagOf(item: CborItem | undefined, path: string): CborTag {
  if (item instanceof CborTag) return item
  throw refuse(path, 'a tagged item', item)
}

export function octetsOf(item: CborItem | undefined, path: string): Uint8Array {
  if (item instanceof Uint8Array) return item
  throw refuse(path, 'octets', item)
}

/** Octets of one length. */
export function sizedOctetsOf(item: CborItem, path: string, length: number): Uint8Array {
  const octets = octetsOf(item, path)
  if (octets.length !== length) throw refuse(path, `${length} octets`, item)
  return octets
}

/** Text that can be shown in one line: no control characters, not empty. */
export function nameOf(item: CborItem | undefined, path: string): string {
  if (typeof item === 'string' && item.length > 0 && item.length <= MAX_NAME_CHARACTERS) {
    if (!/\p{Cc}/u.test(item)) return item
  }
  throw refuse(path, `text of 1 to ${MAX_NAME_CHARACTERS} characters in one line`, item)
}

export function uintOf(item: CborItem | undefined, path: string): number {
  if (typeof item === 'number' && item >= 0) return item
  throw refuse(path, 'an unsigned integer below 2^53', item)
}

export function boolOf(item: CborItem, path: string): boolean {
  if (typeof item === 'boolean') return item
  throw refuse(path, 'true or false', item)
}

/** `uri`: tag 32 around text. Not taken apart, and never fetched. */
export function uriOf(item: CborItem, path: string): string {
  const { tag, item: content } = tagOf(item, path)
  if (tag !== TAG_URI) throw refuse(path, 'a URI', item)
  return nameOf(content, path)
}

/** `time`: tag 1 around seconds since 1970, whole or not. In milliseconds, whole. */
export function timeOf(item: CborItem, path: string): number {
  const { tag, item: content } = tagOf(item, path)
  if (tag !== TAG_TIME) throw refuse(path, 'a time', item)
  return secondsOf(content, path)
}

/** Seconds since 1970 without a tag, as CWT claims have them. In milliseconds, whole. */
export function secondsOf(item: CborItem, path: string): number {
  const seconds = item instanceof CborFloat ? item.value : item
  if (typeof seconds === 'number' && seconds >= 0 && seconds <= MAX_SECONDS) {
    return Math.floor(seconds * 1000)
  }
  throw refuse(path, 'seconds from 1970 to 9999', item)
}

/**
 * An item in the way of the diagnostic notation, short: for messages, and for identifiers that are not interpreted.
 *
 * @see RFC 8949, section 8
 */
export function describeItem(item: CborItem): string {
  const text = notation(item, MAX_SHOWN_CHARACTERS)
  return text.length > MAX_SHOWN_CHARACTERS ? `${text.slice(0, MAX_SHOWN_CHARACTERS)}…` : text
}

function notation(item: CborItem, room: number): string {
  if (typeof item === 'string') return JSON.stringify(item.slice(0, room))
  if (item instanceof Uint8Array) return `h'${toHex(item.subarray(0, room))}'`
  if (item instanceof CborFloat) return `${item.value}`
  if (item instanceof CborTag) return `${item.tag}(${notation(item.item, room)})`
  if (item instanceof Map) return `a map of ${item.size}`
  if (Array.isArray(item)) return `an array of ${item.length}`
  return String(item)
}
