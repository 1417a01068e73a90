import { replacePrivateFile } from './files.js'
import type { KeyReleases } from './key-releases.js'
import type { KeyClient } from './ports.js'
import { encodeRecord, type KeyRecord } from './records.js'
import { byProvider, contextOf } from './vm-keys.js'
import type { StoredVm } from './vm-store.js'

/**
 * Has the keys of a VM wrapped anew by their providers, with the newest versions of their primary keys. The VM may run:
 * its keys stay what they are.
 *
 * The new records are on the disk before the old ones are released. Ended anywhere, it can be done again: what is wrapped
 * with the newest version already comes back as it is.
 *
 * @returns how many keys are wrapped anew
 * @throws PlatformError of the key provider; the records are as they were then
 */
export async function rewrapVm(
  deps: { readonly keys: KeyClient; readonly releases: KeyReleases },
  { descriptor, paths }: StoredVm,
  records: readonly KeyRecord[],
): Promise<number> {
  const { vmId } = descriptor
  const renewed = new Map<KeyRecord, string>()
  for (const [provider, own] of byProvider(records)) {
    const items = own.map(({ wrapped, purpose, object }) => ({
      ...{ wrapped, purpose },
      context: contextOf(vmId, object),
    }))
    const texts = await deps.keys.rewrap(provider, items)
    for (const [index, record] of own.entries()) {
      const text = texts[index]
      if (text === undefined) throw new TypeError('the key client gave too few wrapped keys')
      if (text !== record.wrapped) renewed.set(record, text)
    }
  }
  if (renewed.size === 0) return 0
  const keys = records.map((record) => ({
    ...record,
    wrapped: renewed.get(record) ?? record.wrapped,
  }))
  await deps.releases.note(
    [...renewed.keys()].map(({ provider, wrapped, purpose, object }) => ({
      ...{ vmId, provider, wrapped, purpose },
      context: contextOf(vmId, object),
    })),
    () => replacePrivateFile(paths.root, 'keys.json', encodeRecord({ format: 1, keys })),
  )
  return renewed.size
}
