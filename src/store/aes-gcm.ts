import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { concat } from '../core/bytes.js'
import { Secret } from '../core/secret.js'

const ALGORITHM = 'aes-256-gcm'
const IV_OCTETS = 12
const TAG_OCTETS = 16

/** IV (12 octets, random), ciphertext, tag (16). Each key is for one call, so that no IV can come twice. */
export function encrypt(key: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const iv = randomBytes(IV_OCTETS)
  const cipher = createCipheriv(ALGORITHM, key, iv).setAAD(aad)
  return concat(iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag())
}

/** What `encrypt` was given; throws, without telling which, where key, AAD or any octet is another. */
export function decrypt(key: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Secret {
  if (sealed.length < IV_OCTETS + TAG_OCTETS) throw new TypeError('too short')
  const end = sealed.length - TAG_OCTETS
  const decipher = createDecipheriv(ALGORITHM, key, sealed.subarray(0, IV_OCTETS), {
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
