import type { Assurance, KeyContext, Purpose } from '../../api/key-provider.js'
import { PlatformError } from '../../core/errors.js'
import { randomOctets } from '../../core/random.js'
import { Secret } from '../../core/secret.js'
import type { KeyClient } from './ports.js'
import type { KeyRecord } from './records.js'

const DEK_OCTETS = 32

/** What has a key of its own in a VM. */
export type KeyObject = 'home' | 'vtpm' | 'vtpm-migration' | `disk-${string}`

/** The keys of a virtual TPM: of its state, and of what leaves the host of it. */
export const VTPM_KEYS = ['vtpm', 'vtpm-migration'] as const

/** Keys of one VM in the clear, for as long as one operation takes. */
export class VmKeys implements Disposable {
  readonly #keys: ReadonlyMap<string, Secret>

  constructor(keys: ReadonlyMap<string, Secret>) {
    this.#keys = keys
  }

  /** Lent until the keys are disposed of. */
  of(object: KeyObject): Secret {
    const key = this.#keys.get(object)
    if (!key) throw new TypeError(`the key of ${object} was not asked for`)
    return key
  }

  [Symbol.dispose](): void {
    for (const key of this.#keys.values()) key.dispose()
  }
}

export function keyObjects(disks: readonly string[], hasVtpm: boolean): readonly KeyObject[] {
  return ['home', ...disks.map((name): KeyObject => `disk-${name}`), ...(hasVtpm ? VTPM_KEYS : [])]
}

/** One new key for each object, of the operating system's generator. */
export function makeKeys(objects: readonly KeyObject[]): VmKeys {
  return new VmKeys(
    new Map(objects.map((object) => [object, new Secret(randomOctets(DEK_OCTETS))])),
  )
}

/** Has the keys wrapped; each is bound to the VM and to its object. */
export async function wrapKeys(
  client: KeyClient,
  options: {
    readonly vmId: string
    readonly provider: string
    readonly objects: readonly KeyObject[]
    readonly keys: VmKeys
  },
): Promise<readonly KeyRecord[]> {
  const { vmId, provider, objects, keys } = options
  const items = objects.map((object) => ({
    purpose: purposeOf(object),
    context: contextOf(vmId, object),
    dek: keys.of(object),
  }))
  const wrapped = await client.wrap(provider, items)
  return objects.map((object, index) => {
    const text = wrapped[index]
    if (text === undefined) throw new TypeError('the key client gave too few wrapped keys')
    return { object, purpose: purposeOf(object), provider, wrapped: text, generation: 1 }
  })
}

/**
 * Has keys of a VM unwrapped in one call.
 *
 * @throws PlatformError of the provider; `VM_DESCRIPTOR_CORRUPT` when a wrapped key is not there; `VM_KEY_WRONG` for a
 *   key of another size
 */
export async function unwrapKeys(
  client: KeyClient,
  options: {
    readonly vmId: string
    readonly provider: string
    readonly objects: readonly KeyObject[]
    readonly records: readonly KeyRecord[]
    readonly assurance: Assurance
  },
): Promise<VmKeys> {
  const { vmId, provider, objects, records, assurance } = options
  const items = objects.map((object) => {
    const record = records.find((candidate) => candidate.object === object)
    if (!record) {
      throw new PlatformError('VM_DESCRIPTOR_CORRUPT', `keys.json has no key of ${object}`)
    }
    // purpose and context are computed, not read: a record cannot be used for something else
    return {
      wrapped: record.wrapped,
      purpose: purposeOf(object),
      context: contextOf(vmId, object),
    }
  })
  const secrets = await client.unwrap(provider, items, assurance)
  const keys = new VmKeys(new Map(secrets.map((key, index) => [objects[index] ?? '', key])))
  if (secrets.length !== objects.length || secrets.some(({ length }) => length !== DEK_OCTETS)) {
    keys[Symbol.dispose]()
    throw new PlatformError('VM_KEY_WRONG', `expected ${objects.length} keys of 32 octets`)
  }
  return keys
}

/** Generation of the home key, which counts its deep recrypts; 0 of a VM that is plain. */
export function homeGeneration(records: readonly KeyRecord[]): number {
  return records.find(({ object }) => object === 'home')?.generation ?? 0
}

/** What belongs to each provider, in its order. */
export function byProvider<T extends { readonly provider: string }>(
  items: readonly T[],
): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>()
  for (const item of items) {
    const group = groups.get(item.provider)
    if (group) group.push(item)
    else groups.set(item.provider, [item])
  }
  return groups
}

function purposeOf(object: KeyObject): Purpose {
  switch (object) {
    case 'home':
      return 'vm-home'
    case 'vtpm':
      return 'vtpm-state'
    case 'vtpm-migration':
      return 'vtpm-migration'
    default:
      return 'vm-disk'
  }
}

/** What a key is bound to, beside its purpose. */
export function contextOf(vmId: string, object: string): KeyContext {
  return { vm: vmId, object }
}
