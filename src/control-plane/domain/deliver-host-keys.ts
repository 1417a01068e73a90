import type { DefaultInForce } from '../../api/default-provider.js'
import { type HostKeyReport, type HostKeysAnswer, MAX_DELIVERED_KEYS } from '../../api/host-keys.js'
import type { Assurance } from '../../api/key-provider.js'
import { toBase64url, utf8 } from '../../core/bytes.js'
import { Secret } from '../../core/secret.js'
import type { AnswerSealer, AttestationResultClaims } from '../../tokens/index.js'
import type {
  KeyErrorCounter,
  KeySource,
  StoredDelivery,
  StoredHostKey,
  StoredKeyProvider,
} from '../host-key-ports.js'
import type { ControlPlaneStore, ControlPlaneTransaction, HostCaller } from '../ports.js'
import { defaultInForce } from './default-in-force.js'
import { fetchFailure, type KeyFailure, keyAdded, recordKeyFailure } from './host-key-events.js'
import { mayHaveKeys } from './hosts.js'
import { keysFor, type Wanted } from './wanted-keys.js'

export interface DeliveryDeps {
  readonly store: ControlPlaneStore
  readonly source: KeySource
  readonly seal: AnswerSealer
  readonly errors: KeyErrorCounter
}

/** An attested host, for one request. */
export interface AttestedHost {
  readonly caller: HostCaller
  readonly claims: AttestationResultClaims
}

interface Key {
  readonly provider: StoredKeyProvider
  readonly key: StoredHostKey
}

interface Plan {
  readonly revision: number
  readonly wanted: readonly Wanted[]
  readonly defaultProvider: DefaultInForce | undefined
  readonly isEncryptionOff: boolean
  readonly lacks: readonly Key[]
  /** Whether the host has to hear of something. */
  readonly news: boolean
  readonly more: boolean
}

interface Failed extends Key {
  readonly failure: KeyFailure
  readonly message: string
}

/**
 * Compares what a host holds with what it is to hold, takes its word for what it got and what it erased, and answers
 * with what it lacks, encrypted to it.
 *
 * The host is looked at again in the transaction that records the release; nothing leaves before that is committed. One
 * key that cannot be had never keeps the others back.
 *
 * @param options.admit whether this is the first look at the request, which uses up its proof
 * @returns `news` false where the host holds what it should and was told so before
 */
export async function syncHostKeys(
  deps: DeliveryDeps,
  host: AttestedHost,
  report: HostKeyReport,
  options: { readonly nowMs: number; readonly admit: boolean },
): Promise<{ readonly answer: HostKeysAnswer; readonly news: boolean }> {
  const { nowMs } = options
  const { caller } = host
  const { plan, newFailures } = await deps.store.transaction(async (tx) => {
    if (options.admit) await tx.admit(caller, nowMs)
    else await tx.requireTrusted(caller)
    return compare(tx, host, report, nowMs)
  })
  for (const { kind } of newFailures) deps.errors.count(kind)
  const fetched = await fetchKeys(deps.source, host, plan.lacks)
  try {
    const released = await release(deps, host, fetched, nowMs)
    return {
      news: plan.news,
      answer: {
        revision: plan.revision,
        providers: plan.wanted.map(providerAnswer),
        ...(plan.defaultProvider ? { defaultProvider: plan.defaultProvider } : {}),
        ...(plan.isEncryptionOff ? { encryptionOff: true } : {}),
        sealed: {
          session: await sealKeys(deps, host, 'session', released),
          tpm: await sealKeys(deps, host, 'tpm', released),
        },
        missing: fetched.failed.map(({ key, failure, message }) => ({
          providerId: key.providerId,
          version: key.version,
          code: failure.code,
          message,
        })),
        more: plan.more,
      },
    }
  } finally {
    for (const { secret } of fetched.open) secret.dispose()
  }
}

/** What the host holds becomes confirmed, what it no longer holds erased, what it could not open failed. */
async function compare(
  tx: ControlPlaneTransaction,
  { caller }: AttestedHost,
  report: HostKeyReport,
  nowMs: number,
): Promise<{ readonly plan: Plan; readonly newFailures: readonly KeyFailure[] }> {
  const { hostId } = caller
  const wanted = await keysFor(tx, caller)
  const deliveries = new Map(
    (await tx.listDeliveriesTo(hostId)).map((delivery) => [idOf(delivery), delivery]),
  )
  const held = new Set(
    report.holds.flatMap(({ providerId, versions }) =>
      versions.map((version) => idOf({ providerId, version })),
    ),
  )
  const reported = new Map(report.failed.map((one) => [idOf(one), one.code]))
  const all = wanted.flatMap(({ provider, keys }) => keys.map((key): Key => ({ provider, key })))
  const lacks: Key[] = []
  const newFailures: KeyFailure[] = []
  for (const { provider, key } of all) {
    const id = idOf(key)
    const before = deliveries.get(id)
    const code = reported.get(id)
    if (held.has(id)) {
      await confirm(tx, { provider, key }, hostId, before, nowMs)
    } else if (code === undefined) {
      lacks.push({ provider, key })
    } else {
      const failure: KeyFailure = { kind: 'not-added', reason: 'support', code }
      const failed = { provider, key, hostId, before, failure, nowMs }
      if (await recordKeyFailure(tx, failed)) newFailures.push(failure)
    }
  }
  const wantedIds = new Set(all.map(({ key }) => idOf(key)))
  for (const [id, delivery] of deliveries) {
    if (!wantedIds.has(id)) await settleErased(tx, delivery, held.has(id), nowMs)
  }
  const revision = await tx.hostKeyRevision()
  const holdsTooMuch = [...held].some((id) => !wantedIds.has(id))
  return {
    newFailures,
    plan: {
      revision,
      wanted,
      defaultProvider: defaultInForce(await tx.listDefaultProviders(), caller.cluster),
      isEncryptionOff: !(await mayHaveKeys(tx, hostId)),
      lacks: lacks.slice(0, MAX_DELIVERED_KEYS),
      news: report.revision !== revision || lacks.length > 0 || holdsTooMuch,
      more: lacks.length > MAX_DELIVERED_KEYS,
    },
  }
}

async function confirm(
  tx: ControlPlaneTransaction,
  { provider, key }: Key,
  hostId: string,
  before: StoredDelivery | undefined,
  nowMs: number,
): Promise<void> {
  if (before?.state === 'confirmed') return
  const { providerId, version } = key
  await tx.saveDelivery({ providerId, version, hostId, state: 'confirmed', atMs: nowMs })
  if (before?.state === 'failed') await tx.addEvent(keyAdded(provider, key, hostId, nowMs))
}

/** A key that the host is not to hold: erased once it says so. What never reached it is forgotten. */
async function settleErased(
  tx: ControlPlaneTransaction,
  delivery: StoredDelivery,
  isHeld: boolean,
  nowMs: number,
): Promise<void> {
  const { state } = delivery
  if (!isHeld && (state === 'pending' || state === 'failed')) return tx.removeDelivery(delivery)
  const next = isHeld ? 'erasing' : 'erased'
  if (state === next) return
  const { providerId, version, hostId } = delivery
  await tx.saveDelivery({ providerId, version, hostId, state: next, atMs: nowMs })
}

interface Fetched {
  readonly open: readonly (Key & { readonly secret: Secret })[]
  readonly failed: readonly Failed[]
}

async function fetchKeys(
  source: KeySource,
  { claims }: AttestedHost,
  lacks: readonly Key[],
): Promise<Fetched> {
  const open: (Key & { readonly secret: Secret })[] = []
  const failed: Failed[] = []
  for (const [provider, keys] of groupByProvider(lacks)) {
    if (provider.tpmRequired && !claims.sigillo.binding_key) {
      const message = 'expected a binding key in the TPM of the host, found none in its token'
      const failure: KeyFailure = { kind: 'not-added', reason: 'support', code: 'KEY_ASSURANCE' }
      failed.push(...keys.map((key) => ({ ...key, failure, message })))
      continue
    }
    const results = await source.fetch(
      provider,
      keys.map(({ key }) => key),
    )
    keys.forEach((key, index) => {
      const result = results[index]
      if (result instanceof Secret) open.push({ ...key, secret: result })
      else if (result) {
        failed.push({ ...key, failure: fetchFailure(result.code), message: result.message })
      }
    })
  }
  return { open, failed }
}

/** Commits that keys leave, and which could not be had. */
async function release(
  deps: DeliveryDeps,
  { caller }: AttestedHost,
  { open, failed }: Fetched,
  nowMs: number,
): Promise<Fetched['open']> {
  if (open.length === 0 && failed.length === 0) return []
  const { released, newFailures } = await deps.store.transaction(async (tx) => {
    await tx.requireTrusted(caller)
    const wanted = new Set((await keysFor(tx, caller)).flatMap(({ keys }) => keys.map(idOf)))
    const before = new Map(
      (await tx.listDeliveriesTo(caller.hostId)).map((delivery) => [idOf(delivery), delivery]),
    )
    const newFailures: KeyFailure[] = []
    for (const { provider, key, failure } of failed) {
      const about = { provider, key, hostId: caller.hostId, before: before.get(idOf(key)) }
      if (await recordKeyFailure(tx, { ...about, failure, nowMs })) newFailures.push(failure)
    }
    const released = open.filter(({ key }) => wanted.has(idOf(key)))
    await recordRelease(tx, caller, released, nowMs)
    for (const { key } of released) {
      const { providerId, version } = key
      // A failure is over when the host confirms, not when the answer is made
      if (before.get(idOf(key))?.state === 'failed') continue
      const delivery = { providerId, version, hostId: caller.hostId }
      await tx.saveDelivery({ ...delivery, state: 'delivered', atMs: nowMs })
    }
    return { released, newFailures }
  })
  for (const { kind } of newFailures) deps.errors.count(kind)
  return released
}

/** The audit records of keys that leave, one for each provider. */
export async function recordRelease(
  tx: ControlPlaneTransaction,
  caller: HostCaller,
  released: readonly Key[],
  nowMs: number,
): Promise<void> {
  for (const [provider, keys] of groupByProvider(released)) {
    await tx.audit({
      atMs: nowMs,
      actor: `host:${caller.hostId}`,
      action: 'host-key.release',
      subject: `provider:${provider.name}`,
      outcome: 'allowed',
      detail: {
        versions: keys.map(({ key }) => key.version),
        assurance: assuranceOf(provider),
        token: caller.tokenId,
      },
    })
  }
}

/** One JWE of the keys that go this way; empty where none do. */
export async function sealKeys(
  { seal }: Pick<DeliveryDeps, 'seal'>,
  { claims }: AttestedHost,
  assurance: Assurance,
  open: readonly (Key & { readonly secret: Secret })[],
): Promise<string> {
  const keys = open.filter(({ provider }) => assuranceOf(provider) === assurance)
  if (keys.length === 0) return ''
  const plaintext = utf8(
    JSON.stringify({
      keys: keys.map(({ key, secret }) => ({
        provider: key.providerId,
        version: key.version,
        key: secret.use(toBase64url),
      })),
    }),
  )
  try {
    return await seal(claims, assurance, plaintext)
  } finally {
    plaintext.fill(0)
  }
}

export function assuranceOf({ tpmRequired }: StoredKeyProvider): Assurance {
  return tpmRequired ? 'tpm' : 'session'
}

function providerAnswer({ provider, keys }: Wanted): HostKeysAnswer['providers'][number] {
  const { providerId, name, kind, tpmRequired } = provider
  const versions = keys.map(({ version }) => version)
  const current = kind === 'native' ? versions.at(-1) : undefined
  return {
    ...{ providerId, name, kind, tpmRequired, versions },
    ...(current === undefined ? {} : { current }),
  }
}

function groupByProvider<K extends Key>(
  keys: readonly K[],
): ReadonlyMap<StoredKeyProvider, readonly K[]> {
  const groups = new Map<string, K[]>()
  for (const key of keys) {
    const group = groups.get(key.key.providerId) ?? []
    groups.set(key.key.providerId, group)
    group.push(key)
  }
  return new Map(
    [...groups.values()].flatMap((group) => (group[0] ? [[group[0].provider, group]] : [])),
  )
}

function idOf({ providerId, version }: { readonly providerId: string; readonly version: number }) {
  return `${providerId}:${version}`
}
