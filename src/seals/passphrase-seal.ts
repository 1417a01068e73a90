import { randomBytes, type ScryptOptions, scrypt } from 'node:crypto'
import { Type } from 'typebox'
import { fromBase64url, toBase64url } from '../core/bytes.js'
import { PlatformError } from '../core/errors.js'
import { Secret } from '../core/secret.js'
import type { Sealer } from '../store/index.js'
import { readParameters } from './parameters.js'

const KEY_OCTETS = 32
const SALT_OCTETS = 16
const LEAST_PASSPHRASE_CHARACTERS = 16

/** RFC 7914. N = 2^17 takes 128 MiB and about a third of a second. */
const SCRYPT = { N: 2 ** 17, r: 8, p: 1 } as const

const Parameters = Type.Object(
  {
    N: Type.Literal(SCRYPT.N),
    r: Type.Literal(SCRYPT.r),
    p: Type.Literal(SCRYPT.p),
    salt: Type.String({ pattern: '^[A-Za-z0-9_-]{22}$' }),
  },
  { additionalProperties: false },
)

/**
 * Sealing keys made of a passphrase by scrypt.
 *
 * How hard the passphrase is to guess is not checked beyond its length. `newKey` throws `ROOT_KEY_PASSPHRASE` for fewer
 * than 16 characters; zero octets do not count, since scrypt takes those at the end for padding.
 *
 * @param passphrase stays the caller's to dispose of
 */
export function passphraseSealer(passphrase: Secret): Sealer {
  return {
    kind: 'passphrase',
    guesses: true,
    async newKey() {
      requireLength(passphrase)
      const parameters = { ...SCRYPT, salt: toBase64url(randomBytes(SALT_OCTETS)) }
      return { parameters, key: await keyOfPassphrase(passphrase, parameters.salt) }
    },
    async keyOf(stored) {
      const { salt } = readParameters('passphrase', Parameters, stored)
      return keyOfPassphrase(passphrase, salt)
    },
  }
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

async function keyOfPassphrase(passphrase: Secret, saltText: string): Promise<Secret> {
  const { N, r, p } = SCRYPT
  const options: ScryptOptions = { N, r, p, maxmem: 2 * 128 * N * r }
  const salt = fromBase64url(saltText)
  return passphrase.use(
    (octets) =>
      new Promise<Secret>((resolve, reject) => {
        scrypt(octets, salt, KEY_OCTETS, options, (error, key) =>
          error ? reject(error) : resolve(new Secret(key)),
        )
      }),
  )
}
