import { createCipheriv, createDecipheriv, createHmac, hkdfSync } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { Exactly, Uuid } from '../api/common.js'
import { Purpose } from '../api/key-provider.js'
import {
  concat,
  fromBase64url,
  lengthPrefixed,
  parseUtf8,
  timingSafeEqual,
  toBase64url,
  utf8,
} from '../core/bytes.js'
import { canonicalJson } from '../core/canonical-json.js'
import { digestOf } from '../core/digest.js'
import { isPlatformError, PlatformError } from '../core/errors.js'

/**
 * The wrapped form of a data encryption key, version 1: `sgl1.<header>.<body>`, both base64url.
 *
 * The header is canonical JSON and says who can open it. The body is commitment (16 octets), ciphertext (32) and tag (16).
 * Each wrap has keys of its own: HKDF-SHA-256 of the primary key with a random salt, so that no nonce can meet another.
 * Header and context are authenticated: with another context nothing opens.
 *
 * @see docs/wrapped-key-format.md; NIST SP 800-38D; RFC 5869
 */
const PREFIX = 'sgl1'
const DOMAIN = 'sigillo wrapped key v1'
const WRAP_ALGORITHM = 'HKDF-SHA256+A256GCM'

export const DEK_OCTETS = 32
/** HMAC-SHA-256, cut. */
const MAC_OCTETS = 16

/**
 * Where the primary key stays in a key server: the server encrypts a random key with it (KMIP, in GCM or in counter
 * mode), which stands in the primary key's place here, and in the header as `kek` as the server encrypted it.
 */
const KEPT_ALGORITHMS = {
  [`KMIP-A256GCM+${WRAP_ALGORITHM}`]: { octets: 12 + DEK_OCTETS + 16 + MAC_OCTETS },
  [`KMIP-A256CTR+${WRAP_ALGORITHM}`]: { octets: 16 + DEK_OCTETS + MAC_OCTETS },
} as const
export type KeptAlgorithm = keyof typeof KEPT_ALGORITHMS

const SALT_OCTETS = 16
const IV_OCTETS = 12
const TAG_OCTETS = 16
const COMMITMENT_OCTETS = 16
const BODY_OCTETS = COMMITMENT_OCTETS + DEK_OCTETS + TAG_OCTETS
const MAX_CHARACTERS = 2048

const Header = Exactly({
  alg: Type.Union([
    Type.Literal(WRAP_ALGORITHM),
    Type.Literal(`KMIP-A256GCM+${WRAP_ALGORITHM}`),
    Type.Literal(`KMIP-A256CTR+${WRAP_ALGORITHM}`),
  ]),
  ctx: Type.String({ pattern: '^[A-Za-z0-9_-]{43}$' }),
  dek: Type.String({ pattern: '^[A-Za-z0-9_-]{22}$' }),
  iv: Type.String({ pattern: '^[A-Za-z0-9_-]{16}$' }),
  kek: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9_-]{86,102}$' })),
  provider: Uuid,
  purpose: Purpose,
  salt: Type.String({ pattern: '^[A-Za-z0-9_-]{22}$' }),
  v: Type.Literal(1),
  version: Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1 }),
})
export type EnvelopeHeader = Static<typeof Header>

/** The identifier in the header of a key that is wrapped with these random octets. */
export function dekIdOf(random: Uint8Array): string {
  return toBase64url(random.subarray(SALT_OCTETS + IV_OCTETS))
}

/** What a key server authenticates with a key that it encrypts in the primary key's place. */
export function keptKeyContext(providerId: string, version: number): Uint8Array {
  return lengthPrefixed(utf8(DOMAIN), utf8('kek'), utf8(providerId), utf8(String(version)))
}

/** A wrapped key that was read: who can open it is known, whether it is genuine is not. */
export interface Envelope {
  readonly header: EnvelopeHeader
  /** As it stands in the text. */
  readonly headerOctets: Uint8Array
  readonly salt: Uint8Array
  readonly iv: Uint8Array
  /** The key in the primary key's place, as the key server encrypted it; absent where there is none. */
  readonly kek?: KeptKey
  readonly body: Uint8Array
}

export interface KeptKey {
  readonly algorithm: KeptAlgorithm
  /** IV, ciphertext, tag in GCM, and a MAC of the provider's: nothing that it did not make reaches the key server. */
  readonly sealed: Uint8Array
}

export interface PrimaryKey {
  readonly providerId: string
  readonly version: number
  /** The primary key; with `kek`, the random key that a key server encrypted. */
  readonly octets: Uint8Array
  readonly kek?: KeptKey
}

/**
 * Wraps a key.
 *
 * @param input.dek 32 octets; stays the caller's, to be filled with zeros
 * @param input.random 44 octets of the system's generator: salt, nonce, and the identifier of the key
 */
export function wrapKey(input: {
  readonly primary: PrimaryKey
  readonly purpose: Purpose
  readonly context: Readonly<Record<string, string>>
  readonly dek: Uint8Array
  readonly random: Uint8Array
}): string {
  const { primary, purpose, context, dek, random } = input
  if (dek.length !== DEK_OCTETS) throw new TypeError(`a key of ${DEK_OCTETS} octets`)
  if (random.length !== WRAP_RANDOM_OCTETS) throw new TypeError(`${WRAP_RANDOM_OCTETS} octets`)
  const salt = random.subarray(0, SALT_OCTETS)
  const iv = random.subarray(SALT_OCTETS, SALT_OCTETS + IV_OCTETS)
  const id = random.subarray(SALT_OCTETS + IV_OCTETS)
  const contextOctets = utf8(canonicalJson(context))
  const header: EnvelopeHeader = {
    alg: primary.kek?.algorithm ?? WRAP_ALGORITHM,
    ctx: toBase64url(digestOf('sha256', contextOctets)),
    dek: toBase64url(id),
    iv: toBase64url(iv),
    ...(primary.kek ? { kek: toBase64url(primary.kek.sealed) } : {}),
    provider: primary.providerId,
    purpose,
    salt: toBase64url(salt),
    v: 1,
    version: primary.version,
  }
  // Canonical as it stands: the members are in the order of their names.
  const headerOctets = utf8(JSON.stringify(header))
  const keys = deriveKeys(primary, salt, purpose)
  try {
    const cipher = createCipheriv('aes-256-gcm', keys.subarray(0, 32), iv)
    cipher.setAAD(associatedData(headerOctets, contextOctets))
    const ciphertext = concat(cipher.update(dek), cipher.final())
    const body = concat(commitment(keys, headerOctets), ciphertext, cipher.getAuthTag())
    return `${PREFIX}.${toBase64url(headerOctets)}.${toBase64url(body)}`
  } finally {
    keys.fill(0)
  }
}

const DEK_ID_OCTETS = 16
/** What the identifiers of keys that are wrapped together have in common. */
const COMMON_ID_OCTETS = 8
export const WRAP_RANDOM_OCTETS = SALT_OCTETS + IV_OCTETS + DEK_ID_OCTETS

/**
 * Random octets for keys that are wrapped together, for each what `wrapKey` wants: one call of the generator for all.
 *
 * Their identifiers begin with the same 8 random octets, so that a table in their order has them side by side.
 *
 * @param random the system's generator
 */
export function wrapRandoms(
  keys: number,
  random: (octets: number) => Uint8Array,
): readonly Uint8Array[] {
  const octets = random(keys * WRAP_RANDOM_OCTETS)
  const begin = SALT_OCTETS + IV_OCTETS
  const common = octets.subarray(begin, begin + COMMON_ID_OCTETS)
  return Array.from({ length: keys }, (_, index) => {
    const one = octets.subarray(index * WRAP_RANDOM_OCTETS, (index + 1) * WRAP_RANDOM_OCTETS)
    one.set(common, begin)
    return one
  })
}

/**
 * Reads the text of a wrapped key.
 *
 * @throws PlatformError `KEY_ENVELOPE_MALFORMED`, also for a header that is not the canonical text of its own members
 */
export function parseEnvelope(text: string): Envelope {
  if (text.length > MAX_CHARACTERS) throw malformed(`at most ${MAX_CHARACTERS} characters`)
  const [prefix, headerText, bodyText, ...rest] = text.split('.')
  if (prefix !== PREFIX || headerText === undefined || bodyText === undefined || rest.length > 0) {
    throw malformed(`${PREFIX}.<header>.<body>`)
  }
  try {
    const headerOctets = fromBase64url(headerText)
    const body = fromBase64url(bodyText)
    const headerJson = parseUtf8(headerOctets)
    const header: unknown = JSON.parse(headerJson)
    if (!Value.Check(Header, header) || canonicalJson(header) !== headerJson) {
      throw malformed('a canonical header of version 1')
    }
    if (body.length !== BODY_OCTETS) throw malformed(`a body of ${BODY_OCTETS} octets`)
    for (const text of [header.ctx, header.dek]) fromBase64url(text)
    const [salt, iv] = [fromBase64url(header.salt), fromBase64url(header.iv)]
    const kek = keptKeyOf(header)
    return { header, headerOctets, salt, iv, ...(kek ? { kek } : {}), body }
  } catch (cause) {
    if (isPlatformError(cause, 'KEY_ENVELOPE_MALFORMED')) throw cause
    throw malformed('base64url and JSON', cause)
  }
}

/**
 * Opens a wrapped key.
 *
 * @returns 32 octets, the caller's to fill with zeros
 * @param input.primary the key that the header names; `kek` is taken from the envelope
 * @throws PlatformError `KEY_ENVELOPE_AUTHENTICATION`: one code for another context, purpose, primary key or octet
 */
export function unwrapKey(input: {
  readonly primary: PrimaryKey
  readonly envelope: Envelope
  readonly purpose: Purpose
  readonly context: Readonly<Record<string, string>>
}): Uint8Array {
  const { envelope, purpose, context } = input
  const { headerOctets, salt, iv, body, kek } = envelope
  const { providerId, version, octets } = input.primary
  const primary: PrimaryKey = { providerId, version, octets, ...(kek ? { kek } : {}) }
  const contextOctets = utf8(canonicalJson(context))
  const keys = deriveKeys(primary, salt, purpose)
  try {
    const committed = timingSafeEqual(
      commitment(keys, headerOctets),
      body.subarray(0, COMMITMENT_OCTETS),
    )
    const decipher = createDecipheriv('aes-256-gcm', keys.subarray(0, 32), iv, {
      authTagLength: TAG_OCTETS,
    })
    decipher.setAAD(associatedData(headerOctets, contextOctets))
    decipher.setAuthTag(body.subarray(BODY_OCTETS - TAG_OCTETS))
    const dek = new Uint8Array(
      decipher.update(body.subarray(COMMITMENT_OCTETS, BODY_OCTETS - TAG_OCTETS)),
    )
    if (!authenticates(decipher) || !committed) {
      dek.fill(0)
      throw new PlatformError(
        'KEY_ENVELOPE_AUTHENTICATION',
        'expected a wrapped key of this provider for this purpose and context, found another',
      )
    }
    return dek
  } finally {
    keys.fill(0)
  }
}

function authenticates(decipher: { final(): Uint8Array }): boolean {
  try {
    decipher.final()
    return true
  } catch {
    return false
  }
}

/** An algorithm of a key server has a key that it encrypted, and no other has one. */
function keptKeyOf({ alg, kek }: EnvelopeHeader): KeptKey | undefined {
  if (alg === WRAP_ALGORITHM) {
    if (kek !== undefined) throw malformed(`no kek beside ${alg}`)
    return undefined
  }
  const sealed = fromBase64url(kek ?? '')
  const { octets } = KEPT_ALGORITHMS[alg]
  if (sealed.length !== octets) throw malformed(`a kek of ${octets} octets beside ${alg}`)
  return { algorithm: alg, sealed }
}

/** 32 octets to encrypt with, 32 to commit with. */
function deriveKeys(primary: PrimaryKey, salt: Uint8Array, purpose: Purpose): Uint8Array {
  const info = lengthPrefixed(
    utf8(DOMAIN),
    utf8(primary.providerId),
    utf8(String(primary.version)),
    utf8(purpose),
    // Keeps what such a key does apart from what a primary key does.
    ...(primary.kek ? [utf8(primary.kek.algorithm)] : []),
  )
  return new Uint8Array(hkdfSync('sha256', primary.octets, salt, info, 64))
}

/** AES-GCM alone opens one ciphertext under several keys; this holds it to one. */
function commitment(keys: Uint8Array, headerOctets: Uint8Array): Uint8Array {
  const mac = createHmac('sha256', keys.subarray(32)).update(headerOctets).digest()
  return new Uint8Array(mac).subarray(0, COMMITMENT_OCTETS)
}

function associatedData(headerOctets: Uint8Array, contextOctets: Uint8Array): Uint8Array {
  return lengthPrefixed(utf8(DOMAIN), headerOctets, contextOctets)
}

function malformed(expected: string, cause?: unknown): PlatformError {
  return new PlatformError('KEY_ENVELOPE_MALFORMED', `expected ${expected} in a wrapped key`, {
    cause,
  })
}
