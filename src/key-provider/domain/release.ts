import type { Assurance, Purpose } from '../../api/key-provider.js'
import { toBase64url, utf8 } from '../../core/bytes.js'
import { secondsOf } from '../../core/clock.js'
import type { ErrorCode } from '../../core/error-codes.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import { describeFinding, failures } from '../../core/finding.js'
import {
  DEK_OCTETS,
  dekIdOf,
  parseEnvelope,
  unwrapKey,
  wrapKey,
  wrapRandoms,
} from '../../envelope/index.js'
import type { AnswerSealer, AttestationResultClaims } from '../../tokens/index.js'
import type {
  KeyProviderStore,
  KeyProviderTransaction,
  KeyServerKeys,
  Keystore,
  Reference,
  StoredProvider,
  TpmKeys,
} from '../ports.js'
import {
  type DistantProvider,
  embeddedPrimaries,
  type Need,
  type PreparedKeys,
  type Primaries,
  prepareKeys,
} from './primaries.js'
import { requirePurpose, verifyRelease } from './release-rule.js'

export interface ReleaseDeps {
  readonly store: KeyProviderStore
  readonly keystore: Keystore
  readonly keyServers: KeyServerKeys
  readonly tpmKeys: TpmKeys
  readonly seal: AnswerSealer
  /** The system's generator. */
  readonly random: (octets: number) => Uint8Array
  readonly metrics: ReleaseMetrics
  readonly monotonicMs: () => number
}

/** Figures for operators. */
export interface ReleaseMetrics {
  /** @param code `ok`, or why the whole request was refused */
  request(operation: string, code: string, tookMs: number): void
  item(operation: string, code: string, count: number): void
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
/** Stands for octets of an item that is not there: what is made of it is refused. */
const NONE = new Uint8Array()

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
    (primaries, noted) => {
      const randoms = wrapRandoms(request.items.length, deps.random)
      const results = request.items.map((item, index) =>
        wrapItem(primaries, { ...item, random: randoms[index] ?? NONE }, noted),
      )
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
      (primaries, noted) => {
        const randoms = wrapRandoms(request.items.length, deps.random)
        const results = request.items.map((item, index) => {
          const [dek = NONE, random = NONE] = [deks[index], randoms[index]]
          return wrapItem(primaries, { ...item, dek, random }, noted)
        })
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
    const items = await serve(
      deps,
      caller,
      { ...request, operation: 'unwrap' },
      (primaries, noted) => {
        const results = request.items.map((item) => {
          const opened = unwrapItem(primaries, item, noted)
          deks.push(opened.ok ? opened.dek : undefined)
          return opened.ok ? { ok: true as const } : opened
        })
        return { results, value: results }
      },
    )
    const sealed = await sealKeys(deps, caller, request.assurance, keysOf(items, deks))
    return { items, sealed }
  } finally {
    for (const dek of deks) dek?.fill(0)
  }
}

/** Wraps keys anew with the active version, but those that are; they do not leave the provider. */
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
    (primaries, noted) => {
      const randoms = wrapRandoms(request.items.length, deps.random)
      const results = request.items.map((item, index): WrappedItem => {
        const opened = unwrapItem(primaries, item, noted)
        if (!opened.ok) return opened
        try {
          // So that who begins again after an interruption changes nothing that is done.
          if (opened.version === activeNumber(primaries.provider)) {
            return { ok: true, wrapped: item.wrapped }
          }
          const random = randoms[index] ?? NONE
          return wrapItem(primaries, { ...item, dek: opened.dek, random }, noted)
        } finally {
          opened.dek.fill(0)
        }
      })
      return { results, value: results }
    },
  )
}

function activeNumber({ versions }: StoredProvider): number | undefined {
  return versions.findLast(({ state }) => state === 'active')?.version
}

/**
 * Takes the references to wrapped keys back, which the host will not have opened again: its VM is deleted, or has them
 * wrapped anew. Each key has to be genuine, with its purpose and context.
 */
export async function releaseForHost(
  deps: ReleaseDeps,
  caller: Caller,
  request: {
    readonly provider: string
    readonly items: readonly (KeyUse & { readonly wrapped: string })[]
    readonly nowMs: number
  },
): Promise<readonly OpenedItem[]> {
  return serve(
    deps,
    caller,
    { ...request, operation: 'release', assurance: undefined },
    (primaries, noted) => {
      const seen: Reference[] = []
      const results = request.items.map((item): OpenedItem => {
        const opened = unwrapItem(primaries, item, { present: seen, gone: [] })
        if (!opened.ok) return opened
        opened.dek.fill(0)
        return { ok: true }
      })
      noted.gone.push(...seen)
      return { results, value: results }
    },
  )
}

/** What a request tells of wrapped keys: which there are, and which there are no longer. */
interface Noted {
  readonly present: Reference[]
  readonly gone: Reference[]
}

type Outcome = { readonly ok: true; readonly wrapped?: string } | ItemFailure

interface Served<R> {
  readonly results: readonly Outcome[]
  readonly value: R
}

interface Request {
  readonly provider: string
  readonly operation: 'wrap' | 'unwrap' | 'rewrap' | 'generate' | 'release'
  readonly items: readonly (KeyUse & { readonly wrapped?: string })[]
  readonly assurance: Assurance | undefined
  readonly nowMs: number
}

type Attempt<R> =
  | { readonly value: Served<R> }
  | { readonly refusal: PlatformError }
  | { readonly needs: DistantProvider }

/** A version that becomes active while a key server or the TPM is asked has it asked again; not for ever. */
const MOST_ATTEMPTS = 5

/**
 * One request: replay record, host status, release rule and audit in one transaction; nothing leaves before it is
 * committed. A refusal is committed with its audit record, and thrown after.
 *
 * Where the primary key is in a key server or behind the TPM, that is asked before the transaction, and only for a caller that would be
 * served; all is checked again in it.
 */
async function serve<R>(
  deps: ReleaseDeps,
  caller: Caller,
  request: Request,
  work: (primaries: Primaries, noted: Noted) => Served<R>,
): Promise<R> {
  const { operation } = request
  const { metrics } = deps
  const startedMs = deps.monotonicMs()
  const tookMs = () => deps.monotonicMs() - startedMs
  try {
    const { results, value } = await serveCounted(deps, caller, request, work)
    metrics.request(operation, 'ok', tookMs())
    countItems(metrics, operation, results)
    return value
  } catch (error) {
    metrics.request(operation, isPlatformError(error) ? error.code : 'INTERNAL', tookMs())
    throw error
  }
}

function countItems(metrics: ReleaseMetrics, operation: string, results: readonly Outcome[]): void {
  const counts = new Map<string, number>()
  for (const result of results) {
    const code = result.ok ? 'ok' : result.code
    counts.set(code, (counts.get(code) ?? 0) + 1)
  }
  for (const [code, count] of counts) metrics.item(operation, code, count)
}

async function serveCounted<R>(
  deps: ReleaseDeps,
  caller: Caller,
  request: Request,
  work: (primaries: Primaries, noted: Noted) => Served<R>,
): Promise<Served<R>> {
  const { operation } = request
  const need: Need = {
    wraps: operation !== 'unwrap' && operation !== 'release',
    wrapped: request.items.flatMap((item) => item.wrapped ?? []),
    inAnyState: operation === 'release',
  }
  let prepared: PreparedKeys | undefined
  try {
    for (let attempt = 0; attempt < MOST_ATTEMPTS; attempt += 1) {
      const outcome = await deps.store.transaction((tx) =>
        attemptOnce(tx, deps, caller, request, { prepared, work }),
      )
      if ('value' in outcome) return outcome.value
      if ('refusal' in outcome) throw outcome.refusal
      prepared?.[Symbol.dispose]()
      prepared = undefined
      try {
        prepared = await prepareKeys(deps, outcome.needs, need)
      } catch (error) {
        if (!isPlatformError(error)) throw error
        await deps.store.transaction((tx) => refuse(tx, caller, request, error))
        throw error
      }
    }
  } finally {
    prepared?.[Symbol.dispose]()
  }
  throw new PlatformError('UNAVAILABLE', 'the primary key changed too often meanwhile')
}

async function attemptOnce<R>(
  tx: KeyProviderTransaction,
  deps: ReleaseDeps,
  caller: Caller,
  request: Request,
  options: {
    readonly prepared: PreparedKeys | undefined
    readonly work: (primaries: Primaries, noted: Noted) => Served<R>
  },
): Promise<Attempt<R>> {
  const { prepared, work } = options
  const provider = await tx.findProvider(request.provider)
  if (provider && isDistant(provider) && !prepared?.fit(provider)) {
    // The proof is not used up yet: the request comes back here with the keys.
    if (!(await verifyCaller(tx, caller, request, provider))) return { needs: provider }
  }
  const refusal = await admit(tx, caller, request, provider)
  if (refusal || !provider) {
    return { refusal: await refuse(tx, caller, request, refusal ?? noProvider(request.provider)) }
  }
  const inAnyState = request.operation === 'release'
  using primaries =
    prepared?.primariesOf(provider) ?? embeddedPrimaries(deps.keystore, provider, inAnyState)
  const noted: Noted = { present: [], gone: [] }
  const served = work(primaries, noted)
  await tx.addReferences(provider.providerId, noted.present)
  await tx.removeReferences(provider.providerId, noted.gone)
  await audit(tx, caller, request, 'allowed', {
    assurance: request.assurance ?? 'none',
    items: served.results.map((result) => (result.ok ? 'ok' : result.code)),
  })
  return { value: served }
}

async function refuse(
  tx: KeyProviderTransaction,
  caller: Caller,
  request: Request,
  refusal: PlatformError,
): Promise<PlatformError> {
  const { code, message } = refusal
  await audit(tx, caller, request, 'refused', { code, message })
  return refusal
}

function isDistant(provider: StoredProvider): provider is DistantProvider {
  return provider.backend.kind !== 'embedded'
}

async function admit(
  tx: KeyProviderTransaction,
  caller: Caller,
  request: Request,
  provider: StoredProvider | undefined,
): Promise<PlatformError | undefined> {
  const { proof } = caller
  if (!(await tx.useProof(proof.jkt, proof.jti, caller.proofExpiresAtMs))) {
    return new PlatformError('DPOP_REPLAYED', 'expected a proof that was not used, found it used')
  }
  return verifyCaller(tx, caller, request, provider)
}

/** Why the caller is not served, whatever became of its proof. */
async function verifyCaller(
  tx: KeyProviderTransaction,
  { claims }: Caller,
  request: Request,
  provider: StoredProvider | undefined,
): Promise<PlatformError | undefined> {
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
  request: Request,
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

function wrapItem(
  primaries: Primaries,
  item: KeyUse & { readonly dek: Uint8Array; readonly random: Uint8Array },
  noted: Noted,
): WrappedItem {
  return itemResult(() => {
    if (item.dek.length !== DEK_OCTETS) {
      throw new PlatformError(
        'KEY_LENGTH',
        `expected a key of ${DEK_OCTETS} octets, found ${item.dek.length}`,
      )
    }
    requirePurpose(primaries.provider.settings, item.purpose)
    const { secret, ...primary } = primaries.active()
    const wrapped = secret.use((octets) => wrapKey({ ...item, primary: { ...primary, octets } }))
    noted.present.push({ dekId: dekIdOf(item.random), version: primary.version })
    return { ok: true, wrapped }
  })
}

function unwrapItem(
  primaries: Primaries,
  item: KeyUse & { readonly wrapped: string },
  noted: Noted,
): { readonly ok: true; readonly dek: Uint8Array; readonly version: number } | ItemFailure {
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
    const { version, secret } = primaries.of(envelope)
    const dek = secret.use((octets) =>
      unwrapKey({
        primary: { providerId, version, octets },
        envelope,
        purpose: item.purpose,
        context: item.context,
      }),
    )
    // Also of a key that was not known, as after a restore of the database: it is seen to be used.
    noted.present.push({ dekId: envelope.header.dek, version })
    return { ok: true, dek, version }
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
