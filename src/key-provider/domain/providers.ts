import type {
  BackendInput,
  BackendView,
  ProviderSettings,
  ProviderView,
} from '../../api/key-provider.js'
import type { ConnectionTest, KeyServersInput } from '../../api/key-servers.js'
import type { CanonicalValue } from '../../core/canonical-json.js'
import { isoTime, secondsOf } from '../../core/clock.js'
import { isPlatformError, PlatformError } from '../../core/errors.js'
import { type Finding, failures } from '../../core/finding.js'
import { type Page, pageOf, type StoredPage } from '../../core/page.js'
import type {
  KeyProviderStore,
  KeyProviderTransaction,
  KeyServerBackend,
  KeyServerKeys,
  KeyServerProvider,
  StoredBackend,
  StoredProvider,
  StoredVersion,
  TpmKeys,
} from '../ports.js'
import type { Destruction } from './destruction.js'
import { type KeyState, requireTransition } from './key-state.js'
import type { PrimaryKeyMaker } from './new-version.js'
import { explainRelease } from './release-rule.js'
import {
  isAsBefore,
  isBoundAsBefore,
  requireTpmProvider,
  sealAnew,
  testTpmKeys,
} from './tpm-binding.js'

/** A key server that is down, or a TPM, is asked again for a rotation after this. */
const RETRY_MS = 300_000

/** Who asks, and when. */
export interface Act {
  readonly operator: string
  /** For audit records: `user:anna`. */
  readonly actor: string
  readonly nowMs: number
}

/** What administrators do with key providers. Each act is one transaction with its audit record. */
export function createProviderAdministration(deps: {
  readonly store: KeyProviderStore
  readonly keys: PrimaryKeyMaker
  readonly keyServers: KeyServerKeys
  readonly tpmKeys: TpmKeys
  /** That keys are bound to in the TPM where nobody says another. */
  readonly tpmPcrs: readonly number[]
  readonly destruction: Destruction
  readonly newId: () => string
}) {
  const { store, keys, keyServers, tpmKeys, destruction } = deps
  const view = async (tx: KeyProviderTransaction, provider: StoredProvider) =>
    viewOf(provider, keyServers, await tx.countReferences(provider.providerId))
  const nowView = (name: string): Promise<ProviderView> =>
    store.transaction(async (tx) => view(tx, await known(tx, name)))
  /** When a rotation that failed may be tried again. */
  const notBefore = new Map<string, number>()

  const backendOf = async (
    input: BackendInput,
    providerId: string,
    nowMs: number,
  ): Promise<StoredBackend> => {
    if (input.kind === 'embedded') return { kind: 'embedded' }
    if (input.kind === 'tpm') return { kind: 'tpm', pcrs: inOrder(input.pcrs ?? deps.tpmPcrs) }
    const { kind, place } = input
    // A key has to be made there at once: nothing to force.
    const options = { providerId, place, force: false, nowMs }
    return { kind, place, servers: await keyServers.accept(input.keyServers, options) }
  }

  const rotateTo = (
    act: Act,
    before: StoredProvider,
    state: 'active' | 'pre-active',
  ): Promise<ProviderView> => {
    const { name } = before
    const { providerId: id, versions: all } = before
    // Also not the number of a version that a restored database does not have, and that was destroyed.
    const version = Math.max(all.at(-1)?.version ?? 0, destruction.lastNumber(id)) + 1
    return keys.withNew(before, { version, state, nowMs: act.nowMs }, (made) =>
      store.transaction(async (tx) => {
        const { providerId, versions, settings, backend } = await known(tx, name)
        if (versions.length !== before.versions.length) {
          throw new PlatformError('CONFLICT', `provider ${name} was rotated meanwhile`)
        }
        if (!isBoundAsBefore(before.backend, backend)) {
          throw new PlatformError('CONFLICT', `provider ${name} was bound to other PCRs meanwhile`)
        }
        if (state === 'active') await deactivate(tx, act, { providerId, versions })
        await tx.addVersion(providerId, made.version)
        await record(tx, act, 'provider.rotate', name, {
          settings,
          version,
          state,
          refusedAttributes: made.refusedAttributes,
        })
        return view(tx, await known(tx, name))
      }),
    )
  }

  return {
    /**
     * Makes a provider. Key servers are tested before anything is made there.
     *
     * @throws PlatformError `CONFLICT`, `KEY_SERVERS`, `KEY_SERVERS_TEST`, or of the key server
     */
    async create(
      act: Act,
      name: string,
      settings: ProviderSettings,
      input: BackendInput = { kind: 'embedded' },
    ): Promise<ProviderView> {
      const { nowMs } = act
      const providerId = deps.newId()
      if (await store.transaction((tx) => tx.findProvider(name))) throw nameTaken(name)
      const backend = await backendOf(input, providerId, nowMs)
      const maker = { providerId, name, backend }
      return keys.withNew(maker, { version: 1, state: 'active', nowMs }, (made) =>
        store.transaction(async (tx) => {
          await tx.insertProvider({
            providerId,
            name,
            settings,
            backend,
            createdAtMs: nowMs,
            firstVersion: made.version,
          })
          await record(tx, act, 'provider.create', name, {
            settings,
            backend: describeBackend(backend),
            refusedAttributes: made.refusedAttributes,
          })
          return view(tx, await known(tx, name))
        }),
      )
    },

    /**
     * Changes the key servers. The new ones are tested, and must have every key that is still of use.
     *
     * @param force also where a key server does not answer
     * @throws PlatformError `CONFLICT` for a provider without key servers, `KEY_SERVERS`, `KEY_SERVERS_TEST`
     */
    async setKeyServers(
      act: Act,
      name: string,
      input: KeyServersInput,
      force: boolean,
    ): Promise<ProviderView> {
      const provider = await store.transaction((tx) => known(tx, name))
      const { providerId } = provider
      const before = keyServerBackend(provider)
      const { place } = before
      const servers = await keyServers.accept(input, {
        providerId,
        place,
        before: before.servers,
        force,
        nowMs: act.nowMs,
      })
      const unproven = await requireKeys(
        keyServers,
        { providerId, backend: { ...before, servers } },
        provider.versions,
        force,
      )
      return store.transaction(async (tx) => {
        const now = keyServerBackend(await known(tx, name))
        if (now.servers.settings !== before.servers.settings) {
          throw new PlatformError('CONFLICT', `the key servers of ${name} were changed meanwhile`)
        }
        await tx.setKeyServers(providerId, servers)
        await record(tx, act, 'provider.key-servers', name, {
          before: before.servers.settings,
          after: servers.settings,
          force,
          unproven,
        })
        return view(tx, await known(tx, name))
      })
    },

    /**
     * Seals every version anew to the PCRs as they are now, or to others: all of them, or none.
     *
     * @throws PlatformError `CONFLICT` for a provider whose key is elsewhere, and as `sealAnew`
     */
    async rebindTpm(
      act: Act,
      name: string,
      wanted: readonly number[] | undefined,
    ): Promise<ProviderView> {
      const before = requireTpmProvider(await store.transaction((tx) => known(tx, name)))
      const { providerId, backend } = before
      const pcrs = inOrder(wanted ?? backend.pcrs)
      const detail = { before: backend.pcrs, after: pcrs }
      const bound = await sealAnew(tpmKeys, before, pcrs).catch(async (error: unknown) => {
        if (!isPlatformError(error)) throw error
        const { code, message } = error
        await store.transaction((tx) =>
          record(tx, act, 'provider.rebind-tpm', name, { ...detail, code, message }, 'refused'),
        )
        throw error
      })
      return store.transaction(async (tx) => {
        if (!isAsBefore(before, await known(tx, name))) {
          throw new PlatformError('CONFLICT', `the versions of ${name} were changed meanwhile`)
        }
        await tx.setTpmBinding(providerId, pcrs, bound)
        const versions = bound.map(({ version }) => version)
        await record(tx, act, 'provider.rebind-tpm', name, { ...detail, versions })
        return view(tx, await known(tx, name))
      })
    },

    /** @throws PlatformError `CONFLICT` for a provider in the embedded keystore */
    async test(act: Act, name: string): Promise<ConnectionTest> {
      const provider = await store.transaction((tx) => known(tx, name))
      const { providerId } = provider
      const result =
        provider.backend.kind === 'tpm'
          ? await testTpmKeys(tpmKeys, provider)
          : await keyServers.test({ providerId, backend: keyServerBackend(provider) }, act.nowMs)
      await store.transaction((tx) =>
        record(tx, act, 'provider.test', name, { verdict: result.verdict }),
      )
      return result
    },

    list: (page: StoredPage): Promise<Page<ProviderView>> =>
      store.transaction(async (tx) => {
        const { items, ...next } = await pageOf(await tx.listProviders(), page, ({ name }) => name)
        const views: ProviderView[] = []
        for (const provider of items) views.push(await view(tx, provider))
        return { items: views, ...next }
      }),

    get: nowView,

    set: (act: Act, name: string, settings: ProviderSettings): Promise<ProviderView> =>
      store.transaction(async (tx) => {
        const { providerId } = await known(tx, name)
        await tx.setSettings(providerId, settings)
        await record(tx, act, 'provider.set', name, { settings })
        return view(tx, await known(tx, name))
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
    async rotate(act: Act, name: string, preActive: boolean): Promise<ProviderView> {
      const provider = await store.transaction((tx) => known(tx, name))
      return rotateTo(act, provider, preActive ? 'pre-active' : 'active')
    },

    /**
     * Brings a version into another state. The one that was active is deactivated where another becomes so.
     *
     * @throws PlatformError `KEY_VERSION_UNKNOWN`, `KEY_STATE`
     */
    async setState(
      act: Act,
      name: string,
      change: { readonly version: number; readonly state: KeyState; readonly reason: string },
    ): Promise<ProviderView> {
      const { version, state, reason } = change
      const comesIntoUse = await store.transaction(async (tx) => {
        const provider = await known(tx, name)
        const before = provider.versions.find((one) => one.version === version)
        if (!before) {
          throw new PlatformError(
            'KEY_VERSION_UNKNOWN',
            `provider ${name} has no version ${version}`,
          )
        }
        requireTransition(version, before.state, state)
        if (state === 'destroyed') {
          throw new PlatformError('KEY_STATE', 'expected a destruction, which waits some days')
        }
        if (before.destroyAtMs !== undefined && state !== 'compromised') {
          throw new PlatformError('KEY_STATE', `version ${version} is to be destroyed`)
        }
        if (state === 'active') await deactivate(tx, act, provider)
        await tx.setVersionState(provider.providerId, version, state, act.nowMs)
        await record(tx, act, 'provider.key-state', name, {
          version,
          before: before.state,
          state,
          reason,
        })
        return state === 'active' ? { provider, before } : undefined
      })
      if (comesIntoUse) {
        const { provider, before } = comesIntoUse
        const { attributes, refused } = await keys.nameUse(provider, before)
        await store.transaction(async (tx) => {
          await tx.setAttributes(provider.providerId, version, attributes)
          if (refused.length === 0) return
          await record(tx, act, 'provider.attributes', name, { version, refused }, 'refused')
        })
      }
      return nowView(name)
    },

    async scheduleDestruction(
      act: Act,
      name: string,
      wanted: Parameters<Destruction['schedule']>[2],
    ): Promise<ProviderView> {
      await destruction.schedule(act, name, wanted)
      return nowView(name)
    },

    async cancelDestruction(act: Act, name: string, version: number): Promise<ProviderView> {
      await destruction.cancel(act, name, version)
      return nowView(name)
    },

    /**
     * Makes a new version for every provider whose active one is older than its settings want. What a key server or the TPM
     * does not let happen is recorded, and tried again later.
     */
    async rotateDue(nowMs: number): Promise<readonly string[]> {
      const all = await store.transaction((tx) => tx.listProviders())
      const act = { operator: 'schedule', actor: 'operator:schedule', nowMs }
      const rotated: string[] = []
      for (const provider of all) {
        const { name, providerId } = provider
        if (!isDue(provider, nowMs) || (notBefore.get(providerId) ?? 0) > nowMs) continue
        try {
          await rotateTo(act, provider, 'active')
          rotated.push(name)
        } catch (error) {
          if (!isPlatformError(error) || provider.backend.kind === 'embedded') throw error
          notBefore.set(providerId, nowMs + RETRY_MS)
          const { code, message } = error
          await store.transaction((tx) =>
            record(tx, act, 'provider.rotate', name, { code, message }, 'refused'),
          )
        }
      }
      return rotated
    },
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
  outcome: 'done' | 'refused' = 'done',
): Promise<void> {
  await tx.audit({
    atMs: act.nowMs,
    actor: act.actor,
    action,
    subject: `provider:${name}`,
    outcome,
    detail,
  })
}

function viewOf(
  provider: StoredProvider,
  keyServers: KeyServerKeys,
  references: ReadonlyMap<number, number>,
): ProviderView {
  return {
    name: provider.name,
    providerId: provider.providerId,
    kind: 'trusted',
    settings: provider.settings,
    backend: backendView(provider, keyServers),
    createdAt: isoTime(provider.createdAtMs),
    versions: provider.versions.map((stored) => ({
      version: stored.version,
      state: stored.state,
      createdAt: isoTime(stored.createdAtMs),
      ...(stored.changedAtMs === undefined ? {} : { changedAt: isoTime(stored.changedAtMs) }),
      ...(stored.attributes ? { attributes: stored.attributes } : {}),
      ...(stored.destroyAtMs === undefined ? {} : { destroyAt: isoTime(stored.destroyAtMs) }),
      references: references.get(stored.version) ?? 0,
    })),
  }
}

function backendView(
  { providerId, backend }: StoredProvider,
  keyServers: KeyServerKeys,
): BackendView {
  if (backend.kind === 'embedded') return { kind: 'embedded' }
  if (backend.kind === 'tpm') return { kind: 'tpm', pcrs: [...backend.pcrs] }
  const { kind, place } = backend
  return { kind, place, keyServers: keyServers.view({ providerId, backend }) }
}

/** For the audit. */
function describeBackend(backend: StoredBackend): CanonicalValue {
  if (backend.kind === 'embedded') return { kind: 'embedded' }
  if (backend.kind === 'tpm') return { kind: 'tpm', pcrs: backend.pcrs }
  const { kind, place, servers } = backend
  return { kind, place, keyServers: servers.settings }
}

function keyServerBackend({ name, backend }: StoredProvider): KeyServerBackend {
  if (backend.kind === 'kmip') return backend
  throw new PlatformError(
    'CONFLICT',
    `expected a provider with key servers, found ${name} with its primary key elsewhere`,
  )
}

/**
 * Proves that key servers have every version.
 *
 * @returns versions that could not be proven, with `force`
 */
async function requireKeys(
  keyServers: KeyServerKeys,
  provider: KeyServerProvider,
  versions: readonly StoredVersion[],
  force: boolean,
): Promise<readonly number[]> {
  const unproven: number[] = []
  for (const version of versions.filter(({ state }) => state !== 'destroyed')) {
    try {
      await keyServers.requireUsable(provider, version)
    } catch (error) {
      if (!isPlatformError(error)) throw error
      const unreachable = error.code === 'KMS_UNREACHABLE' || error.code === 'KMS_TIMEOUT'
      if (!unreachable || !force) {
        throw new PlatformError(
          'KEY_SERVERS_TEST',
          `version ${version.version} of the primary key cannot be used there: ${error.message}`,
          { cause: error },
        )
      }
      unproven.push(version.version)
    }
  }
  return unproven
}

function inOrder(pcrs: readonly number[]): readonly number[] {
  return pcrs.toSorted((a, b) => a - b)
}

function nameTaken(name: string): PlatformError {
  return new PlatformError('CONFLICT', `expected a new name, found key provider ${name}`)
}
