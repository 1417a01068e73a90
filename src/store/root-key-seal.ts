import { lengthPrefixed, utf8 } from '../core/bytes.js'
import { type CanonicalValue, canonicalJson } from '../core/canonical-json.js'
import { PlatformError } from '../core/errors.js'
import type { Secret } from '../core/secret.js'
import { decrypt } from './aes-gcm.js'
import type { RootKey } from './root-key.js'
import type { FoundationTables } from './tables.js'

export const SEAL_KINDS = ['passphrase', 'shares', 'tpm', 'kmip'] as const
export type SealKind = (typeof SEAL_KINDS)[number]

/** What a sealing key is found again by: no secret, and authenticated with the root key. */
export type SealParameters = { readonly [name: string]: CanonicalValue }

/**
 * A way to keep a sealing key: 32 octets under which a root key lies in the database.
 *
 * The kind knows nothing of root keys; `root-keys.ts` wraps them, and binds name, generation, kind and parameters.
 */
export interface Sealer {
  readonly kind: SealKind
  /** Makes a new sealing key. The caller disposes of it. */
  newKey(): Promise<{ readonly parameters: SealParameters; readonly key: Secret }>
  /**
   * The sealing key that these parameters lead to. The caller disposes of it.
   *
   * @param parameters as `newKey` made them, if nobody changed them
   * @throws PlatformError `SEAL_RECORD` for parameters that the kind does not write; its own codes for the rest
   */
  keyOf(parameters: unknown): Promise<Secret>
  /** Whether `keyOf` gives some key whatever it was given, so that only the root key tells a wrong one. */
  readonly guesses: boolean
}

/** One seal of a root key, as it is stored. */
export interface StoredSeal {
  readonly sealId: string
  readonly kind: string
  readonly parameters: string
  readonly sealed: Uint8Array
  readonly createdAtMs: number
}

const DOMAIN = 'sigillo root key v1'
/** IV, root key, tag. */
const SEALED_OCTETS = 12 + 32 + 16

/** Which root key a seal is of. Seals made before there were several kinds do not say it, and are of the first generation. */
interface Owner {
  readonly name: string
  readonly generation: number
}

/** Makes a new seal of a root key: new sealing key, root key wrapped under it. */
export async function makeSeal(
  name: string,
  rootKey: RootKey,
  sealer: Sealer,
): Promise<Pick<FoundationTables['root_key_seals'], 'kind' | 'parameters' | 'sealed'>> {
  const { parameters: own, key } = await sealer.newKey()
  try {
    const { kind } = sealer
    const parameters = { ...own, kind, rootKey: name, generation: rootKey.generation }
    const sealed = rootKey.wrapUnder(key, contextOf(name, parameters))
    return { kind, parameters: canonicalJson(parameters), sealed }
  } finally {
    key.dispose()
  }
}

/**
 * The root key under a seal.
 *
 * @throws PlatformError `SEAL_RECORD` for a seal that was altered, `SEAL_FOREIGN` for one of another root key,
 *   `ROOT_KEY_UNSEAL` where what was given is wrong (or the seal altered: nobody can tell), and what the sealer throws
 */
export async function openSeal(owner: Owner, seal: StoredSeal, sealer: Sealer): Promise<Secret> {
  const parameters = parametersOf(seal)
  const { kind, rootKey, generation = 1, ...own } = parameters
  if (kind !== seal.kind || kind !== sealer.kind) {
    throw altered(seal, `expected kind ${sealer.kind}, found another`)
  }
  if ((rootKey !== undefined && rootKey !== owner.name) || generation !== owner.generation) {
    const found = `${String(rootKey ?? owner.name)}, generation ${String(generation)}`
    throw new PlatformError(
      'SEAL_FOREIGN',
      `expected a seal of root key ${owner.name}, generation ${owner.generation}, found one of ${found}`,
    )
  }
  if (seal.sealed.length !== SEALED_OCTETS) {
    throw altered(seal, `expected ${SEALED_OCTETS} octets, found ${seal.sealed.length}`)
  }
  const key = await sealer.keyOf(own)
  try {
    return key.use((octets) => decrypt(octets, contextOf(owner.name, parameters), seal.sealed))
  } catch (cause) {
    if (!sealer.guesses) throw altered(seal, 'it does not open under its own key', cause)
    const message = `the ${sealer.kind} does not open root key ${owner.name}`
    throw new PlatformError('ROOT_KEY_UNSEAL', message, { cause })
  } finally {
    key.dispose()
  }
}

/** The parameters of a kind, for those who only look. */
export function parametersOf(seal: StoredSeal): SealParameters {
  try {
    const parsed = JSON.parse(seal.parameters) as unknown
    if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) {
      return parsed as SealParameters
    }
    throw new TypeError('not an object')
  } catch (cause) {
    throw altered(seal, 'its parameters cannot be read', cause)
  }
}

function altered(seal: StoredSeal, what: string, cause?: unknown): PlatformError {
  return new PlatformError('SEAL_RECORD', `seal ${seal.sealId}: ${what}`, { cause })
}

function contextOf(name: string, parameters: SealParameters): Uint8Array {
  return lengthPrefixed(utf8(DOMAIN), utf8(name), utf8(canonicalJson(parameters)))
}
