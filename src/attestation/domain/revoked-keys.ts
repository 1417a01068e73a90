import { readPage, type StoredPage } from '../../core/page.js'
import type { AttestationStore, StoredRevokedKey } from '../ports.js'
import { type Act, found, record, setState, tell } from './administration.js'

/**
 * Keys that no host may have: attestation keys by name, endorsement keys by fingerprint. Each act is one transaction with
 * its audit record.
 */
export function createRevokedKeys(deps: { readonly store: AttestationStore }) {
  const { store } = deps
  return {
    /** The host that has the key is revoked in the same moment, and its tokens end. */
    add: (act: Act, request: { readonly key: string; readonly reason: string }) =>
      store.transaction(async (tx) => {
        const { key, reason } = request
        const revokedKey: StoredRevokedKey = { key, reason, revokedAtMs: act.nowMs }
        await tx.saveRevokedKey(revokedKey)
        await tell(tx, act, 'revoked-key.added', { detail: { key, reason } })
        await record(tx, act, 'revoked-key.add', `key:${key}`, { reason })
        const revokedHosts: string[] = []
        for (const host of await tx.listHostsWithKey(key)) {
          if (host.state === 'revoked') continue
          const why = `its key ${key} was revoked: ${reason}`
          await setState(tx, host, 'revoked', act, true)
          await tell(tx, act, 'host.revoked', { host, detail: { reason: why } })
          await record(tx, act, 'host.revoke', `host:${host.hostId}`, { reason: why })
          revokedHosts.push(host.hostId)
        }
        return { revokedKey, revokedHosts }
      }),

    list: (page: StoredPage) =>
      store.transaction((tx) =>
        readPage(
          page,
          (at) => tx.listRevokedKeys(at),
          ({ key }) => key,
        ),
      ),

    remove: (act: Act, key: string) =>
      store.transaction(async (tx) => {
        found(await tx.removeRevokedKey(key), 'revoked key', key)
        await tell(tx, act, 'revoked-key.removed', { detail: { key } })
        await record(tx, act, 'revoked-key.remove', `key:${key}`, {})
      }),
  }
}

export type RevokedKeys = ReturnType<typeof createRevokedKeys>
