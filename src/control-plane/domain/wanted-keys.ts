import type { StoredHostKey, StoredKeyProvider } from '../host-key-ports.js'
import type { ControlPlaneTransaction, HostCaller } from '../ports.js'
import { mayHaveKeys } from './hosts.js'

/** A provider and those of its keys that a host is to hold. */
export interface Wanted {
  readonly provider: StoredKeyProvider
  readonly keys: readonly StoredHostKey[]
}

/** What a host is to hold: keys for its cluster; nothing where encryption was turned off on it. */
export async function keysFor(
  tx: ControlPlaneTransaction,
  { hostId, cluster }: HostCaller,
): Promise<readonly Wanted[]> {
  if (!(await mayHaveKeys(tx, hostId))) return []
  const wanted: Wanted[] = []
  for (const provider of await tx.listKeyProviders()) {
    if (provider.state !== 'active' || !provider.clusters.includes(cluster)) continue
    const keys = (await tx.listHostKeys(provider.providerId)).filter(
      (key) => key.usableAtMs !== undefined && (key.cluster ?? cluster) === cluster,
    )
    wanted.push({ provider, keys })
  }
  return wanted
}
