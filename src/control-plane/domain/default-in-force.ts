import type { DefaultInForce } from '../../api/default-provider.js'
import { PlatformError } from '../../core/errors.js'
import type { StoredDefaultProvider, StoredKeyProvider } from '../host-key-ports.js'
import type { ControlPlaneTransaction } from '../ports.js'
import type { Act } from './inventory.js'

/** What hosts of a cluster use where a request names no provider: its own default goes before that of the site. */
export function defaultInForce(
  defaults: readonly StoredDefaultProvider[],
  cluster: string,
): DefaultInForce | undefined {
  const own = findDefault(defaults, cluster)
  if (own) return { provider: own.provider, from: 'cluster' }
  const ofSite = findDefault(defaults, undefined)
  return ofSite && { provider: ofSite.provider, from: 'site' }
}

/** @param cluster undefined for the site */
export function findDefault(
  defaults: readonly StoredDefaultProvider[],
  cluster: string | undefined,
): StoredDefaultProvider | undefined {
  return defaults.find((one) => one.cluster === cluster)
}

/**
 * A provider goes on to serve the clusters whose default it is.
 *
 * @param clusters which it is to serve from now on
 * @throws PlatformError `HOST_KEY_IN_USE`
 */
export async function requireDefaultsServed(
  tx: ControlPlaneTransaction,
  provider: StoredKeyProvider,
  clusters: readonly string[],
): Promise<void> {
  const defaults = await tx.listDefaultProviders()
  const left = provider.clusters.filter(
    (cluster) =>
      !clusters.includes(cluster) && defaultInForce(defaults, cluster)?.provider === provider.name,
  )
  if (left.length > 0) throw isDefault(provider, left.map(placeOf))
}

/**
 * A provider that is being deleted is no default any longer.
 *
 * @throws PlatformError `HOST_KEY_IN_USE` where it is one, without `force`
 */
export async function dropDefaults(
  tx: ControlPlaneTransaction,
  act: Act,
  provider: StoredKeyProvider,
  { force }: { readonly force: boolean },
): Promise<void> {
  const defaults = (await tx.listDefaultProviders()).filter((one) => one.provider === provider.name)
  if (defaults.length > 0 && !force) {
    const places = defaults.map(({ cluster }) => placeOf(cluster))
    throw isDefault(provider, places)
  }
  for (const one of defaults) await removeDefault(tx, act, one)
}

/** With its event and audit record; the caller has hosts learn it. */
export async function removeDefault(
  tx: ControlPlaneTransaction,
  act: Act,
  { cluster, provider }: StoredDefaultProvider,
): Promise<void> {
  await tx.removeDefaultProvider(cluster)
  const message = `${provider} is not the default key provider of ${placeOf(cluster)} any longer`
  await recordDefault(tx, act, 'removed', { cluster, message, detail: { provider } })
}

/** An event and an audit record of one change. */
export async function recordDefault(
  tx: ControlPlaneTransaction,
  act: Act,
  what: 'set' | 'removed',
  about: {
    readonly cluster: string | undefined
    readonly message: string
    readonly detail: { readonly provider: string; readonly before?: string }
  },
): Promise<void> {
  const { cluster, message, detail } = about
  const type = `default-provider.${what}`
  const subject = cluster === undefined ? 'site' : `cluster:${cluster}`
  await tx.addEvent({ atMs: act.nowMs, severity: 'info', type, subject, message, detail })
  await tx.audit({
    atMs: act.nowMs,
    actor: act.actor,
    action: type,
    subject,
    outcome: 'done',
    detail,
  })
}

export function placeOf(cluster: string | undefined): string {
  return cluster === undefined ? 'the site' : `cluster ${cluster}`
}

function isDefault({ name }: StoredKeyProvider, places: readonly string[]): PlatformError {
  const expected = `expected another default key provider of ${places.join(', ')}, found ${name}`
  return new PlatformError('HOST_KEY_IN_USE', expected)
}
