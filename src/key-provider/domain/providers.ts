import type { ProviderSettings, ProviderView } from '../../api/key-provider.js'
import type { CanonicalValue } from '../../core/canonical-json.js'
import { isoTime, secondsOf } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import { type Finding, failures } from '../../core/finding.js'
import type {
  KeyProviderStore,
  KeyProviderTransaction,
  Keystore,
  NewVersion,
  StoredProvider,
} from '../ports.js'
import { type KeyState, requireTransition } from './key-state.js'
import { explainRelease } from './release-rule.js'

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

  const newVersion = (
    providerId: string,
    version: number,
    nowMs: number,
    state: NewVersion['state'] = 'active',
  ): NewVersion => {
    const octets = deps.random(PRIMARY_KEY_OCTETS)
    try {
      const id = { providerId, version, createdAtMs: nowMs }
      return { version, state, createdAtMs: nowMs, sealed: deps.keystore.seal(id, octets) }
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
        await record(tx, act, 'provider.create', name, { settings })
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
        await record(tx, act, 'provider.set', name, { settings })
        return view(await known(tx, name))
      }),

    /** Whether a host would be served now, as each attestation service that knows it says. */
    explain: (name: string, hostId: string, nowMs: number): Promise<readonly Explanation[]> =>
      store.transaction(async (tx) => {
        const { settings, versions } = await known(tx, name)
        const statuses = await tx.listHostStatuses(hostId)
        if (statuses.length === 0) throw new PlatformError('NOT_FOUND', `no host ${hostId}`)
        const hasActiveVersion = versions.some(({ state }) => state === 'active')
        const nowSeconds = secondsOf(nowMs)
        return statuses.map(({ issuer, ...status }) => {
          const findings = explainRelease({ status, settings, hasActiveVersion, nowSeconds })
          return { issuer, serves: failures(findings).length === 0, findings }
        })
      }),

    /** Makes a version that is active at once, in the place of the one before, or `preActive`. */
    rotate: (act: Act, name: string, preActive: boolean): Promise<ProviderView> =>
      store.transaction(async (tx) => {
        const { providerId, versions, settings } = await known(tx, name)
        const version = (versions.at(-1)?.version ?? 0) + 1
        if (!preActive) await deactivate(tx, act, { providerId, versions })
        const state = preActive ? 'pre-active' : 'active'
        await tx.addVersion(providerId, newVersion(providerId, version, act.nowMs, state))
        await record(tx, act, 'provider.rotate', name, { settings, version, state })
        return view(await known(tx, name))
      }),

    /**
     * Brings a version into another state. The one that was active is deactivated where another becomes so.
     *
     * @throws PlatformError `KEY_VERSION_UNKNOWN`, `KEY_STATE`
     */
    setState: (
      act: Act,
      name: string,
      change: { readonly version: number; readonly state: KeyState; readonly reason: string },
    ): Promise<ProviderView> =>
      store.transaction(async (tx) => {
        const provider = await known(tx, name)
        const { version, state, reason } = change
        const before = provider.versions.find((one) => one.version === version)
        if (!before) {
          throw new PlatformError(
            'KEY_VERSION_UNKNOWN',
            `provider ${name} has no version ${version}`,
          )
        }
        requireTransition(version, before.state, state)
        if (state === 'active') await deactivate(tx, act, provider)
        await tx.setVersionState(provider.providerId, version, state, act.nowMs)
        await record(tx, act, 'provider.key-state', name, {
          version,
          before: before.state,
          state,
          reason,
        })
        return view(await known(tx, name))
      }),

    /** Makes a new version for every provider whose active one is older than its settings want. */
    rotateDue: (nowMs: number): Promise<readonly string[]> =>
      store.transaction(async (tx) => {
        const due = (await tx.listProviders()).filter((provider) => isDue(provider, nowMs))
        const act = { operator: 'schedule', nowMs }
        for (const provider of due) {
          const { providerId, name, versions, settings } = provider
          const version = (versions.at(-1)?.version ?? 0) + 1
          await deactivate(tx, act, provider)
          await tx.addVersion(providerId, newVersion(providerId, version, nowMs))
          await record(tx, act, 'provider.rotate', name, { settings, version, state: 'active' })
        }
        return due.map(({ name }) => name)
      }),
  }
}

export interface Explanation {
  readonly issuer: string
  readonly serves: boolean
  readonly findings: readonly Finding[]
}

export type ProviderAdministration = ReturnType<typeof createProviderAdministration>

async function known(tx: KeyProviderTransaction, name: string): Promise<StoredProvider> {
  const provider = await tx.findProvider(name)
  if (!provider) throw new PlatformError('NOT_FOUND', `no key provider ${name}`)
  return provider
}

const DAY_MS = 86_400_000

function isDue({ settings, versions }: StoredProvider, nowMs: number): boolean {
  const active = versions.find(({ state }) => state === 'active')
  if (settings.rotateEveryDays === undefined || !active) return false
  return nowMs - (active.changedAtMs ?? active.createdAtMs) >= settings.rotateEveryDays * DAY_MS
}

async function deactivate(
  tx: KeyProviderTransaction,
  act: Act,
  { providerId, versions }: Pick<StoredProvider, 'providerId' | 'versions'>,
): Promise<void> {
  for (const { version, state } of versions) {
    if (state === 'active') await tx.setVersionState(providerId, version, 'deactivated', act.nowMs)
  }
}

async function record(
  tx: KeyProviderTransaction,
  act: Act,
  action: string,
  name: string,
  detail: { readonly [name: string]: CanonicalValue },
): Promise<void> {
  await tx.audit({
    atMs: act.nowMs,
    actor: `operator:${act.operator}`,
    action,
    subject: `provider:${name}`,
    outcome: 'done',
    detail,
  })
}

function view(provider: StoredProvider): ProviderView {
  return {
    name: provider.name,
    providerId: provider.providerId,
    kind: 'trusted',
    settings: provider.settings,
    createdAt: isoTime(provider.createdAtMs),
    versions: provider.versions.map(({ version, state, createdAtMs, changedAtMs }) => ({
      version,
      state,
      createdAt: isoTime(createdAtMs),
      ...(changedAtMs === undefined ? {} : { changedAt: isoTime(changedAtMs) }),
    })),
  }
}
