import { toHex } from '../../core/bytes.js'
import { encodeTtlv } from '../encode.js'
import type { Ttlv } from '../ttlv.js'
import { isDestroyed } from './lifecycle.js'
import type { ManagedObject } from './object.js'
import { KmipRefusal } from './refusal.js'
import { isName } from './unique-names.js'

interface Change {
  readonly id: string
  readonly before: ManagedObject | undefined
  readonly after: ManagedObject
}

/**
 * The objects, in memory alone: they end with the process.
 *
 * Changes are kept in a journal until they are committed, so that a batch or one of its items can be undone. The
 * octets of destroyed keys are filled with zeros when the change is committed, those of undone keys when it is undone.
 */
export class ObjectStore implements Disposable {
  readonly #objects = new Map<string, ManagedObject>()
  /** Names of objects that are not destroyed, with their owners. */
  readonly #names = new Set<string>()
  readonly #maxObjects: number
  #journal: Change[] = []

  constructor(maxObjects: number) {
    this.#maxObjects = maxObjects
  }

  get size(): number {
    return this.#objects.size
  }

  /** The object, when it is this client's. */
  get(id: string, owner: string): ManagedObject | undefined {
    const object = this.#objects.get(id)
    return object?.owner === owner ? object : undefined
  }

  /** All objects of a client, the earliest first. */
  *ownedBy(owner: string): Iterable<ManagedObject> {
    for (const object of this.#objects.values()) if (object.owner === owner) yield object
  }

  /** Adds an object, or puts it in the place of the one with its id. Throws `KMIP_REFUSED`, Server Limit Exceeded. */
  put(after: ManagedObject): void {
    const before = this.#objects.get(after.id)
    if (before === undefined && this.#objects.size >= this.#maxObjects) {
      throw new KmipRefusal('ServerLimitExceeded', `the server keeps ${this.#maxObjects} objects`)
    }
    this.#journal.push({ id: after.id, before, after })
    this.#set(after, before)
  }

  /** Whether an object of this client that is not destroyed has the name. */
  hasName(name: Ttlv, owner: string): boolean {
    return this.#names.has(nameKey(name, owner))
  }

  /** A point to undo to. */
  mark(): number {
    return this.#journal.length
  }

  /** Takes back all changes since the mark. */
  undo(mark: number): void {
    for (const { id, before, after } of this.#journal.splice(mark).reverse()) {
      if (before === undefined) {
        this.#forgetNames(after)
        this.#objects.delete(id)
      } else this.#set(before, after)
      if (after.body !== before?.body) after.body?.dispose()
    }
  }

  /** Makes the changes last. */
  commit(): void {
    for (const { before, after } of this.#journal) {
      if (before?.body !== after.body) before?.body?.dispose()
    }
    this.#journal = []
  }

  [Symbol.dispose](): void {
    for (const { body } of this.#objects.values()) body?.dispose()
    this.#objects.clear()
    this.#names.clear()
  }

  #set(object: ManagedObject, instead: ManagedObject | undefined): void {
    if (instead !== undefined) this.#forgetNames(instead)
    this.#objects.set(object.id, object)
    if (!isDestroyed(object.state)) {
      for (const key of nameKeys(object)) this.#names.add(key)
    }
  }

  #forgetNames(object: ManagedObject): void {
    if (isDestroyed(object.state)) return
    for (const key of nameKeys(object)) this.#names.delete(key)
  }
}

function nameKeys(object: ManagedObject): readonly string[] {
  return object.attributes.filter(isName).map(({ value }) => nameKey(value, object.owner))
}

function nameKey(name: Ttlv, owner: string): string {
  return `${toHex(encodeTtlv(name))} ${owner}`
}
