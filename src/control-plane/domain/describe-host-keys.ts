import type { KeyServers, StoredHostKey, StoredKeyProvider } from '../host-key-ports.js'
import type { ControlPlaneStore } from '../ports.js'
import { attributesRefused } from './host-key-events.js'

/** A key server that does not answer is told again after this. */
const AGAIN_MS = 60_000

/**
 * Tells key servers what keys are for, once the VM that a key was made for is in the inventory. What a server refuses is
 * an event and is not tried again; one that does not answer is asked again after a minute.
 *
 * @param notBefore when to speak to the servers of a provider again; kept between calls
 */
export async function describeHostKeys(
  deps: { readonly store: ControlPlaneStore; readonly keyServers: KeyServers },
  notBefore: Map<string, number>,
  nowMs: number,
): Promise<void> {
  for (const { provider, key, name } of await due(deps.store)) {
    if ((notBefore.get(provider.providerId) ?? 0) > nowMs) continue
    const { keyId = '', use } = key
    const outcome = await deps.keyServers.describe(provider, keyId, {
      kind: 'vm',
      name,
      identifier: use?.id ?? '',
    })
    if (outcome.code === 'KMS_UNREACHABLE' || outcome.code === 'KMS_TIMEOUT') {
      notBefore.set(provider.providerId, nowMs + AGAIN_MS)
      continue
    }
    await deps.store.transaction(async (tx) => {
      await tx.markDescribed(key.providerId, key.version, nowMs)
      if (outcome.refused.length > 0) {
        await tx.addEvent(attributesRefused(provider, key, outcome, nowMs))
      }
    })
  }
}

interface Undescribed {
  readonly provider: StoredKeyProvider
  readonly key: StoredHostKey
  readonly name: string
}

function due(store: ControlPlaneStore): Promise<readonly Undescribed[]> {
  return store.transaction(async (tx) => {
    const keys = await tx.listUndescribedKeys()
    if (keys.length === 0) return []
    const providers = await tx.listKeyProviders()
    const found: Undescribed[] = []
    for (const key of keys) {
      const provider = providers.find(({ providerId }) => providerId === key.providerId)
      const vm = key.use && (await tx.findVm(key.use.id))
      if (provider?.state === 'active' && vm) found.push({ provider, key, name: vm.report.name })
    }
    return found
  })
}
