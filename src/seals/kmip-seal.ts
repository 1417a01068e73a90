import { Type } from 'typebox'
import { fromBase64url, toBase64url } from '../core/bytes.js'
import { isPlatformError, PlatformError } from '../core/errors.js'
import { randomOctets } from '../core/random.js'
import { Secret } from '../core/secret.js'
import {
  BLOCK_CIPHER_MODE,
  CRYPTOGRAPHIC_ALGORITHM,
  type KmipClient,
  PADDING_METHOD,
} from '../kmip/index.js'
import type { Sealer } from '../store/index.js'
import { readParameters } from './parameters.js'

const KEY_OCTETS = 32
const IV_OCTETS = 16

/**
 * CBC with padding is what key servers of every version that has Encrypt do. Whoever changes the ciphertext changes the
 * sealing key, and the root key does not open under it.
 */
const CIPHER = {
  blockCipherMode: BLOCK_CIPHER_MODE.CBC,
  paddingMethod: PADDING_METHOD.PKCS5,
  cryptographicAlgorithm: CRYPTOGRAPHIC_ALGORITHM.AES,
} as const

const Parameters = Type.Object(
  {
    keyId: Type.String({ minLength: 1, maxLength: 256 }),
    iv: Type.String({ pattern: '^[A-Za-z0-9_-]{22}$' }),
    wrapped: Type.String({ pattern: '^[A-Za-z0-9_-]{64}$' }),
  },
  { additionalProperties: false },
)

/**
 * Sealing keys encrypted by a key that stays in a key server (KMIP 1.2 or later, Encrypt and Decrypt).
 *
 * `keyOf` throws `SEAL_KMIP` where the server decrypts to something else, and what the client throws: `KMS_UNREACHABLE`,
 * `KMS_KEY_NOT_FOUND`, …
 *
 * @param options.connect a client for one use
 * @param options.keyId AES key for new seals; without it the server is asked to make one for each
 */
export function kmipSealer(options: {
  readonly connect: () => KmipClient
  readonly keyId: string | undefined
}): Sealer {
  return {
    kind: 'kmip',
    guesses: false,
    async newKey() {
      await using client = options.connect()
      const keyId = options.keyId ?? (await newServerKey(client))
      const key = new Secret(randomOctets(KEY_OCTETS))
      try {
        const iv = randomOctets(IV_OCTETS)
        const data = key.use((octets) => octets.slice())
        try {
          const { data: wrapped } = await client.encrypt({
            id: keyId,
            parameters: CIPHER,
            data,
            iv,
          })
          const parameters = { keyId, iv: toBase64url(iv), wrapped: toBase64url(wrapped) }
          // a server that encrypts and does not decrypt is found now, not at the next start
          using back = await decrypted(client, readParameters('kmip', Parameters, parameters))
          if (back.length !== KEY_OCTETS) throw otherKey()
          return { parameters, key }
        } finally {
          data.fill(0)
        }
      } catch (error) {
        key.dispose()
        throw error
      }
    },
    async keyOf(stored) {
      const parameters = readParameters('kmip', Parameters, stored)
      await using client = options.connect()
      return await decrypted(client, parameters)
    },
  }
}

async function decrypted(
  client: KmipClient,
  parameters: { readonly keyId: string; readonly iv: string; readonly wrapped: string },
): Promise<Secret> {
  const { keyId: id, iv, wrapped } = parameters
  try {
    const data = await client.decrypt({
      ...{ id, parameters: CIPHER },
      ...{ data: fromBase64url(wrapped), iv: fromBase64url(iv) },
    })
    if (data.length === KEY_OCTETS) return new Secret(data)
    data.fill(0)
  } catch (cause) {
    if (!isPlatformError(cause, 'KMS_CRYPTO')) throw cause
    throw otherKey(cause)
  }
  throw otherKey()
}

function otherKey(cause?: unknown): PlatformError {
  const message =
    'the key server decrypts the sealing key to something else: altered, or another key'
  return new PlatformError('SEAL_KMIP', message, { cause })
}

async function newServerKey(client: KmipClient): Promise<string> {
  const id = await client.create({ name: `sigillo-root-key-${toBase64url(randomOctets(12))}` })
  await client.activate(id)
  return id
}
