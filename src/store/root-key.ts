import { hkdfSync, randomBytes } from 'node:crypto'
import { concat, lengthPrefixed, utf8 } from '../core/bytes.js'
import { PlatformError } from '../core/errors.js'
import { Secret } from '../core/secret.js'
import { decrypt, encrypt } from './aes-gcm.js'

const KEY_OCTETS = 32
const SALT_OCTETS = 16
const VERSION = 1
const DOMAIN = 'sigillo root key v1'

/** The key that the secrets of one service are sealed under. In memory from unsealing until it is disposed of. */
export interface RootKey extends Disposable {
  /** From 1; one more with each change of the key. */
  readonly generation: number
  /**
   * Seals octets: each time under a key of their own (HKDF-SHA-256 with a random salt), AES-256-GCM.
   *
   * The result is 45 octets longer: version (1), salt (16), IV (12), ciphertext, tag (16).
   *
   * @param purpose keeps uses apart: `primary-key`
   * @param context must be given again to open; authenticated, not stored
   * @throws PlatformError `SEALED` after the key was disposed of
   */
  seal(purpose: string, context: Uint8Array, plaintext: Uint8Array): Uint8Array
  /**
   * @throws PlatformError `ROOT_KEY_OPEN`, the same for all that can be wrong; `SEALED` after the key was disposed of
   */
  open(purpose: string, context: Uint8Array, sealed: Uint8Array): Secret
  /**
   * The root key itself under another key: IV (12 octets), ciphertext (32), tag (16).
   *
   * @param key for this one call
   * @throws PlatformError `SEALED` after the key was disposed of
   */
  wrapUnder(key: Secret, aad: Uint8Array): Uint8Array
}

/** A root key of these 32 octets, which it owns from now on. */
export function rootKeyOf(root: Secret, generation = 1): RootKey {
  let disposed = false
  const requireKey = (): void => {
    if (disposed) throw new PlatformError('SEALED', 'the root key is no longer in memory')
  }
  return {
    generation,
    seal(purpose, context, plaintext) {
      requireKey()
      const salt = randomBytes(SALT_OCTETS)
      using key = recordKey(root, salt, purpose)
      const aad = recordContext(purpose, context)
      return key.use((octets) =>
        concat(Uint8Array.of(VERSION), salt, encrypt(octets, aad, plaintext)),
      )
    },
    open(purpose, context, sealed) {
      requireKey()
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
    wrapUnder(key, aad) {
      requireKey()
      return root.use((octets) => key.use((wrapping) => encrypt(wrapping, aad, octets)))
    },
    [Symbol.dispose]() {
      disposed = true
      root.dispose()
    },
  }
}

function recordKey(root: Secret, salt: Uint8Array, purpose: string): Secret {
  const info = lengthPrefixed(utf8(DOMAIN), utf8(purpose))
  return new Secret(
    root.use((octets) => new Uint8Array(hkdfSync('sha256', octets, salt, info, KEY_OCTETS))),
  )
}

function recordContext(purpose: string, context: Uint8Array): Uint8Array {
  return lengthPrefixed(utf8(DOMAIN), Uint8Array.of(VERSION), utf8(purpose), context)
}
