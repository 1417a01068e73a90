import type { CanonicalValue } from '../../core/canonical-json.js'
import { isoTime } from '../../core/clock.js'
import { isPlatformError, PlatformError } from '../../core/errors.js'
import type {
  KeyProviderStore,
  KeyProviderTransaction,
  KeyServerKeys,
  StoredProvider,
  StoredVersion,
  Tombstones,
  TpmKeys,
} from '../ports.js'
import { requireTransition } from './key-state.js'
import type { Act } from './providers.js'

const DAY_MS = 86_400_000
/** A key server that does not destroy a key is asked again after this. */
const RETRY_MS = 300_000

/**
 * Destroys versions of primary keys for good, in steps of which each can be done again after a crash: the state, a
 * tombstone outside of the database, the key in its key server, the key here.
 */
export function createDestruction(deps: {
  readonly store: KeyProviderStore
  readonly keyServers: KeyServerKeys
  readonly tpmKeys: TpmKeys
  readonly tombstones: Tombstones
}) {
  const { store, tombstones } = deps
  const notBefore = new Map<string, number>()

  const finish = async (
    provider: StoredProvider,
    version: StoredVersion,
    nowMs: number,
  ): Promise<void> => {
    const { providerId, name, backend } = provider
    const { version: number, createdAtMs, changedAtMs = nowMs } = version
    if (!hasTombstone(tombstones, providerId, version)) {
      tombstones.add({ providerId, version: number, createdAtMs, destroyedAtMs: changedAtMs })
    }
    if (version.sealed.length === 0) return
    if (backend.kind === 'kmip') {
      const key = `${providerId}.${number}`
      if ((notBefore.get(key) ?? 0) > nowMs) return
      try {
        await deps.keyServers.destroy({ providerId, backend }, version)
      } catch (error) {
        if (!isPlatformError(error)) throw error
        notBefore.set(key, nowMs + RETRY_MS)
        const { code, message } = error
        await store.transaction((tx) =>
          record(tx, SCHEDULE, nowMs, name, 'provider.erase', 'refused', {
            version: number,
            code,
            message,
          }),
        )
        return
      }
    }
    await store.transaction(async (tx) => {
      await tx.eraseKey(providerId, number)
      await record(tx, SCHEDULE, nowMs, name, 'provider.erase', 'done', { version: number })
    })
    if (backend.kind === 'tpm')
      await deps.tpmKeys.forget({ providerId, version: number, createdAtMs })
  }

  return {
    /**
     * Has a version destroyed after some days. It does nothing from now on, so that who still needs it is noticed while it
     * can be kept.
     *
     * @throws PlatformError `KEY_STATE` for one that is active, `KEY_REFERENCED`, `KEY_VERSION_UNKNOWN`, `NOT_FOUND`
     */
    schedule: (
      act: Act,
      name: string,
      wanted: {
        readonly version: number
        readonly afterDays: number
        readonly reason: string
        readonly abandon: boolean
      },
    ): Promise<void> =>
      store.transaction(async (tx) => {
        const { providerId, stored } = await versionOf(tx, name, wanted.version)
        requireTransition(wanted.version, stored.state, 'destroyed')
        const references = (await tx.countReferences(providerId)).get(wanted.version) ?? 0
        if (references > 0 && !wanted.abandon) {
          throw new PlatformError(
            'KEY_REFERENCED',
            `version ${wanted.version} opens ${references} wrapped keys: expected them wrapped anew or released`,
          )
        }
        const atMs = act.nowMs + wanted.afterDays * DAY_MS
        await tx.setDestruction(providerId, wanted.version, atMs)
        const { version, reason, abandon } = wanted
        await record(tx, act.actor, act.nowMs, name, 'provider.destroy-scheduled', 'done', {
          ...{ version, reason, abandon, references },
          at: isoTime(atMs),
        })
      }),

    /** @throws PlatformError `KEY_STATE` where it is not to be destroyed, or is */
    cancel: (act: Act, name: string, version: number): Promise<void> =>
      store.transaction(async (tx) => {
        const { providerId, stored } = await versionOf(tx, name, version)
        if (stored.destroyAtMs === undefined || stored.state === 'destroyed') {
          throw new PlatformError('KEY_STATE', `version ${version} is not to be destroyed`)
        }
        await tx.setDestruction(providerId, version, undefined)
        await record(tx, act.actor, act.nowMs, name, 'provider.destroy-cancelled', 'done', {
          version,
        })
      }),

    /** Destroys what is due, and goes on with what was begun. */
    async destroyDue(nowMs: number): Promise<void> {
      const providers = await store.transaction(async (tx) => {
        for (const { providerId, name, versions } of await tx.listProviders()) {
          for (const { version, state, destroyAtMs } of versions) {
            if (state === 'destroyed' || destroyAtMs === undefined || destroyAtMs > nowMs) continue
            await tx.setVersionState(providerId, version, 'destroyed', nowMs)
            await record(tx, SCHEDULE, nowMs, name, 'provider.destroy', 'done', { version })
          }
        }
        return tx.listProviders()
      })
      for (const provider of providers) {
        for (const version of provider.versions) {
          if (version.state === 'destroyed') await finish(provider, version, nowMs)
        }
      }
    },

    /**
     * Destroys again what an older copy of the database brought back. To be called before anybody is served.
     *
     * @returns how many versions that were
     */
    destroyAgain: (nowMs: number): Promise<number> =>
      store.transaction(async (tx) => {
        let count = 0
        for (const { providerId, name, versions } of await tx.listProviders()) {
          for (const stored of versions) {
            if (stored.state === 'destroyed') continue
            if (!hasTombstone(tombstones, providerId, stored)) continue
            await tx.setVersionState(providerId, stored.version, 'destroyed', nowMs)
            const detail = { version: stored.version, reason: 'tombstone' }
            await record(tx, SCHEDULE, nowMs, name, 'provider.destroy', 'done', detail)
            count += 1
          }
        }
        return count
      }),

    /** The highest number that a version ever had, as far as the tombstones tell. */
    lastNumber: (providerId: string): number =>
      Math.max(
        0,
        ...tombstones
          .list()
          .filter((one) => one.providerId === providerId)
          .map(({ version }) => version),
      ),
  }
}

export type Destruction = ReturnType<typeof createDestruction>

const SCHEDULE = 'schedule'

function hasTombstone(
  tombstones: Tombstones,
  providerId: string,
  { version, createdAtMs }: StoredVersion,
): boolean {
  return tombstones
    .list()
    .some(
      (one) =>
        one.providerId === providerId && one.version === version && one.createdAtMs === createdAtMs,
    )
}

async function versionOf(
  tx: KeyProviderTransaction,
  name: string,
  version: number,
): Promise<{ readonly providerId: string; readonly stored: StoredVersion }> {
  const provider = await tx.findProvider(name)
  if (!provider) throw new PlatformError('NOT_FOUND', `no key provider ${name}`)
  const stored = provider.versions.find((one) => one.version === version)
  if (stored) return { providerId: provider.providerId, stored }
  throw new PlatformError('KEY_VERSION_UNKNOWN', `provider ${name} has no version ${version}`)
}

async function record(
  tx: KeyProviderTransaction,
  actor: string,
  atMs: number,
  name: string,
  action: string,
  outcome: 'done' | 'refused',
  detail: { readonly [name: string]: CanonicalValue },
): Promise<void> {
  const subject = `provider:${name}`
  await tx.audit({ atMs, actor, action, subject, outcome, detail })
}
