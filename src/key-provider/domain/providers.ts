import type { ProviderSettings, ProviderView } from '../../api/key-provider.js'
import { isoTime } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import type {
  KeyProviderStore,
  KeyProviderTransaction,
  Keystore,
  NewVersion,
  StoredProvider,
} from '../ports.js'

const PRIMARY_KEY_OCTETS = 32

/** Who asks, and when. */
export interface Act {
  readonly operator: string
  readonly nowMs: number
}

/** What administrators do with key providers. Each act is one transaction with its audit record. */
export function createProviderAdministration(deps: {
  readonly store: KeyProviderStore
  readonly keystore: Keystore
  readonly random: (octets: number) => Uint8Array
  readonly newId: () => string
}) {
  const { store } = deps

  const newVersion = (providerId: string, version: number, nowMs: number): NewVersion => {
    const octets = deps.random(PRIMARY_KEY_OCTETS)
    try {
      const id = { providerId, version, createdAtMs: nowMs }
      return { version, createdAtMs: nowMs, sealed: deps.keystore.seal(id, octets) }
    } finally {
      octets.fill(0)
    }
  }

  return {
    create: (act: Act, name: string, settings: ProviderSettings): Promise<ProviderView> =>
      store.transaction(async (tx) => {
        const providerId = deps.newId()
        await tx.insertProvider({
          providerId,
          name,
          settings,
          createdAtMs: act.nowMs,
          firstVersion: newVersion(providerId, 1, act.nowMs),
        })
        await record(tx, act, 'provider.create', name, settings)
        return view(await known(tx, name))
      }),

    list: (): Promise<readonly ProviderView[]> =>
      store.transaction(async (tx) => (await tx.listProviders()).map(view)),

    get: (name: string): Promise<ProviderView> =>
      store.transaction(async (tx) => view(await known(tx, name))),

    set: (act: Act, name: string, settings: ProviderSettings): Promise<ProviderView> =>
      store.transaction(async (tx) => {
        const { providerId } = await known(tx, name)
        await tx.setSettings(providerId, settings)
        await record(tx, act, 'provider.set', name, settings)
        return view(await known(tx, name))
      }),

    rotate: (act: Act, name: string): Promise<ProviderView> =>
      store.transaction(async (tx) => {
        const { providerId, versions, settings } = await known(tx, name)
        const version = (versions.at(-1)?.version ?? 0) + 1
        await tx.addVersion(providerId, newVersion(providerId, version, act.nowMs))
        await record(tx, act, 'provider.rotate', name, settings)
        return view(await known(tx, name))
      }),
  }
}

export type ProviderAdministration = ReturnType<typeof createProviderAdministration>

async function known(tx: KeyProviderTransaction, name: string): Promise<StoredProvider> {
  const provider = await tx.findProvider(name)
  if (!provider) throw new PlatformError('NOT_FOUND', `no key provider ${name}`)
  return provider
}

async function record(
  tx: KeyProviderTransaction,
  act: Act,
  action: string,
  name: string,
  settings: ProviderSettings,
): Promise<void> {
  await tx.audit({
    atMs: act.nowMs,
    actor: `operator:${act.operator}`,
    action,
    subject: `provider:${name}`,
    outcome: 'done',
    detail: { settings },
  })
}

function view(provider: StoredProvider): ProviderView {
  return {
    name: provider.name,
    providerId: provider.providerId,
    kind: 'trusted',
    settings: provider.settings,
    createdAt: isoTime(provider.createdAtMs),
    versions: provider.versions.map(({ version, state, createdAtMs }) => ({
      version,
      state,
      createdAt: isoTime(createdAtMs),
    })),
  }
}
