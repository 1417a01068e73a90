import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { Exactly } from '../../api/common.js'
import { fromBase64url, parseUtf8, toBase64url, utf8 } from '../../core/bytes.js'
import { canonicalJson } from '../../core/canonical-json.js'
import type { ErrorCode } from '../../core/error-codes.js'
import { isPlatformError, PlatformError } from '../../core/errors.js'
import { Secret } from '../../core/secret.js'
import { rootKeyOf, type Sealer } from '../../store/index.js'
import type { Keystore, PrimaryKeyId, TpmKeys } from '../ports.js'
import { primaryKeyContext } from './keystore.js'

/** A sealing key encrypts as a root key does; this keeps the one from being taken for the other. */
const PURPOSE = 'tpm-primary-key'

/** What is stored of a version, under the root key: the object of the TPM, and the primary key under what it seals. */
const Stored = Exactly({
  /** The sealer's own, and read by it. */
  seal: Type.Unknown(),
  key: Type.String({ pattern: '^[A-Za-z0-9_-]+$', maxLength: 400 }),
})
type Stored = Static<typeof Stored>

/** A primary key in memory, until the service is closed or sealed. */
interface Unsealed {
  readonly secret: Promise<Secret>
}

/**
 * Primary keys behind the TPM of the authority.
 *
 * The TPM seals a random key for each version, as it does for a root key; the primary key lies under that key, bound to its
 * provider, version and time of making, and all of it under the root key: the database with the root key does not open it,
 * nor does the TPM. Everything is opened with the root key every time, so that a sealed service serves nobody from memory.
 *
 * @param deps.sealer for keys that are bound to these PCRs; opens those that are bound to others as well
 */
export function tpmKeys(deps: {
  readonly keystore: Keystore
  readonly sealer: (pcrs: readonly number[]) => Sealer
}): TpmKeys & AsyncDisposable {
  const { keystore } = deps
  const memory = new Map<string, Unsealed>()
  let closed = false

  const storedOf = (id: PrimaryKeyId, sealed: Uint8Array): Stored => {
    using octets = keystore.open(id, sealed)
    try {
      return Value.Parse(Stored, JSON.parse(octets.use(parseUtf8)))
    } catch (cause) {
      // A record of another place: the row of the provider was changed.
      const message = `version ${id.version} is not one that the TPM sealed`
      throw new PlatformError('ROOT_KEY_OPEN', message, { cause })
    }
  }

  const unseal = async (id: PrimaryKeyId, { seal, key }: Stored): Promise<Secret> => {
    using sealing = rootKeyOf(await ofKeys(deps.sealer([]).keyOf(seal)))
    return sealing.open(PURPOSE, primaryKeyContext(id), fromBase64url(key))
  }

  const forget = async (name: string): Promise<void> => {
    const known = memory.get(name)
    memory.delete(name)
    await known?.secret.then(
      (secret) => secret.dispose(),
      // It was told to who asked for the key.
      () => undefined,
    )
  }

  return {
    async seal(id, pcrs, octets) {
      const { parameters, key } = await ofKeys(deps.sealer(pcrs).newKey())
      using sealing = rootKeyOf(key)
      const sealed = sealing.seal(PURPOSE, primaryKeyContext(id), octets)
      const stored = canonicalJson({ seal: parameters, key: toBase64url(sealed) })
      return keystore.seal(id, utf8(stored))
    },

    async open(id, sealed) {
      const stored = storedOf(id, sealed)
      const name = nameOf(id)
      let known = memory.get(name)
      if (!known) {
        const entry: Unsealed = {
          secret: unseal(id, stored).catch((error: unknown) => {
            if (memory.get(name) === entry) memory.delete(name)
            throw error
          }),
        }
        known = entry
        memory.set(name, entry)
      }
      const secret = await known.secret
      // It may be wiped by now: zeros must not pass for a key.
      if (closed) throw new PlatformError('SEALED', 'the key provider was closed meanwhile')
      if (memory.get(name) !== known) {
        throw new PlatformError('KEY_STATE', `version ${id.version} was destroyed meanwhile`)
      }
      return copyOf(secret)
    },

    async test(id, sealed) {
      using _ = await unseal(id, storedOf(id, sealed))
    },

    forget: (id) => forget(nameOf(id)),

    async [Symbol.asyncDispose]() {
      closed = true
      for (const name of [...memory.keys()]) await forget(name)
    },
  }
}

function nameOf({ providerId, version, createdAtMs }: PrimaryKeyId): string {
  return `${providerId}.${version}.${createdAtMs}`
}

function copyOf(secret: Secret): Secret {
  return new Secret(secret.use((octets) => Uint8Array.from(octets)))
}

/** The seal speaks of root keys, and of a service that cannot start. */
const CODES: Partial<Record<ErrorCode, ErrorCode>> = {
  SEAL_TPM_PCRS: 'KEY_TPM_PCRS',
  SEAL_TPM_OTHER: 'KEY_TPM_OTHER',
}

async function ofKeys<R>(work: Promise<R>): Promise<R> {
  try {
    return await work
  } catch (cause) {
    const code = isPlatformError(cause) ? CODES[cause.code] : undefined
    if (!isPlatformError(cause) || code === undefined) throw cause
    throw new PlatformError(code, cause.message, { cause })
  }
}
