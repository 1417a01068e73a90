import type { Assurance } from '../../api/key-provider.js'
import { isPlatformError, PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import type {
  ChangeSignal,
  KeyServers,
  KeyUse,
  NewKek,
  StoredHostKey,
  StoredKeyProvider,
} from '../host-key-ports.js'
import type { ControlPlaneTransaction, HostCaller } from '../ports.js'
import {
  type AttestedHost,
  assuranceOf,
  type DeliveryDeps,
  recordRelease,
  sealKeys,
} from './deliver-host-keys.js'
import { attributesRefused, fetchFailure, keyEvent, recordKeyFailure } from './host-key-events.js'
import { active } from './host-key-providers.js'
import { mayHaveKeys } from './hosts.js'

export interface TakeDeps extends DeliveryDeps {
  readonly keyServers: KeyServers
  readonly changes: ChangeSignal
}

/**
 * A key of a standard provider: a new one for each task that encrypts a VM, one for each host. Made on the key server,
 * known here by its id alone. All hosts of the cluster get it; the one that asks gets it with the answer, encrypted to it.
 *
 * What the key is used for is told to the key server then for a host, and for a VM once the inventory knows its name.
 *
 * @throws PlatformError `NOT_FOUND`, `CONFLICT`, `FORBIDDEN` for a VM of another host, `KEY_ASSURANCE`, `KMS_…`,
 *   `HOST_ENCRYPTION_OFF`
 */
export async function takeHostKey(
  deps: TakeDeps,
  host: AttestedHost,
  request: { readonly provider: string; readonly use: KeyUse },
  nowMs: number,
): Promise<{
  readonly providerId: string
  readonly version: number
  readonly assurance: Assurance
  readonly sealed: string
}> {
  const { caller } = host
  const { provider, before } = await deps.store.transaction(async (tx) => {
    await tx.admit(caller, nowMs)
    const provider = await servingProvider(tx, host, request)
    return { provider, before: await keyOfHost(tx, caller, provider, request.use) }
  })
  const { key, secret } = before
    ? { key: before, secret: await fetchKnown(deps, caller, provider, before, nowMs) }
    : await makeKey(deps, caller, provider, request.use, nowMs)
  try {
    await deps.store.transaction(async (tx) => {
      await tx.requireTrusted(caller)
      await servingProvider(tx, host, request)
      await recordRelease(tx, caller, [{ provider, key }], nowMs)
      const { providerId, version } = key
      const delivery = { providerId, version, hostId: caller.hostId, atMs: nowMs }
      await tx.saveDelivery({ ...delivery, state: 'delivered' })
    })
    const assurance = assuranceOf(provider)
    const sealed = await sealKeys(deps, host, assurance, [{ provider, key, secret }])
    return { providerId: provider.providerId, version: key.version, assurance, sealed }
  } finally {
    secret.dispose()
  }
}

async function servingProvider(
  tx: ControlPlaneTransaction,
  { caller, claims }: AttestedHost,
  request: { readonly provider: string; readonly use: KeyUse },
): Promise<StoredKeyProvider> {
  if (!(await mayHaveKeys(tx, caller.hostId))) {
    const expected = `expected a host where encryption is not turned off, found ${caller.hostId}`
    throw new PlatformError('HOST_ENCRYPTION_OFF', expected)
  }
  const provider = await active(tx, request.provider)
  const { name, kind, clusters, tpmRequired } = provider
  if (!clusters.includes(caller.cluster)) {
    throw new PlatformError('NOT_FOUND', `no key provider ${name} for cluster ${caller.cluster}`)
  }
  if (kind !== 'standard') {
    throw new PlatformError('CONFLICT', `expected a standard key provider, found ${name}: ${kind}`)
  }
  if (tpmRequired && !claims.sigillo.binding_key) {
    const expected = 'expected a binding key in the TPM of the host, found none in its token'
    throw new PlatformError('KEY_ASSURANCE', expected)
  }
  const vm = request.use.kind === 'vm' ? await tx.findVm(request.use.id) : undefined
  if (vm && vm.hostId !== caller.hostId) {
    const expected = `expected a VM of host ${caller.hostId}, found ${vm.vmId} elsewhere`
    throw new PlatformError('FORBIDDEN', expected)
  }
  return provider
}

async function fetchKnown(
  deps: TakeDeps,
  { hostId }: HostCaller,
  provider: StoredKeyProvider,
  key: StoredHostKey,
  nowMs: number,
): Promise<Secret> {
  const [result] = await deps.keyServers.fetch(provider, [key])
  if (result && !isPlatformError(result)) return result
  const error = result ?? new PlatformError('HOST_KEY_ABSENT', 'the key server gave no key')
  const failure = fetchFailure(error.code)
  const isNew = await deps.store.transaction(async (tx) => {
    const deliveries = await tx.listDeliveriesTo(hostId)
    const before = deliveries.find(
      (one) => one.providerId === key.providerId && one.version === key.version,
    )
    return recordKeyFailure(tx, { provider, key, hostId, before, failure, nowMs })
  })
  if (isNew) deps.errors.count(failure.kind)
  throw error
}

async function makeKey(
  deps: TakeDeps,
  caller: HostCaller,
  provider: StoredKeyProvider,
  use: KeyUse,
  nowMs: number,
): Promise<{ readonly key: StoredHostKey; readonly secret: Secret }> {
  const made = await deps.keyServers.make(provider).catch(async (error: unknown) => {
    if (isPlatformError(error)) await recordNotMade(deps, caller, provider, use, error, nowMs)
    throw error
  })
  let key: StoredHostKey
  try {
    key = await deps.store.transaction((tx) => insertKey(tx, caller, provider, use, made, nowMs))
  } catch (error) {
    made.secret.dispose()
    await deps.keyServers.discard(provider, made.keyId)
    const other =
      isPlatformError(error, 'CONFLICT') &&
      (await deps.store.transaction((tx) => keyOfHost(tx, caller, provider, use)))
    // Another request made the key of this host meanwhile
    if (!other) throw error
    return { key: other, secret: await fetchKnown(deps, caller, provider, other, nowMs) }
  }
  deps.changes.raise()
  if (use.kind === 'host') await describeHostKey(deps, caller, provider, key, nowMs)
  return { key, secret: made.secret }
}

/** The key that a host has already; a VM has a key of its own for each task that encrypts it. */
async function keyOfHost(
  tx: ControlPlaneTransaction,
  { cluster }: HostCaller,
  { providerId }: StoredKeyProvider,
  { kind, id }: KeyUse,
): Promise<StoredHostKey | undefined> {
  return kind === 'host' ? tx.findKeyOfHost(providerId, cluster, id) : undefined
}

async function insertKey(
  tx: ControlPlaneTransaction,
  caller: HostCaller,
  provider: StoredKeyProvider,
  use: KeyUse,
  made: NewKek,
  nowMs: number,
): Promise<StoredHostKey> {
  await tx.requireTrusted(caller)
  const { providerId } = provider
  if (await keyOfHost(tx, caller, provider, use)) {
    throw new PlatformError('CONFLICT', `expected no key of host ${caller.hostId}, found one`)
  }
  const key: StoredHostKey = {
    providerId,
    version: (await tx.newestVersion(providerId)) + 1,
    createdAtMs: nowMs,
    usableAtMs: nowMs,
    keyId: made.keyId,
    cluster: caller.cluster,
    use,
  }
  await tx.insertHostKey(key)
  await tx.raiseHostKeyRevision()
  const { version, keyId } = key
  await tx.addEvent(
    keyEvent({
      atMs: nowMs,
      severity: 'info',
      type: 'host-key.created',
      provider,
      message: `key ${keyId} of ${provider.name} made for ${use.kind} ${use.id}`,
      detail: { version, keyId: made.keyId, host: caller.hostId, [use.kind]: use.id },
    }),
  )
  if (made.refused.length > 0) {
    await tx.addEvent(attributesRefused(provider, key, made, nowMs))
  }
  await tx.audit({
    atMs: nowMs,
    actor: `host:${caller.hostId}`,
    action: 'host-key.create',
    subject: `provider:${provider.name}`,
    outcome: 'allowed',
    detail: { version, keyId: made.keyId, use: { ...use }, token: caller.tokenId },
  })
  return key
}

/** No key was made: the key server does not answer, or does not do it. */
async function recordNotMade(
  deps: TakeDeps,
  { hostId }: HostCaller,
  provider: StoredKeyProvider,
  use: KeyUse,
  error: PlatformError,
  nowMs: number,
): Promise<void> {
  const { kind, code } = fetchFailure(error.code)
  await deps.store.transaction((tx) =>
    tx.addEvent(
      keyEvent({
        atMs: nowMs,
        severity: 'error',
        type: `host-key.${kind}`,
        provider,
        message: `no key of ${provider.name} could be made for ${use.kind} ${use.id} on ${hostId} (${code})`,
        detail: { host: hostId, code, ...(use.kind === 'vm' ? { vm: use.id } : {}) },
      }),
    ),
  )
  deps.errors.count(kind)
}

async function describeHostKey(
  deps: TakeDeps,
  { hostId }: HostCaller,
  provider: StoredKeyProvider,
  key: StoredHostKey,
  nowMs: number,
): Promise<void> {
  const { keyId = '', use } = key
  const refused = await deps.keyServers.describe(provider, keyId, {
    kind: 'host',
    name: hostId,
    identifier: use?.id ?? hostId,
  })
  await deps.store.transaction(async (tx) => {
    await tx.markDescribed(key.providerId, key.version, nowMs)
    if (refused.refused.length > 0) {
      await tx.addEvent(attributesRefused(provider, key, refused, nowMs))
    }
  })
}
