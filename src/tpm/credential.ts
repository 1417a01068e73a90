import { constants, createCipheriv, createECDH, createHmac, publicEncrypt } from 'node:crypto'
import { concat, utf8 } from '../core/bytes.js'
import { PlatformError } from '../core/errors.js'
import { randomOctets } from '../core/random.js'
import { HASH_ALGORITHMS } from './algorithms.js'
import { kdfa, kdfe } from './kdf.js'
import {
  ECC_CURVES,
  type EccCurve,
  leftPadded,
  type PublicArea,
  publicKeyOf,
} from './public-area.js'
import { encodeSized } from './sized.js'

const IDENTITY = 'IDENTITY'
const STORAGE = 'STORAGE'
const INTEGRITY = 'INTEGRITY'
const EMPTY = new Uint8Array()

/** OpenSSL's names of the curves. */
const OPENSSL_CURVES: Readonly<Record<EccCurve, string>> = {
  'P-256': 'prime256v1',
  'P-384': 'secp384r1',
  'P-521': 'secp521r1',
}

export interface Credential {
  /** TPM2B_ID_OBJECT */
  readonly credentialBlob: Uint8Array
  /** TPM2B_ENCRYPTED_SECRET */
  readonly encryptedSecret: Uint8Array
}

/** An initial counter of zeros: each key encrypts one credential. */
const ZERO_IV = new Uint8Array(16)

/**
 * Makes a credential: the secret can be read by the TPM that has both the endorsement key and an object of this name,
 * and by nobody else. What TPM2_MakeCredential does, without a TPM.
 *
 * **Does not check** that `ek` is an endorsement key: `verifyEndorsementKey` and the certificate chain do.
 *
 * @param input.akName computed by the caller from the public area, never taken from elsewhere
 * @param input.secret at most as long as the digest of the endorsement key's nameAlg
 * @throws PlatformError `TPM_KEY_INVALID` or `TPM_KEY_WEAK` where `ek` is no storage key or no sound public key
 * @see TPM 2.0 Library, Part 1, clause 24 (Credential Protection), annexes B.10.4 and C.6.4; Part 3, clause 12.6
 */
export function makeCredential(input: {
  readonly ek: PublicArea
  readonly akName: Uint8Array
  readonly secret: Uint8Array
}): Credential {
  const { ek, akName, secret } = input
  const { nameAlg, symmetric } = ek
  const { digestOctets } = HASH_ALGORITHMS[nameAlg]
  if (!symmetric) {
    throw new PlatformError('TPM_KEY_INVALID', 'expected a storage key, found no symmetric cipher')
  }
  if (secret.length > digestOctets) {
    throw new TypeError(`expected a secret of at most ${digestOctets} octets`)
  }
  const { seed, encryptedSecret } = ek.type === 'rsa' ? rsaSeed(ek) : eccSeed(ek)
  const symmetricKey = kdfa(nameAlg, seed, STORAGE, akName, EMPTY, symmetric.keyBits)
  const macKey = kdfa(nameAlg, seed, INTEGRITY, EMPTY, EMPTY, digestOctets * 8)
  const plain = encodeSized(secret)
  try {
    const cipher = createCipheriv(`aes-${symmetric.keyBits}-cfb`, symmetricKey, ZERO_IV)
    const encrypted = concat(cipher.update(plain), cipher.final())
    const integrity = createHmac(nameAlg, macKey).update(encrypted).update(akName).digest()
    return {
      credentialBlob: encodeSized(concat(encodeSized(integrity), encrypted)),
      encryptedSecret: encodeSized(encryptedSecret),
    }
  } finally {
    for (const octets of [seed, symmetricKey, macKey, plain]) octets.fill(0)
  }
}

interface Seed {
  readonly seed: Uint8Array
  readonly encryptedSecret: Uint8Array
}

/** A random seed, encrypted with OAEP under the label `IDENTITY` and its zero. */
function rsaSeed(ek: PublicArea): Seed {
  const seed = randomOctets(HASH_ALGORITHMS[ek.nameAlg].digestOctets)
  const encryptedSecret = publicEncrypt(
    {
      key: publicKeyOf(ek),
      padding: constants.RSA_PKCS1_OAEP_PADDING,
      oaepHash: ek.nameAlg,
      oaepLabel: concat(utf8(IDENTITY), Uint8Array.of(0)),
    },
    seed,
  )
  return { seed, encryptedSecret }
}

/** A seed agreed with an ephemeral key; the ephemeral point is what is sent. */
function eccSeed(ek: PublicArea & { readonly type: 'ecc' }): Seed {
  publicKeyOf(ek) // throws for a point that is not on the curve
  const { nameAlg } = ek
  const { octets } = ECC_CURVES[ek.curve]
  const staticX = leftPadded(ek.x, octets)
  const staticY = leftPadded(ek.y, octets)
  const ephemeral = createECDH(OPENSSL_CURVES[ek.curve])
  const point = ephemeral.generateKeys()
  const ephemeralX = point.subarray(1, 1 + octets)
  const ephemeralY = point.subarray(1 + octets)
  const z = ephemeral.computeSecret(concat(Uint8Array.of(4), staticX, staticY))
  try {
    const bits = HASH_ALGORITHMS[nameAlg].digestOctets * 8
    const seed = kdfe(nameAlg, z, IDENTITY, ephemeralX, staticX, bits)
    return { seed, encryptedSecret: concat(encodeSized(ephemeralX), encodeSized(ephemeralY)) }
  } finally {
    z.fill(0)
  }
}
