import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { concat, timingSafeEqual, utf8 } from '../../core/bytes.js'
import { messageOf } from '../../core/errors.js'
import { randomOctets } from '../../core/random.js'
import { ByteWriter } from '../../core/reader.js'
import { Secret } from '../../core/secret.js'
import { openRegular } from './copy-file.js'
import { isErrno } from './errno.js'
import { createPrivateFile } from './files.js'

const MAGIC = utf8('SGVM')
const VERSION = 1
const SALT_OCTETS = 32
const PREFIX_OCTETS = MAGIC.length + 1
const HEADER_OCTETS = PREFIX_OCTETS + SALT_OCTETS
const CHUNK_OCTETS = 1024 * 1024
const TAG_OCTETS = 16
const SEALED_OCTETS = CHUNK_OCTETS + TAG_OCTETS
const IV_OCTETS = 12
const KEY_OCTETS = 32

/** Whose memory it is. */
interface Owner {
  readonly homeKey: Secret
  readonly vmId: string
  readonly snapshotId: string
}

/**
 * Writes `memory.enc`: the memory of a VM in a snapshot, with the state of its devices, as QEMU writes it, sealed.
 *
 * `SGVM` ‖ version (1 octet) ‖ salt (32), then chunks of 1 MiB, of which the last one may be shorter, each followed by its
 * tag (16). AES-256-GCM under HKDF-SHA-256(home key, salt, "sigillo snapshot memory v1 " ‖ VM id ‖ " " ‖ snapshot id); the
 * IV is the number of the chunk (11 octets, big-endian) and whether it is the last one (1 octet). So chunks cannot be
 * altered, left out, put in another order or taken from another file, and the end cannot be cut off.
 *
 * @see Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", section 7
 *   (STREAM)
 */
export class MemoryWriter implements AsyncDisposable {
  readonly #file: FileHandle
  readonly #key: Secret
  readonly #chunk = Buffer.alloc(CHUNK_OCTETS)
  #filled = 0
  #count = 0n
  #octets = 0

  private constructor(file: FileHandle, key: Secret) {
    this.#file = file
    this.#key = key
  }

  static async create(path: string, owner: Owner): Promise<MemoryWriter> {
    const salt = randomOctets(SALT_OCTETS)
    const writer = new MemoryWriter(await createPrivateFile(path), deriveKey(owner, salt))
    try {
      await writer.#put(concat(encodePrefix(), salt))
      return writer
    } catch (error) {
      await writer[Symbol.asyncDispose]()
      throw error
    }
  }

  async write(octets: Uint8Array): Promise<void> {
    for (let offset = 0; offset < octets.length; ) {
      // a full chunk waits for the next octet: it may be the last one
      if (this.#filled === CHUNK_OCTETS) await this.#seal(false)
      const part = octets.subarray(offset, offset + CHUNK_OCTETS - this.#filled)
      this.#chunk.set(part, this.#filled)
      this.#filled += part.length
      offset += part.length
    }
  }

  /** All was written. What the file has is not yet on the disk. @returns its size */
  async finish(): Promise<number> {
    await this.#seal(true)
    return this.#octets
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#chunk.fill(0)
    this.#key.dispose()
    await this.#file.close()
  }

  async #seal(isLast: boolean): Promise<void> {
    const plain = this.#chunk.subarray(0, this.#filled)
    const iv = ivOf(this.#count, isLast)
    this.#count += 1n
    this.#filled = 0
    await this.#put(
      this.#key.use((key) => {
        const cipher = createCipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_OCTETS })
        return concat(cipher.update(plain), cipher.final(), cipher.getAuthTag())
      }),
    )
  }

  async #put(octets: Uint8Array): Promise<void> {
    for (let done = 0; done < octets.length; ) {
      done += (await this.#file.write(octets, done, octets.length - done)).bytesWritten
    }
    this.#octets += octets.length
  }
}

/**
 * The octets that a `MemoryWriter` sealed for this VM and snapshot, in their order. Each piece verified before it is given, and is
 * overwritten when the next one is asked for; that nothing was cut off is known when there is no more.
 *
 * @param octets that the file must have
 * @throws RangeError for anything but such a file
 */
export async function* openMemory(
  path: string,
  octets: number,
  owner: Owner,
): AsyncGenerator<Uint8Array> {
  await using file = await openRegular(path, octets).catch((cause: unknown) => {
    if (!isErrno(cause, 'ENOENT', 'ELOOP', 'ENXIO')) throw cause
    throw new RangeError(messageOf(cause), { cause })
  })
  const header = await readExactly(file, HEADER_OCTETS, 0)
  if (!timingSafeEqual(header.subarray(0, PREFIX_OCTETS), encodePrefix())) {
    throw new RangeError(`expected ${path} to be memory of version ${VERSION}`)
  }
  using key = deriveKey(owner, header.subarray(PREFIX_OCTETS))
  let count = 0n
  for (let offset = HEADER_OCTETS; offset < octets || count === 0n; count += 1n) {
    const length = Math.min(SEALED_OCTETS, octets - offset)
    const sealed = await readExactly(file, length, offset)
    offset += length
    const plain = key.use((secret) => openChunk(secret, sealed, ivOf(count, offset === octets)))
    if (!plain) throw new RangeError(`${path} does not verify before octet ${offset}`)
    try {
      yield plain
    } finally {
      plain.fill(0)
    }
  }
}

function openChunk(key: Uint8Array, sealed: Buffer, iv: Uint8Array): Buffer | undefined {
  if (sealed.length < TAG_OCTETS) return undefined
  const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_OCTETS })
  decipher.setAuthTag(sealed.subarray(-TAG_OCTETS))
  const plain = decipher.update(sealed.subarray(0, -TAG_OCTETS))
  try {
    decipher.final()
    return plain
  } catch {
    plain.fill(0)
    return undefined
  }
}

async function readExactly(file: FileHandle, octets: number, offset: number): Promise<Buffer> {
  const into = Buffer.alloc(octets)
  for (let done = 0; done < octets; ) {
    const { bytesRead } = await file.read(into, done, octets - done, offset + done)
    if (bytesRead === 0) throw new RangeError(`expected ${octets} octets at ${offset}`)
    done += bytesRead
  }
  return into
}

function deriveKey({ homeKey, vmId, snapshotId }: Owner, salt: Uint8Array): Secret {
  const info = utf8(`sigillo snapshot memory v1 ${vmId} ${snapshotId}`)
  return new Secret(
    homeKey.use((key) => new Uint8Array(hkdfSync('sha256', key, salt, info, KEY_OCTETS))),
  )
}

function encodePrefix(): Uint8Array {
  return new ByteWriter('big').put(MAGIC).u8(VERSION).finish()
}

function ivOf(count: bigint, isLast: boolean): Uint8Array {
  const iv = Buffer.alloc(IV_OCTETS)
  iv.writeBigUInt64BE(count, IV_OCTETS - 9)
  iv.writeUInt8(isLast ? 1 : 0, IV_OCTETS - 1)
  return iv
}
