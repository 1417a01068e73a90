import type { ErrorCode } from '../../core/error-codes.js'
import { isPlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import {
  customAttribute,
  isNamed,
  type KmipAttribute,
  type KmipAttributeName,
  standardAttribute,
} from '../attributes.js'
import {
  CRYPTOGRAPHIC_ALGORITHM,
  CRYPTOGRAPHIC_USAGE_MASK,
  NAME_TYPE,
  QUERY_FUNCTION,
} from '../enumerations.js'
import { KmipError } from '../errors.js'
import { TAG } from '../tags.js'
import { enumeration, integer, structure, textString } from '../ttlv.js'
import type { ProtocolVersion } from '../version.js'
import * as calls from './calls.js'
import { Failover, Undecided } from './failover.js'
import { type KmipClientOptions, type KmipServerHealth, settingsOf } from './options.js'
import type { KeyWrapping, KmipKey } from './payloads.js'
import { type Call, DISCOVER_VERSIONS, isRefusal, KmipServer } from './server.js'

export interface NewKey {
  /**
   * A name that no other key has. Without it a Create whose response was lost cannot be decided, and fails with
   * `KMS_CREATE_UNKNOWN`.
   */
  readonly name?: string
  /** Bits of an AES key. */
  readonly lengthBits?: number
  /** Bits of Cryptographic Usage Mask; the default is Encrypt and Decrypt. */
  readonly usageMask?: number
  readonly attributes?: readonly KmipAttribute[]
}

/** What became of the custom attributes that a key was to have, by their names. */
export interface KeyDescription {
  readonly stored: readonly string[]
  readonly refused: readonly string[]
  /** Why the last of them was refused. */
  readonly code?: ErrorCode
}

const KEY_BITS = 256
const ENCRYPT_DECRYPT = CRYPTOGRAPHIC_USAGE_MASK.Encrypt | CRYPTOGRAPHIC_USAGE_MASK.Decrypt

/**
 * A client of the key servers of one provider. Every method throws `KmipError` (see `docs/errors.md`, KMIP and KMS),
 * and nothing else.
 */
export type KmipClient = KmipClientOperations

/** Connects when it is first used; close it to end its connections. */
export function createKmipClient(options: KmipClientOptions): KmipClient {
  if (options.servers.length === 0) throw new TypeError('expected at least one key server')
  const settings = settingsOf(options)
  const servers = options.servers.map((address) => new KmipServer(address, settings))
  return new KmipClientOperations(new Failover(servers, settings), settings.emit)
}

class KmipClientOperations implements AsyncDisposable {
  readonly #failover: Failover
  readonly #emit: NonNullable<KmipClientOptions['events']>

  constructor(failover: Failover, emit: NonNullable<KmipClientOptions['events']>) {
    this.#failover = failover
    this.#emit = emit
  }

  /** The servers in order, and how each is. */
  get health(): readonly KmipServerHealth[] {
    return this.#failover.health
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#failover[Symbol.dispose]()
    return Promise.resolve()
  }

  discoverVersions(): Promise<readonly ProtocolVersion[]> {
    return this.#run(DISCOVER_VERSIONS)
  }

  /** What the server can do and who made it. */
  query(): Promise<calls.ServerDescription> {
    const { QueryOperations, QueryObjects, QueryServerInformation } = QUERY_FUNCTION
    return this.#run(calls.queryCall([QueryOperations, QueryObjects, QueryServerInformation]))
  }

  /** Asks for nothing: Ping where the version has it, else who made the server. */
  async ping(): Promise<void> {
    try {
      await this.#run(calls.pingCall())
    } catch (error) {
      if (!isPlatformError(error, 'KMIP_VERSION') && !isPlatformError(error, 'KMS_UNSUPPORTED')) {
        throw error
      }
      await this.#run(calls.queryCall([QUERY_FUNCTION.QueryServerInformation]))
    }
  }

  /**
   * Makes a new AES key on the server and returns its id. Never asks twice blindly: when the response was lost, a key
   * of this name is looked for first.
   */
  create(key: NewKey = {}): Promise<string> {
    return this.#createOnce(calls.createCall(newKeyAttributes(key)), key.name)
  }

  /** Stores a key of ours and returns its id; decided as `create` is. */
  register(material: Secret, key: Omit<NewKey, 'lengthBits'> = {}): Promise<string> {
    return material.use((octets) =>
      this.#createOnce(
        calls.registerCall(
          octets,
          CRYPTOGRAPHIC_ALGORITHM.AES,
          newKeyAttributes({ ...key, lengthBits: octets.length * 8 }),
        ),
        key.name,
      ),
    )
  }

  /**
   * A new key in place of another; its name moves to the new key. Not asked again when the response was lost:
   * `KMS_CREATE_UNKNOWN`.
   */
  rekey(id: string, offsetSeconds?: number): Promise<string> {
    return this.#createOnce(calls.reKeyCall(id, offsetSeconds), undefined)
  }

  /** The key, in the clear or wrapped under another key of the server. The caller disposes of it. */
  get(id: string, wrapping?: KeyWrapping): Promise<KmipKey> {
    return this.#run(calls.getCall(id, wrapping))
  }

  /** The ids of objects that have all these attributes. */
  locate(request: calls.LocateRequest): Promise<readonly string[]> {
    return this.#run(calls.locateCall(request))
  }

  /** Attributes that the object does not have are missing in the answer. */
  getAttributes(
    id: string,
    names: readonly KmipAttributeName[] = [],
  ): Promise<readonly KmipAttribute[]> {
    return this.#run(calls.getAttributesCall(id, names))
  }

  getAttributeList(id: string): Promise<readonly KmipAttributeName[]> {
    return this.#run(calls.getAttributeListCall(id))
  }

  addAttribute(id: string, attribute: KmipAttribute): Promise<void> {
    return this.#run(calls.addAttributeCall(id, attribute))
  }

  modifyAttribute(id: string, attribute: KmipAttribute): Promise<void> {
    return this.#run(calls.modifyAttributeCall(id, attribute))
  }

  /** KMIP 2.0 and later: `KMIP_VERSION` before. */
  setAttribute(id: string, attribute: KmipAttribute): Promise<void> {
    return this.#run(calls.setAttributeCall(id, attribute))
  }

  deleteAttribute(id: string, name: KmipAttributeName): Promise<void> {
    return this.#run(calls.deleteAttributeCall(id, name))
  }

  activate(id: string): Promise<void> {
    return this.#run(calls.activateCall(id))
  }

  revoke(id: string, revocation: calls.Revocation): Promise<void> {
    return this.#run(calls.revokeCall(id, revocation))
  }

  /** For ever. Servers refuse it for a key that is active. */
  destroy(id: string): Promise<void> {
    return this.#run(calls.destroyCall(id))
  }

  encrypt(request: calls.EncryptRequest): Promise<calls.Encrypted> {
    return this.#run(calls.encryptCall(request))
  }

  /** The plaintext, for the caller to wipe. */
  decrypt(request: calls.DecryptRequest): Promise<Uint8Array> {
    return this.#run(calls.decryptCall(request))
  }

  /**
   * Gives the key custom attributes, by their names of 1.x (`x-Component`), as far as the server takes them: what it
   * refuses is told in an event and in the answer, and is no error. Throws when no server answers.
   */
  async describeKey(
    id: string,
    attributes: Readonly<Record<string, string>>,
  ): Promise<KeyDescription> {
    const stored: string[] = []
    const refused: string[] = []
    let code: ErrorCode | undefined
    // All of them at once: there are servers that do not survive to be asked for one of a vendor.
    const present = await this.getAttributes(id)
    for (const [name, text] of Object.entries(attributes)) {
      try {
        await this.#storeAttribute(id, customAttribute(name, text), present)
        stored.push(name)
      } catch (error) {
        if (!isRefusal(error) && !isPlatformError(error, 'KMIP_VERSION')) throw error
        refused.push(name)
        code = error.code
      }
    }
    if (code === undefined) return { stored, refused }
    this.#emit({ event: 'kmip.attributes.refused', keyId: id, attributes: refused, code })
    return { stored, refused, code }
  }

  async #storeAttribute(
    id: string,
    attribute: KmipAttribute,
    attributes: readonly KmipAttribute[],
  ): Promise<void> {
    const present = attributes.find((one) => isNamed(one, attribute))
    if (present === undefined) await this.addAttribute(id, attribute)
    else if (present.value.value !== attribute.value.value) {
      await this.modifyAttribute(id, attribute)
    }
  }

  async #run<T>(call: Call<T>): Promise<T> {
    return (await this.#failover.run(call)).value
  }

  async #createOnce(call: Call<string>, name: string | undefined): Promise<string> {
    const deadlineMs = this.#failover.deadline()
    for (let attempt = 0; ; attempt += 1) {
      try {
        return (await this.#failover.run(call, deadlineMs, attempt > 0)).value
      } catch (error) {
        if (!(error instanceof Undecided)) throw error
        const found = await this.#find(name, deadlineMs, error)
        if (found !== undefined) return found
        if (attempt > 0) throw unknown(error)
      }
    }
  }

  /** The one key of this name, if the cluster has it; throws `KMS_CREATE_UNKNOWN` when that cannot be said. */
  async #find(
    name: string | undefined,
    deadlineMs: number,
    cause: Undecided,
  ): Promise<string | undefined> {
    if (name === undefined) throw unknown(cause)
    const locate = calls.locateCall({ attributes: [nameAttribute(name)], maximumItems: 2 })
    const done = await this.#failover.run(locate, deadlineMs, true).catch(() => {
      throw unknown(cause)
    })
    const [found, ...others] = done.value
    if (others.length > 0) throw unknown(cause)
    if (found !== undefined) {
      this.#emit({ event: 'kmip.create.recovered', server: done.server.name, keyId: found })
    }
    return found
  }
}

/** The attribute Name with a plain text. */
export function nameAttribute(name: string): KmipAttribute {
  return standardAttribute(
    structure(TAG.Name, [
      textString(TAG.NameValue, name),
      enumeration(TAG.NameType, NAME_TYPE.UninterpretedTextString),
    ]),
  )
}

function newKeyAttributes(key: NewKey): readonly KmipAttribute[] {
  return [
    standardAttribute(enumeration(TAG.CryptographicAlgorithm, CRYPTOGRAPHIC_ALGORITHM.AES)),
    standardAttribute(integer(TAG.CryptographicLength, key.lengthBits ?? KEY_BITS)),
    standardAttribute(integer(TAG.CryptographicUsageMask, key.usageMask ?? ENCRYPT_DECRYPT)),
    ...(key.name === undefined ? [] : [nameAttribute(key.name)]),
    ...(key.attributes ?? []),
  ]
}

function unknown(cause: KmipError): KmipError {
  return new KmipError(
    'KMS_CREATE_UNKNOWN',
    'the response of the key server was lost: it may have made a key that nobody knows',
    { cause, server: cause.server },
  )
}
