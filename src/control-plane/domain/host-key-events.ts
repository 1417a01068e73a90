import type { CanonicalValue } from '../../core/canonical-json.js'
import type {
  KeyErrorKind,
  RefusedAttributes,
  StoredDelivery,
  StoredHostKey,
  StoredKeyProvider,
} from '../host-key-ports.js'
import type { ControlPlaneTransaction, NewEvent } from '../ports.js'

/** What hosts could not get, by whose fault. `code` says more. */
export interface KeyFailure {
  readonly kind: KeyErrorKind
  /** Of what could not be added to a host: the way to it, or that it cannot take it. */
  readonly reason?: 'connection' | 'support'
  readonly code: string
}

const MISSING: ReadonlySet<string> = new Set(['KMS_KEY_NOT_FOUND', 'KMS_KEY_DESTROYED'])

/** Why a key could not be fetched: it is not where it should be, or nobody there answers. */
export function fetchFailure(code: string): KeyFailure {
  if (MISSING.has(code)) return { kind: 'missing', code }
  if (code.startsWith('KMS_')) return { kind: 'server-unreachable', code }
  return { kind: 'not-added', reason: 'support', code }
}

const SENTENCES: Readonly<Record<KeyErrorKind, string>> = {
  'not-added': 'could not be added to',
  missing: 'is missing on the key server; it was wanted by',
  'server-unreachable': 'could not be fetched from the key server for',
}

/**
 * Records that a host did not get a key: in its delivery and, where that was not so before, as an event.
 *
 * @returns whether it is new
 */
export async function recordKeyFailure(
  tx: ControlPlaneTransaction,
  failed: {
    readonly provider: StoredKeyProvider
    readonly key: StoredHostKey
    readonly hostId: string
    readonly before: StoredDelivery | undefined
    readonly failure: KeyFailure
    readonly nowMs: number
  },
): Promise<boolean> {
  const { provider, key, hostId, before, failure, nowMs } = failed
  const { kind, code } = failure
  const { providerId, version } = key
  await tx.saveDelivery({ providerId, version, hostId, state: 'failed', code, atMs: nowMs })
  if (before?.state === 'failed' && before.code === code) return false
  await tx.addEvent(
    keyEvent({
      atMs: nowMs,
      severity: 'error',
      type: `host-key.${kind}`,
      provider,
      message: `key ${nameOf(key)} of ${provider.name} ${SENTENCES[kind]} host ${hostId} (${code})`,
      detail: {
        ...detailOf(key),
        host: hostId,
        code,
        ...(failure.reason ? { reason: failure.reason } : {}),
      },
    }),
  )
  return true
}

/** After a failure: the host has the key now. */
export function keyAdded(
  provider: StoredKeyProvider,
  key: StoredHostKey,
  hostId: string,
  atMs: number,
): NewEvent {
  return keyEvent({
    atMs,
    severity: 'info',
    type: 'host-key.added',
    provider,
    message: `key ${nameOf(key)} of ${provider.name} reached host ${hostId}`,
    detail: { ...detailOf(key), host: hostId },
  })
}

/** The key server does not keep what a key is for. The key is good all the same. */
export function attributesRefused(
  provider: StoredKeyProvider,
  key: StoredHostKey,
  { refused, code = 'KMS_UNSUPPORTED' }: RefusedAttributes,
  atMs: number,
): NewEvent {
  return keyEvent({
    atMs,
    severity: 'warning',
    type: 'host-key.attributes-refused',
    provider,
    message: `the key server of ${provider.name} does not keep ${refused.join(', ')} of key ${nameOf(key)} (${code})`,
    detail: { ...detailOf(key), attributes: [...refused], code },
  })
}

export function keyEvent(event: {
  readonly atMs: number
  readonly severity: NewEvent['severity']
  readonly type: string
  readonly provider: Pick<StoredKeyProvider, 'providerId' | 'name' | 'kind'>
  readonly message: string
  readonly detail?: { readonly [name: string]: CanonicalValue }
}): NewEvent {
  const { provider, detail, ...rest } = event
  const { name, providerId, kind } = provider
  return {
    ...rest,
    subject: `provider:${name}`,
    detail: { provider: name, providerId, kind, ...detail },
  }
}

function nameOf({ version, keyId }: StoredHostKey): string {
  return keyId ?? String(version)
}

function detailOf({ version, keyId, use }: StoredHostKey): {
  readonly [name: string]: CanonicalValue
} {
  return {
    version,
    ...(keyId === undefined ? {} : { keyId }),
    ...(use?.kind === 'vm' ? { vm: use.id } : {}),
  }
}
