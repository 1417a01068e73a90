import {
  createCipheriv,
  createDecipheriv,
  hkdfSync,
  randomBytes,
  type ScryptOptions,
  scrypt,
} from 'node:crypto'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { concat, fromBase64url, lengthPrefixed, toBase64url, utf8 } from '../core/bytes.js'
import { canonicalJson } from '../core/canonical-json.js'
import { PlatformError } from '../core/errors.js'
import { Secret } from '../core/secret.js'
import type { Store } from './store.js'
import type { FoundationTables } from './tables.js'

const KEY_OCTETS = 32
const SALT_OCTETS = 16
const IV_OCTETS = 12
const TAG_OCTETS = 16
const VERSION = 1
const DOMAIN = 'sigillo root key v1'

/** RFC 7914. N = 2^17 takes 128 MiB and about a third of a second. */
const SCRYPT = { N: 2 ** 17, r: 8, p: 1 } as const

const Parameters = Type.Object(
  {
    kind: Type.Literal('passphrase'),
    N: Type.Literal(SCRYPT.N),
    r: Type.Literal(SCRYPT.r),
    p: Type.Literal(SCRYPT.p),
    salt: Type.String({ pattern: '^[A-Za-z0-9_-]{22}$' }),
  },
  { additionalProperties: false },
)
type Parameters = Static<typeof Parameters>

/** The key that the secrets of one service are sealed under. In memory from unsealing to `dispose`. */
export interface RootKey extends Disposable {
  /**
   * Seals octets: each time under a key of their own (HKDF-SHA-256 with a random salt), AES-256-GCM.
   *
   * @param purpose keeps uses apart: `primary-key`
   * @param context must be given again to open; authenticated, not stored
   */
  seal(purpose: string, context: Uint8Array, plaintext: Uint8Array): Uint8Array
  /** @throws PlatformError `ROOT_KEY_OPEN`, the same for all that can be wrong */
  open(purpose: string, context: Uint8Array, sealed: Uint8Array): Secret
}

/**
 * Makes the root key of a service and stores it sealed by a passphrase.
 *
 * @throws PlatformError `CONFLICT` where the service has one
 */
export async function createRootKey(
  store: Store,
  name: string,
  passphrase: Secret,
  nowMs: number,
): Promise<RootKey> {
  const parameters: Parameters = {
    kind: 'passphrase',
    ...SCRYPT,
    salt: toBase64url(randomBytes(SALT_OCTETS)),
  }
  const root = randomBytes(KEY_OCTETS)
  using sealing = await keyOfPassphrase(passphrase, parameters)
  const sealed = sealing.use((key) =>
    encrypt(key, randomBytes(IV_OCTETS), rootContext(name, parameters), root),
  )
  const inserted = await store
    .tables<FoundationTables>()
    .insertInto('root_keys')
    .values({ name, parameters: canonicalJson(parameters), sealed, created_at_ms: nowMs })
    .onConflict((conflict) => conflict.column('name').doNothing())
    .executeTakeFirst()
  if ((inserted.numInsertedOrUpdatedRows ?? 0n) === 0n) {
    throw new PlatformError('CONFLICT', `expected no root key ${name}, found one`)
  }
  return rootKeyOf(new Secret(root))
}

/** Whether the service has a root key yet. */
export async function hasRootKey(store: Store, name: string): Promise<boolean> {
  const row = await store
    .tables<FoundationTables>()
    .selectFrom('root_keys')
    .select('name')
    .where('name', '=', name)
    .executeTakeFirst()
  return row !== undefined
}

/**
 * Opens the root key of a service.
 *
 * @throws PlatformError `ROOT_KEY_UNSEAL` for a wrong passphrase or a changed record, `NOT_FOUND` where there is none
 */
export async function unsealRootKey(
  store: Store,
  name: string,
  passphrase: Secret,
): Promise<RootKey> {
  const row = await store
    .tables<FoundationTables>()
    .selectFrom('root_keys')
    .selectAll()
    .where('name', '=', name)
    .executeTakeFirst()
  if (!row) throw new PlatformError('NOT_FOUND', `no root key ${name}`)
  try {
    const parameters = Value.Parse(Parameters, JSON.parse(row.parameters))
    using sealing = await keyOfPassphrase(passphrase, parameters)
    return rootKeyOf(
      sealing.use((key) => decrypt(key, rootContext(name, parameters), new Uint8Array(row.sealed))),
    )
  } catch (cause) {
    const message = `the passphrase does not open root key ${name}`
    throw new PlatformError('ROOT_KEY_UNSEAL', message, { cause })
  }
}

function rootKeyOf(root: Secret): RootKey {
  return {
    seal(purpose, context, plaintext) {
      const salt = randomBytes(SALT_OCTETS)
      using key = recordKey(root, salt, purpose)
      const aad = recordContext(purpose, context)
      return key.use((octets) =>
        concat(
          Uint8Array.of(VERSION),
          salt,
          encrypt(octets, randomBytes(IV_OCTETS), aad, plaintext),
        ),
      )
    },
    open(purpose, context, sealed) {
      const rest = 1 + SALT_OCTETS
      try {
        if (sealed[0] !== VERSION) throw new TypeError('unknown version')
        using key = recordKey(root, sealed.subarray(1, rest), purpose)
        const aad = recordContext(purpose, context)
        return key.use((octets) => decrypt(octets, aad, sealed.subarray(rest)))
      } catch (cause) {
        const message = `sealed octets for ${purpose} do not open`
        throw new PlatformError('ROOT_KEY_OPEN', message, { cause })
      }
    },
    [Symbol.dispose]: () => root.dispose(),
  }
}

function recordKey(root: Secret, salt: Uint8Array, purpose: string): Secret {
  const info = lengthPrefixed(utf8(DOMAIN), utf8(purpose))
  return new Secret(
    root.use((octets) => new Uint8Array(hkdfSync('sha256', octets, salt, info, KEY_OCTETS))),
  )
}

function rootContext(name: string, parameters: Parameters): Uint8Array {
  return lengthPrefixed(utf8(DOMAIN), utf8(name), utf8(canonicalJson(parameters)))
}

function recordContext(purpose: string, context: Uint8Array): Uint8Array {
  return lengthPrefixed(utf8(DOMAIN), Uint8Array.of(VERSION), utf8(purpose), context)
}

/** IV, ciphertext, tag. */
function encrypt(key: Uint8Array, iv: Uint8Array, aad: Uint8Array, plaintext: Uint8Array) {
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(aad)
  return concat(iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag())
}

function decrypt(key: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Secret {
  if (sealed.length < IV_OCTETS + TAG_OCTETS) throw new TypeError('too short')
  const end = sealed.length - TAG_OCTETS
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, IV_OCTETS), {
    authTagLength: TAG_OCTETS,
  })
  decipher.setAAD(aad).setAuthTag(sealed.subarray(end))
  const plaintext = decipher.update(sealed.subarray(IV_OCTETS, end))
  try {
    decipher.final()
  } catch (error) {
    plaintext.fill(0)
    throw error
  }
  return new Secret(plaintext)
}

async function keyOfPassphrase(passphrase: Secret, parameters: Parameters): Promise<Secret> {
  const { N, r, p } = parameters
  const options: ScryptOptions = { N, r, p, maxmem: 2 * 128 * N * r }
  const salt = fromBase64url(parameters.salt)
  return passphrase.use(
    (octets) =>
      new Promise<Secret>((resolve, reject) => {
        scrypt(octets, salt, KEY_OCTETS, options, (error, key) =>
          error ? reject(error) : resolve(new Secret(key)),
        )
      }),
  )
}
