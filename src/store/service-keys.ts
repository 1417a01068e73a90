import type { Transaction } from 'kysely'
import { lengthPrefixed, utf8 } from '../core/bytes.js'
import type { Secret } from '../core/secret.js'
import type { RootKey } from './root-key.js'
import type { Store } from './store.js'
import type { FoundationTables } from './tables.js'

/** What keys of services are sealed for. */
export const SERVICE_KEY_PURPOSE = 'service-key'

/**
 * A key that a service keeps sealed under its root key: its signing key, its MAC key. Made on first use.
 *
 * @param make octets of a new key; filled with zeros here once they are sealed. Must not use the store itself
 * @throws PlatformError `ROOT_KEY_OPEN` where the sealed key was changed or belongs to another root key
 */
export async function loadOrCreateServiceKey(
  store: Store,
  rootKey: RootKey,
  service: string,
  name: string,
  make: () => Promise<Uint8Array>,
): Promise<Secret> {
  const context = serviceKeyContext(service, name)
  return store.transaction(async (tx: Transaction<FoundationTables>) => {
    const row = await tx
      .selectFrom('service_keys')
      .select('sealed')
      .where('service', '=', service)
      .where('name', '=', name)
      .executeTakeFirst()
    if (row) return rootKey.open(SERVICE_KEY_PURPOSE, context, new Uint8Array(row.sealed))
    const sealed = sealAndErase(rootKey, context, await make())
    await tx.insertInto('service_keys').values({ service, name, sealed }).execute()
    return rootKey.open(SERVICE_KEY_PURPOSE, context, sealed)
  })
}

export function serviceKeyContext(service: string, name: string): Uint8Array {
  return lengthPrefixed(utf8(service), utf8(name))
}

function sealAndErase(rootKey: RootKey, context: Uint8Array, octets: Uint8Array): Uint8Array {
  try {
    return rootKey.seal(SERVICE_KEY_PURPOSE, context, octets)
  } finally {
    octets.fill(0)
  }
}
