import type { ErrorCode } from '../../core/error-codes.js'
import { isPlatformError, PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import { type Envelope, type KeptKey, parseEnvelope } from '../../envelope/index.js'
import type {
  DistantBackend,
  KeyServerBackend,
  KeyServerKeys,
  Keystore,
  StoredProvider,
  StoredVersion,
  TpmKeys,
} from '../ports.js'

export const PRIMARY_KEY_OCTETS = 32

/** The primary keys of a provider, open for one request. */
export interface Primaries extends Disposable {
  readonly provider: StoredProvider
  /** What to wrap with. @throws PlatformError `KEY_STATE` */
  active(): OpenPrimary
  /** What a wrapped key opens with. @throws PlatformError `KEY_VERSION_UNKNOWN`, `KEY_STATE`, or of the key server */
  of(envelope: Envelope): OpenPrimary
}

export interface OpenPrimary {
  readonly providerId: string
  readonly version: number
  /** The primary key; where that stays in a key server, the random key that it encrypted. */
  readonly secret: Secret
  readonly kek?: KeptKey
}

/** What a request wants of primary keys. */
export interface Need {
  readonly wraps: boolean
  readonly wrapped: readonly string[]
  /** Also with versions that open nothing for use: only to see that a wrapped key is genuine. */
  readonly inAnyState: boolean
}

/** Primary keys of the embedded keystore: opened when they are needed, each once. */
export function embeddedPrimaries(
  keystore: Keystore,
  provider: StoredProvider,
  inAnyState: boolean,
): Primaries {
  const open = new Map<number, OpenPrimary>()
  const openVersion = (stored: StoredVersion): OpenPrimary => {
    const known = open.get(stored.version)
    if (known) return known
    const { providerId } = provider
    const { version, createdAtMs } = stored
    const secret = keystore.open({ providerId, version, createdAtMs }, stored.sealed)
    // A record of another place is no key: a provider whose row was changed must not wrap with it.
    if (secret.length !== PRIMARY_KEY_OCTETS) {
      secret.dispose()
      throw new PlatformError('ROOT_KEY_OPEN', `version ${version} is not in the embedded keystore`)
    }
    const primary = { providerId, version, secret }
    open.set(version, primary)
    return primary
  }
  return {
    provider,
    active: () => openVersion(activeVersion(provider)),
    of: (envelope) => openVersion(versionFor(provider, envelope.header.version, inAnyState)),
    [Symbol.dispose]() {
      for (const { secret } of open.values()) secret.dispose()
    },
  }
}

/** Keys that a key server or the TPM gave for one request, before its transaction. To be disposed of. */
export interface PreparedKeys extends Disposable {
  /** Whether they are what the provider, as it is now, needs. */
  fit(provider: StoredProvider): boolean
  primariesOf(provider: StoredProvider): Primaries
}

/** A provider whose primary key is in key servers or behind the TPM. */
export type DistantProvider = StoredProvider & { readonly backend: DistantBackend }

/**
 * Gets from the key server, or from the TPM, what a request needs.
 *
 * A key that the server does not have, or does not give, fails the items that need it; a server that cannot be asked fails
 * the request, to be made again later, and so does a TPM that does not unseal.
 *
 * @throws PlatformError of the key server or the TPM: `KMS_UNREACHABLE`, `TPM_UNREACHABLE`, `KEY_TPM_PCRS` and the like
 */
export async function prepareKeys(
  places: { readonly keyServers: KeyServerKeys; readonly tpmKeys: TpmKeys },
  provider: DistantProvider,
  need: Need,
): Promise<PreparedKeys> {
  const { providerId, backend } = provider
  const keys =
    backend.kind === 'tpm'
      ? keysOfTpm(places.tpmKeys, providerId)
      : keysOfServers(places.keyServers, { ...provider, backend })
  const opened = new Map<string, Result>()
  const activeNumber = provider.versions.findLast(({ state }) => state === 'active')?.version
  let active: Result | undefined
  const dispose = (): void => {
    for (const result of [active, ...opened.values()]) {
      if (result?.ok) result.primary.secret.dispose()
    }
  }

  const openFor = async (envelope: Envelope): Promise<OpenPrimary> => {
    const stored = versionFor(provider, envelope.header.version, need.inAnyState)
    return keys.toUnwrap(stored, envelope)
  }
  const openActive = async (): Promise<OpenPrimary> => keys.toWrap(activeVersion(provider))

  const envelopes = new Map<string, Envelope>()
  for (const envelope of readableEnvelopes(need.wrapped)) {
    if (envelope.header.provider === providerId) envelopes.set(nameOf(envelope), envelope)
  }
  const work = [...envelopes].map(async ([name, envelope]) => {
    opened.set(name, await resultOf(openFor(envelope)))
  })
  if (need.wraps) {
    work.push(
      resultOf(openActive()).then((result) => {
        active = result
      }),
    )
  }
  const failures = (await Promise.allSettled(work)).filter(({ status }) => status === 'rejected')
  const [failure] = failures as PromiseRejectedResult[]
  if (failure) {
    dispose()
    throw failure.reason
  }
  return {
    fit: (now) =>
      !need.wraps ||
      now.versions.findLast(({ state }) => state === 'active')?.version === activeNumber,
    primariesOf: (now) => ({
      provider: now,
      active() {
        activeVersion(now)
        return primaryOf(active)
      },
      of(envelope) {
        versionFor(now, envelope.header.version, need.inAnyState)
        return primaryOf(opened.get(nameOf(envelope)))
      },
      // They are the prepared keys' to dispose of: a transaction may be tried again.
      [Symbol.dispose]: () => undefined,
    }),
    [Symbol.dispose]: dispose,
  }
}

/** How the versions of one provider are opened. */
interface DistantKeys {
  toWrap(stored: StoredVersion): Promise<OpenPrimary>
  toUnwrap(stored: StoredVersion, envelope: Envelope): Promise<OpenPrimary>
}

function keysOfTpm(tpmKeys: TpmKeys, providerId: string): DistantKeys {
  const open = async ({ version, createdAtMs, sealed }: StoredVersion): Promise<OpenPrimary> => {
    const secret = await tpmKeys.open({ providerId, version, createdAtMs }, sealed)
    return { providerId, version, secret }
  }
  return { toWrap: open, toUnwrap: open }
}

function keysOfServers(
  keys: KeyServerKeys,
  provider: StoredProvider & { readonly backend: KeyServerBackend },
): DistantKeys {
  const { providerId, backend } = provider
  if (backend.place === 'fetched') {
    const fetch = async (stored: StoredVersion): Promise<OpenPrimary> => {
      const { version } = stored
      return { providerId, version, secret: await keys.fetch(provider, stored) }
    }
    return { toWrap: fetch, toUnwrap: fetch }
  }
  return {
    async toWrap(stored) {
      const { version } = stored
      return { providerId, version, ...(await keys.newWrappingKey(provider, stored)) }
    },
    async toUnwrap(stored, { kek }) {
      const { version } = stored
      if (!kek) throw otherBackend()
      const secret = await keys.openWrappingKey(provider, stored, kek).catch((error: unknown) => {
        // What the server encrypted was changed: as any other wrapped key that was.
        throw isPlatformError(error, 'KMS_CRYPTO') ? notGenuine(error) : error
      })
      return { providerId, version, secret, kek }
    },
  }
}

type Result =
  | { readonly ok: true; readonly primary: OpenPrimary }
  | { readonly ok: false; readonly error: PlatformError }

/** Codes that say something of one key and not of the server. */
const OF_ONE_KEY: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'KMS_KEY_NOT_FOUND',
  'KMS_KEY_DESTROYED',
  'KMS_KEY_STATE',
  'KMS_KEY_NOT_EXTRACTABLE',
  'KMS_PERMISSION_DENIED',
  'KEY_ENVELOPE_AUTHENTICATION',
  'KEY_STATE',
  'KEY_VERSION_UNKNOWN',
])

async function resultOf(opening: Promise<OpenPrimary>): Promise<Result> {
  try {
    return { ok: true, primary: await opening }
  } catch (error) {
    if (!isPlatformError(error) || !OF_ONE_KEY.has(error.code)) throw error
    return { ok: false, error }
  }
}

function primaryOf(result: Result | undefined): OpenPrimary {
  if (!result) throw new TypeError('a key that was not prepared')
  if (!result.ok) throw result.error
  return result.primary
}

function nameOf({ header }: Envelope): string {
  return `${header.version}.${header.kek ?? ''}`
}

/** What cannot be read is told with the item that it belongs to. */
function readableEnvelopes(wrapped: readonly string[]): readonly Envelope[] {
  return wrapped.flatMap((text) => {
    try {
      return [parseEnvelope(text)]
    } catch (error) {
      if (isPlatformError(error, 'KEY_ENVELOPE_MALFORMED')) return []
      throw error
    }
  })
}

function activeVersion({ versions }: StoredProvider): StoredVersion {
  const stored = versions.findLast(({ state }) => state === 'active')
  if (stored) return stored
  throw new PlatformError('KEY_STATE', 'expected an active version of the primary key, found none')
}

/** What was never used wrapped nothing, and what is compromised is opened where the provider says so. */
function versionFor(
  { versions, settings }: StoredProvider,
  version: number,
  inAnyState: boolean,
): StoredVersion {
  const stored = versions.find((candidate) => candidate.version === version)
  if (!stored) {
    throw new PlatformError(
      'KEY_VERSION_UNKNOWN',
      `expected a version of the primary key up to ${versions.length}, found ${version}`,
    )
  }
  const { state, destroyAtMs } = stored
  const isUsable =
    (inAnyState && state !== 'destroyed') ||
    (destroyAtMs === undefined &&
      (state === 'active' ||
        state === 'deactivated' ||
        (state === 'compromised' && settings.unwrapCompromised === true)))
  if (isUsable) return stored
  const found = destroyAtMs === undefined || state === 'destroyed' ? state : 'to be destroyed'
  throw new PlatformError('KEY_STATE', `expected a version that unwraps, found ${version} ${found}`)
}

function otherBackend(): PlatformError {
  return new PlatformError(
    'KEY_ENVELOPE_AUTHENTICATION',
    'expected a wrapped key of this provider, found one without a key of its key server',
  )
}

function notGenuine(cause: PlatformError): PlatformError {
  return new PlatformError(
    'KEY_ENVELOPE_AUTHENTICATION',
    'expected a wrapped key of this provider for this purpose and context, found another',
    { cause },
  )
}
