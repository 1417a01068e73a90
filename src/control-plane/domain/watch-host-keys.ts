import type { KeyErrorCounter, StoredHostKey, StoredKeyProvider } from '../host-key-ports.js'
import type { ControlPlaneStore, ControlPlaneTransaction } from '../ports.js'
import { type KeyFailure, keyEvent, recordKeyFailure } from './host-key-events.js'
import { awaitedHosts, backupState, endDeletion } from './host-key-providers.js'

/** How often an administrator is told again that a backup is missing or old. */
const WARN_AGAIN_MS = 86_400_000

/**
 * What is due: deliveries that hosts did not fetch in time, deletions that every host confirmed, backups that are missing
 * or old. Called every few seconds.
 *
 * @param options.deliverySeconds how long a host may take
 */
export async function watchHostKeys(
  deps: { readonly store: ControlPlaneStore; readonly errors: KeyErrorCounter },
  options: { readonly deliverySeconds: number; readonly nowMs: number },
): Promise<void> {
  const { nowMs } = options
  const overdue = await deps.store.transaction(async (tx) => {
    const providers = await tx.listKeyProviders()
    if (providers.length === 0) return 0
    await tx.addPendingDeliveries(nowMs)
    for (const provider of providers) {
      if (provider.state === 'deleting') await endIfConfirmed(tx, provider, nowMs)
      else if (provider.kind === 'native') await warnOfBackup(tx, provider, nowMs)
    }
    return failOverdue(tx, providers, nowMs - options.deliverySeconds * 1000, nowMs)
  })
  for (let count = 0; count < overdue; count += 1) deps.errors.count('not-added')
}

async function failOverdue(
  tx: ControlPlaneTransaction,
  providers: readonly StoredKeyProvider[],
  beforeMs: number,
  nowMs: number,
): Promise<number> {
  const failure: KeyFailure = {
    kind: 'not-added',
    reason: 'connection',
    code: 'HOST_KEY_NOT_FETCHED',
  }
  const keys = new Map<string, readonly StoredHostKey[]>()
  let failed = 0
  for (const before of await tx.listOverdueDeliveries(beforeMs)) {
    const { providerId, version, hostId } = before
    const provider = providers.find((one) => one.providerId === providerId)
    const known = keys.get(providerId) ?? (await tx.listHostKeys(providerId))
    keys.set(providerId, known)
    const key = known.find((one) => one.version === version)
    if (!provider || !key || !(await tx.isHostKnown(hostId))) {
      await tx.removeDelivery(before)
      continue
    }
    await recordKeyFailure(tx, { provider, key, hostId, before, failure, nowMs })
    failed += 1
  }
  return failed
}

async function endIfConfirmed(
  tx: ControlPlaneTransaction,
  provider: StoredKeyProvider,
  nowMs: number,
): Promise<void> {
  if ((await awaitedHosts(tx, provider)).length > 0) return
  await endDeletion(tx, provider, 'service', [], nowMs)
  await tx.raiseHostKeyRevision()
}

async function warnOfBackup(
  tx: ControlPlaneTransaction,
  provider: StoredKeyProvider,
  nowMs: number,
): Promise<void> {
  if (provider.warnedAtMs !== undefined && nowMs - provider.warnedAtMs < WARN_AGAIN_MS) return
  const keys = await tx.listHostKeys(provider.providerId)
  const state = backupState(provider, keys, nowMs)
  if (state === 'done') return
  const { name, providerId } = provider
  await tx.updateKeyProvider(providerId, { warnedAtMs: nowMs })
  const words = {
    none: `key provider ${name} was never backed up: it cannot be used`,
    'newest-missing': `the newest version of key provider ${name} is in no backup: it is not used`,
    old: `the backup of key provider ${name} is old`,
  }
  await tx.addEvent(
    keyEvent({
      atMs: nowMs,
      severity: 'warning',
      type: state === 'old' ? 'key-provider.backup-old' : 'key-provider.backup-missing',
      provider,
      message: words[state],
      detail: { backup: state },
    }),
  )
}
