import type { DefaultProviders, DefaultState } from '../../api/default-provider.js'
import { isoTime } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import type { ChangeSignal, StoredDefaultProvider, StoredKeyProvider } from '../host-key-ports.js'
import type { ControlPlaneStore, ControlPlaneTransaction } from '../ports.js'
import {
  defaultInForce,
  findDefault,
  placeOf,
  recordDefault,
  removeDefault,
} from './default-in-force.js'
import { active, requireClusters } from './host-key-providers.js'
import type { Act } from './inventory.js'

/**
 * What administrators do with the key provider that hosts use where a request names none. Each change is one transaction
 * with its event and audit record; hosts learn it at once.
 */
export function createDefaultProviders(deps: {
  readonly store: ControlPlaneStore
  readonly changes: ChangeSignal
}) {
  const { store } = deps

  const change = async (
    work: (tx: ControlPlaneTransaction) => Promise<DefaultProviders>,
  ): Promise<DefaultProviders> => {
    const view = await store.transaction(async (tx) => {
      const view = await work(tx)
      await tx.raiseHostKeyRevision()
      return view
    })
    deps.changes.raise()
    return view
  }

  return {
    view: (): Promise<DefaultProviders> => store.transaction(viewOf),

    /**
     * A native or standard provider has to be of use on every host that the default is for. Any other name is taken as
     * that of a trusted provider, which is not checked: the key provider may be another service.
     *
     * @param cluster undefined for the site
     * @throws PlatformError `NOT_FOUND` where there is no such cluster; `DEFAULT_PROVIDER`, `HOST_KEY_NOT_BACKED_UP`;
     *   `CONFLICT` for a provider that is being deleted
     */
    set: (act: Act, cluster: string | undefined, name: string): Promise<DefaultProviders> =>
      change(async (tx) => {
        const before = await findHere(tx, cluster)
        const isKnown = (await tx.findKeyProvider(name)) !== undefined
        const provider = isKnown ? await active(tx, name) : undefined
        if (provider) await requireBackup(tx, provider)
        await tx.saveDefaultProvider({
          ...{ cluster, provider: name },
          ...{ setBy: act.operator, setAtMs: act.nowMs },
        })
        const view = await viewOf(tx)
        requireServed(view, name)
        const message = `${name} is the default key provider of ${placeOf(cluster)} now`
        const detail = { provider: name, ...(before ? { before: before.provider } : {}) }
        await recordDefault(tx, act, 'set', { cluster, message, detail })
        return provider ? view : { ...view, note: notKnown(name) }
      }),

    /**
     * @param cluster undefined for the site
     * @throws PlatformError `NOT_FOUND` where there is no such cluster, or no default of its own
     */
    remove: (act: Act, cluster: string | undefined): Promise<DefaultProviders> =>
      change(async (tx) => {
        const before = await findHere(tx, cluster)
        if (!before) {
          throw new PlatformError('NOT_FOUND', `no default key provider of ${placeOf(cluster)}`)
        }
        await removeDefault(tx, act, before)
        return viewOf(tx)
      }),
  }
}

export type DefaultProviderActs = ReturnType<typeof createDefaultProviders>

async function findHere(
  tx: ControlPlaneTransaction,
  cluster: string | undefined,
): Promise<StoredDefaultProvider | undefined> {
  if (cluster !== undefined) await requireClusters(tx, [cluster])
  return findDefault(await tx.listDefaultProviders(), cluster)
}

async function requireBackup(
  tx: ControlPlaneTransaction,
  provider: StoredKeyProvider,
): Promise<void> {
  if (await hasUsableKey(tx, provider)) return
  const expected = `expected a key of ${provider.name} that was backed up, found none`
  throw new PlatformError('HOST_KEY_NOT_BACKED_UP', expected)
}

/** Wherever the provider is the default in force, hosts get its keys. */
function requireServed({ clusters }: DefaultProviders, name: string): void {
  const without = clusters.filter(
    ({ inForce }) => inForce?.provider === name && inForce.state === 'not-serving',
  )
  if (without.length === 0) return
  const names = without.map(({ cluster }) => cluster).join(', ')
  const expected = `expected a key provider that serves ${names}, found ${name}, which does not`
  throw new PlatformError('DEFAULT_PROVIDER', expected)
}

function notKnown(name: string): string {
  return `${name} is no native or standard key provider: it is taken as the name of a trusted one, which is not checked`
}

async function viewOf(tx: ControlPlaneTransaction): Promise<DefaultProviders> {
  const defaults = await tx.listDefaultProviders()
  const ofSite = findDefault(defaults, undefined)
  const clusters: DefaultProviders['clusters'] = []
  for (const { name: cluster } of await tx.listClusters()) {
    const own = findDefault(defaults, cluster)
    const inForce = defaultInForce(defaults, cluster)
    clusters.push({
      cluster,
      ...(own ? { own: setView(own) } : {}),
      ...(inForce
        ? { inForce: { ...inForce, state: await stateFor(tx, inForce.provider, cluster) } }
        : {}),
    })
  }
  return { ...(ofSite ? { site: setView(ofSite) } : {}), clusters }
}

async function stateFor(
  tx: ControlPlaneTransaction,
  name: string,
  cluster: string,
): Promise<DefaultState> {
  const provider = await tx.findKeyProvider(name)
  if (!provider) return 'not-known-here'
  if (!provider.clusters.includes(cluster)) return 'not-serving'
  return (await hasUsableKey(tx, provider)) ? 'usable' : 'not-backed-up'
}

/** A standard provider has keys made when they are needed; a native one needs a version that was backed up. */
async function hasUsableKey(
  tx: ControlPlaneTransaction,
  { kind, providerId }: StoredKeyProvider,
): Promise<boolean> {
  if (kind === 'standard') return true
  return (await tx.listHostKeys(providerId)).some(({ usableAtMs }) => usableAtMs !== undefined)
}

function setView({ provider, setBy, setAtMs }: StoredDefaultProvider) {
  return { provider, setBy, setAt: isoTime(setAtMs) }
}
