import type { Assurance, Purpose } from '../../api/key-provider.js'
import { toBase64url, utf8 } from '../../core/bytes.js'
import { secondsOf } from '../../core/clock.js'
import type { ErrorCode } from '../../core/error-codes.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import { describeFinding, failures } from '../../core/finding.js'
import type { Secret } from '../../core/secret.js'
import {
  DEK_OCTETS,
  parseEnvelope,
  unwrapKey,
  WRAP_RANDOM_OCTETS,
  wrapKey,
} from '../../envelope/index.js'
import type { AnswerSealer, AttestationResultClaims } from '../../tokens/index.js'
import type {
  KeyProviderStore,
  KeyProviderTransaction,
  Keystore,
  StoredProvider,
  StoredVersion,
} from '../ports.js'
import { requirePurpose, verifyRelease } from './release-rule.js'

export interface ReleaseDeps {
  readonly store: KeyProviderStore
  readonly keystore: Keystore
  readonly seal: AnswerSealer
  /** The system's generator. */
  readonly random: (octets: number) => Uint8Array
}

/** An attested host, for one request. */
export interface Caller {
  readonly claims: AttestationResultClaims
  readonly proof: { readonly jkt: string; readonly jti: string }
  readonly proofExpiresAtMs: number
}

export interface KeyUse {
  readonly purpose: Purpose
  readonly context: Readonly<Record<string, string>>
}

export interface ItemFailure {
  readonly ok: false
  readonly code: ErrorCode
  readonly message: string
}
export type WrappedItem = { readonly ok: true; readonly wrapped: string } | ItemFailure
export type OpenedItem = { readonly ok: true } | ItemFailure

/** Wraps keys that the host made. The keys stay the caller's, to be filled with zeros. */
export async function wrapForHost(
  deps: ReleaseDeps,
  caller: Caller,
  request: {
    readonly provider: string
    readonly items: readonly (KeyUse & { readonly dek: Uint8Array })[]
    readonly nowMs: number
  },
): Promise<readonly WrappedItem[]> {
  return serve(
    deps,
    caller,
    { ...request, operation: 'wrap', assurance: undefined },
    (primaries) => {
      const results = request.items.map((item) => wrapItem(deps, primaries, item))
      return { results, value: results }
    },
  )
}

/** Makes keys: wrapped, and sealed to the host. */
export async function generateForHost(
  deps: ReleaseDeps,
  caller: Caller,
  request: {
    readonly provider: string
    readonly items: readonly KeyUse[]
    readonly assurance: Assurance
    readonly nowMs: number
  },
): Promise<{ readonly items: readonly WrappedItem[]; readonly sealed: string }> {
  const deks = request.items.map(() => deps.random(DEK_OCTETS))
  try {
    const { items, keys } = await serve(
      deps,
      caller,
      { ...request, operation: 'generate' },
      (primaries) => {
        const results = request.items.map((item, index) =>
          wrapItem(deps, primaries, { ...item, dek: deks[index] ?? new Uint8Array() }),
        )
        return { results, value: { items: results, keys: keysOf(results, deks) } }
      },
    )
    return { items, sealed: await sealKeys(deps, caller, request.assurance, keys) }
  } finally {
    for (const dek of deks) dek.fill(0)
  }
}

/** Unwraps keys and seals them to the host. An item that does not open never fails the others. */
export async function unwrapForHost(
  deps: ReleaseDeps,
  caller: Caller,
  request: {
    readonly provider: string
    readonly items: readonly (KeyUse & { readonly wrapped: string })[]
    readonly assurance: Assurance
    readonly nowMs: number
  },
): Promise<{ readonly items: readonly OpenedItem[]; readonly sealed: string }> {
  const deks: (Uint8Array | undefined)[] = []
  try {
    const items = await serve(deps, caller, { ...request, operation: 'unwrap' }, (primaries) => {
      const results = request.items.map((item) => {
        const opened = unwrapItem(primaries, item)
        deks.push(opened.ok ? opened.dek : undefined)
        return opened.ok ? { ok: true as const } : opened
      })
      return { results, value: results }
    })
    const sealed = await sealKeys(deps, caller, request.assurance, keysOf(items, deks))
    return { items, sealed }
  } finally {
    for (const dek of deks) dek?.fill(0)
  }
}

/** Wraps keys anew with the active version; they do not leave the provider. */
export async function rewrapForHost(
  deps: ReleaseDeps,
  caller: Caller,
  request: {
    readonly provider: string
    readonly items: readonly (KeyUse & { readonly wrapped: string })[]
    readonly nowMs: number
  },
): Promise<readonly WrappedItem[]> {
  return serve(
    deps,
    caller,
    { ...request, operation: 'rewrap', assurance: undefined },
    (primaries) => {
      const results = request.items.map((item): WrappedItem => {
        const opened = unwrapItem(primaries, item)
        if (!opened.ok) return opened
        try {
          return wrapItem(deps, primaries, { ...item, dek: opened.dek })
        } finally {
          opened.dek.fill(0)
        }
      })
      return { results, value: results }
    },
  )
}

type Outcome = { readonly ok: true; readonly wrapped?: string } | ItemFailure

interface Served<R> {
  readonly results: readonly Outcome[]
  readonly value: R
}

/**
 * One request: replay record, host status, release rule and audit in one transaction; nothing leaves before it is
 * committed. A refusal is committed with its audit record, and thrown after.
 */
async function serve<R>(
  deps: ReleaseDeps,
  caller: Caller,
  request: {
    readonly provider: string
    readonly operation: 'wrap' | 'unwrap' | 'rewrap' | 'generate'
    readonly items: readonly KeyUse[]
    readonly assurance: Assurance | undefined
    readonly nowMs: number
  },
  work: (primaries: Primaries) => Served<R>,
): Promise<R> {
  const outcome = await deps.store.transaction(async (tx) => {
    const provider = await tx.findProvider(request.provider)
    const refusal = await admit(tx, caller, request, provider)
    if (refusal || !provider) {
      await audit(tx, caller, request, 'refused', {
        code: refusal?.code ?? 'NOT_FOUND',
        message: refusal?.message ?? '',
      })
      return { refusal: refusal ?? noProvider(request.provider) }
    }
    using primaries = openPrimaries(deps.keystore, provider)
    const served = work(primaries)
    await audit(tx, caller, request, 'allowed', {
      assurance: request.assurance ?? 'none',
      items: served.results.map((result) => (result.ok ? 'ok' : result.code)),
    })
    return { value: served.value }
  })
  if ('refusal' in outcome) throw outcome.refusal
  return outcome.value
}

async function admit(
  tx: KeyProviderTransaction,
  caller: Caller,
  request: {
    readonly provider: string
    readonly assurance: Assurance | undefined
    readonly nowMs: number
  },
  provider: StoredProvider | undefined,
): Promise<PlatformError | undefined> {
  const { claims, proof } = caller
  if (!(await tx.useProof(proof.jkt, proof.jti, caller.proofExpiresAtMs))) {
    return new PlatformError('DPOP_REPLAYED', 'expected a proof that was not used, found it used')
  }
  if (await tx.isTokenRevoked(claims.jti)) {
    return new PlatformError('TOKEN_REVOKED', 'expected a token in force, found it revoked')
  }
  if (!provider) return noProvider(request.provider)
  const [failure] = failures(
    verifyRelease({
      claims,
      status: await tx.readHostStatus(claims.iss, claims.sub),
      settings: provider.settings,
      assurance: request.assurance,
      nowSeconds: secondsOf(request.nowMs),
    }),
  )
  return failure && new PlatformError(failure.code, describeFinding(failure))
}

function noProvider(name: string): PlatformError {
  return new PlatformError('NOT_FOUND', `no key provider ${name}`)
}

async function audit(
  tx: KeyProviderTransaction,
  caller: Caller,
  request: {
    readonly provider: string
    readonly operation: string
    readonly items: readonly KeyUse[]
    readonly nowMs: number
  },
  outcome: 'allowed' | 'refused',
  detail: { readonly [name: string]: string | readonly string[] },
): Promise<void> {
  await tx.audit({
    atMs: request.nowMs,
    actor: `host:${caller.claims.sub}`,
    action: `keys.${request.operation}`,
    subject: `provider:${request.provider}`,
    outcome,
    detail: {
      ...detail,
      token: caller.claims.jti,
      uses: request.items.map(({ purpose, context }) => ({ purpose, context })),
    },
  })
}

/** The primary keys of a provider, open for one request. */
interface Primaries extends Disposable {
  readonly provider: StoredProvider
  /** The version to wrap with. @throws PlatformError `KEY_STATE` */
  active(): OpenPrimary
  /** A version to unwrap with. @throws PlatformError `KEY_VERSION_UNKNOWN`, `KEY_STATE` */
  version(version: number): OpenPrimary
}

interface OpenPrimary {
  readonly providerId: string
  readonly version: number
  readonly secret: Secret
}

/** Opens versions when they are needed, each once. */
function openPrimaries(keystore: Keystore, provider: StoredProvider): Primaries {
  const open = new Map<number, OpenPrimary>()
  const openVersion = (stored: StoredVersion): OpenPrimary => {
    const known = open.get(stored.version)
    if (known) return known
    const { providerId } = provider
    const { version, createdAtMs } = stored
    const secret = keystore.open({ providerId, version, createdAtMs }, stored.sealed)
    const primary = { providerId, version, secret }
    open.set(version, primary)
    return primary
  }
  return {
    provider,
    active() {
      const stored = provider.versions.findLast(({ state }) => state === 'active')
      if (!stored) {
        throw new PlatformError(
          'KEY_STATE',
          'expected an active version of the primary key, found none',
        )
      }
      return openVersion(stored)
    },
    version(version) {
      const stored = provider.versions.find((candidate) => candidate.version === version)
      if (!stored) {
        throw new PlatformError(
          'KEY_VERSION_UNKNOWN',
          `expected a version of the primary key up to ${provider.versions.length}, found ${version}`,
        )
      }
      requireUnwrapping(stored, provider)
      return openVersion(stored)
    },
    [Symbol.dispose]() {
      for (const { secret } of open.values()) secret.dispose()
    },
  }
}

/** What was never used wrapped nothing, and what is compromised is opened where the provider says so. */
function requireUnwrapping({ version, state }: StoredVersion, { settings }: StoredProvider): void {
  const isUsable =
    state === 'active' ||
    state === 'deactivated' ||
    (state === 'compromised' && settings.unwrapCompromised === true)
  if (isUsable) return
  throw new PlatformError('KEY_STATE', `expected a version that unwraps, found ${version} ${state}`)
}

function wrapItem(
  deps: ReleaseDeps,
  primaries: Primaries,
  item: KeyUse & { readonly dek: Uint8Array },
): WrappedItem {
  return itemResult(() => {
    if (item.dek.length !== DEK_OCTETS) {
      throw new PlatformError(
        'KEY_LENGTH',
        `expected a key of ${DEK_OCTETS} octets, found ${item.dek.length}`,
      )
    }
    requirePurpose(primaries.provider.settings, item.purpose)
    const { providerId, version, secret } = primaries.active()
    const wrapped = secret.use((octets) =>
      wrapKey({
        primary: { providerId, version, octets },
        purpose: item.purpose,
        context: item.context,
        dek: item.dek,
        random: deps.random(WRAP_RANDOM_OCTETS),
      }),
    )
    return { ok: true, wrapped }
  })
}

function unwrapItem(
  primaries: Primaries,
  item: KeyUse & { readonly wrapped: string },
): { readonly ok: true; readonly dek: Uint8Array } | ItemFailure {
  return itemResult(() => {
    requirePurpose(primaries.provider.settings, item.purpose)
    const envelope = parseEnvelope(item.wrapped)
    const { providerId } = primaries.provider
    if (envelope.header.provider !== providerId) {
      throw new PlatformError(
        'KEY_PROVIDER_OTHER',
        `expected a key of provider ${primaries.provider.name}, found one of another`,
      )
    }
    const { version, secret } = primaries.version(envelope.header.version)
    const dek = secret.use((octets) =>
      unwrapKey({
        primary: { providerId, version, octets },
        envelope,
        purpose: item.purpose,
        context: item.context,
      }),
    )
    return { ok: true, dek }
  })
}

function itemResult<T extends { readonly ok: true }>(work: () => T): T | ItemFailure {
  try {
    return work()
  } catch (error) {
    if (!isPlatformError(error)) throw error
    return { ok: false, code: error.code, message: messageOf(error) }
  }
}

interface NumberedKey {
  readonly item: number
  readonly dek: Uint8Array
}

function keysOf(
  results: readonly { readonly ok: boolean }[],
  deks: readonly (Uint8Array | undefined)[],
): readonly NumberedKey[] {
  return results.flatMap(({ ok }, item) => {
    const dek = deks[item]
    return ok && dek ? [{ item, dek }] : []
  })
}

async function sealKeys(
  deps: ReleaseDeps,
  { claims }: Caller,
  assurance: Assurance,
  keys: readonly NumberedKey[],
): Promise<string> {
  if (keys.length === 0) return ''
  const plaintext = utf8(
    JSON.stringify({ keys: keys.map(({ item, dek }) => ({ item, dek: toBase64url(dek) })) }),
  )
  try {
    return await deps.seal(claims, assurance, plaintext)
  } finally {
    plaintext.fill(0)
  }
}
