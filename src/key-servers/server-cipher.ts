import { concat } from '../core/bytes.js'
import { isPlatformError } from '../core/errors.js'
import { randomOctets } from '../core/random.js'
import {
  BLOCK_CIPHER_MODE,
  CRYPTOGRAPHIC_ALGORITHM,
  type KmipClient,
  KmipError,
} from '../kmip/index.js'

/**
 * How a key that stays in its key server encrypts: AES-256 in GCM with additional data where the server can (KMIP 1.4
 * and later), else in counter mode.
 *
 * Counter mode protects nothing from being changed. It is safe here for one use alone: random octets that the caller
 * authenticates, together with what the server made of them. No padding: a server's errors can tell nothing about it.
 */
export type ServerCipher = 'A256GCM' | 'A256CTR'

const GCM = {
  parameters: {
    blockCipherMode: BLOCK_CIPHER_MODE.GCM,
    cryptographicAlgorithm: CRYPTOGRAPHIC_ALGORITHM.AES,
    tagLength: 16,
  },
  ivOctets: 12,
  tagOctets: 16,
}
const CTR = {
  parameters: {
    blockCipherMode: BLOCK_CIPHER_MODE.CTR,
    cryptographicAlgorithm: CRYPTOGRAPHIC_ALGORITHM.AES,
  },
  ivOctets: 16,
  tagOctets: 0,
}

export interface ServerCipherUse {
  readonly keyId: string
  readonly cipher: ServerCipher
  /** Authenticated in GCM; left out in counter mode. */
  readonly additionalData: Uint8Array
}

/**
 * @returns IV, ciphertext and tag, one after the other
 * @throws KmipError
 */
export async function encryptOnServer(
  client: KmipClient,
  use: ServerCipherUse,
  plaintext: Uint8Array,
): Promise<Uint8Array> {
  const { parameters, ivOctets, tagOctets } = use.cipher === 'A256GCM' ? GCM : CTR
  const iv = randomOctets(ivOctets)
  const { data, tag } = await client.encrypt({
    id: use.keyId,
    parameters,
    data: plaintext,
    iv,
    ...additional(use),
  })
  if (data.length !== plaintext.length || (tag?.length ?? 0) !== tagOctets) {
    const found = `${data.length} with a tag of ${tag?.length ?? 0}`
    throw new KmipError(
      'KMS_PROTOCOL',
      `expected ${plaintext.length} octets of ciphertext with a tag of ${tagOctets}, found ${found}`,
    )
  }
  return concat(iv, data, tag ?? new Uint8Array())
}

/**
 * @param sealed as `encryptOnServer` gives it
 * @returns the plaintext, the caller's to fill with zeros
 * @throws KmipError; `KMS_CRYPTO` where the server found the tag wrong, which only GCM has
 */
export async function decryptOnServer(
  client: KmipClient,
  use: ServerCipherUse,
  sealed: Uint8Array,
): Promise<Uint8Array> {
  const { parameters, ivOctets, tagOctets } = use.cipher === 'A256GCM' ? GCM : CTR
  const end = sealed.length - tagOctets
  if (end <= ivOctets) throw new KmipError('KMS_CRYPTO', 'expected IV, ciphertext and tag')
  return client.decrypt({
    id: use.keyId,
    parameters,
    data: sealed.subarray(ivOctets, end),
    iv: sealed.subarray(0, ivOctets),
    ...additional(use),
    ...(tagOctets === 0 ? {} : { tag: sealed.subarray(end) }),
  })
}

/**
 * The best of the ciphers that the server does with this key, found by a try.
 *
 * @throws KmipError of the server, where it does none
 */
export async function findServerCipher(
  client: KmipClient,
  keyId: string,
  additionalData: Uint8Array,
): Promise<ServerCipher> {
  const sample = randomOctets(32)
  try {
    await encryptOnServer(client, { keyId, cipher: 'A256GCM', additionalData }, sample)
    return 'A256GCM'
  } catch (error) {
    // Refusals of the mode, or of a version without additional data. An unreachable server is no reason to do worse.
    if (!isRefusal(error)) throw error
  }
  await encryptOnServer(client, { keyId, cipher: 'A256CTR', additionalData }, sample)
  return 'A256CTR'
}

function isRefusal(error: unknown): boolean {
  return (
    isPlatformError(error, 'KMIP_VERSION') ||
    (error instanceof KmipError && error.reason !== undefined && error.code !== 'KMS_AUTH_FAILED')
  )
}

function additional({ cipher, additionalData }: ServerCipherUse) {
  return cipher === 'A256GCM' ? { additionalData } : {}
}
