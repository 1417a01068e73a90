import { randomBytes, type ScryptOptions, scrypt } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { fromBase64url, lengthPrefixed, toBase64url, utf8 } from '../core/bytes.js'
import { canonicalJson } from '../core/canonical-json.js'
import { PlatformError } from '../core/errors.js'
import { Secret } from '../core/secret.js'
import { decrypt, encrypt } from './aes-gcm.js'
import { type RootKey, rootKeyOf } from './root-key.js'
import type { Store } from './store.js'
import type { FoundationTables } from './tables.js'

const KEY_OCTETS = 32
const SALT_OCTETS = 16
const LEAST_PASSPHRASE_CHARACTERS = 16
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

/**
 * Makes the root key of a service (32 random octets) and stores it sealed by a passphrase (scrypt, AES-256-GCM).
 *
 * How hard the passphrase is to guess is not checked beyond its length.
 *
 * @param passphrase at least 16 characters; zero octets do not count, since scrypt takes those at the end for padding
 * @throws PlatformError `CONFLICT` where the service has one, `ROOT_KEY_PASSPHRASE` for a shorter passphrase
 */
export async function createRootKey(
  store: Store,
  name: string,
  passphrase: Secret,
  nowMs: number,
): Promise<RootKey> {
  requireLength(passphrase)
  const parameters: Parameters = {
    kind: 'passphrase',
    ...SCRYPT,
    salt: toBase64url(randomBytes(SALT_OCTETS)),
  }
  using sealing = await keyOfPassphrase(passphrase, parameters)
  const root = new Secret(randomBytes(KEY_OCTETS))
  try {
    await insertRootKey(store, {
      name,
      parameters: canonicalJson(parameters),
      sealed: sealing.use((key) =>
        root.use((octets) => encrypt(key, rootContext(name, parameters), octets)),
      ),
      created_at_ms: nowMs,
    })
  } catch (error) {
    root.dispose()
    throw error
  }
  return rootKeyOf(root)
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

async function insertRootKey(store: Store, row: FoundationTables['root_keys']): Promise<void> {
  const inserted = await store
    .tables<FoundationTables>()
    .insertInto('root_keys')
    .values(row)
    .onConflict((conflict) => conflict.column('name').doNothing())
    .executeTakeFirst()
  if ((inserted.numInsertedOrUpdatedRows ?? 0n) === 0n) {
    throw new PlatformError('CONFLICT', `expected no root key ${row.name}, found one`)
  }
}

function rootContext(name: string, parameters: Parameters): Uint8Array {
  return lengthPrefixed(utf8(DOMAIN), utf8(name), utf8(canonicalJson(parameters)))
}

/** Counts UTF-8 characters without making a string of the passphrase: every octet but zero and those that continue one. */
function requireLength(passphrase: Secret): void {
  const characters = passphrase.use((octets) =>
    octets.reduce(
      (count, octet) => (octet === 0 || (octet & 0xc0) === 0x80 ? count : count + 1),
      0,
    ),
  )
  if (characters < LEAST_PASSPHRASE_CHARACTERS) {
    throw new PlatformError(
      'ROOT_KEY_PASSPHRASE',
      `expected a passphrase of ${LEAST_PASSPHRASE_CHARACTERS} characters or more, found ${characters}`,
    )
  }
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
