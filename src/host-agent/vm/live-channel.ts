import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto'
import type { Socket } from 'node:net'
import { type Static, type TSchema, Type } from 'typebox'
import { concat, utf8, view } from '../../core/bytes.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { OctetBuffer } from '../../core/octet-buffer.js'
import { ByteWriter } from '../../core/reader.js'
import { Secret } from '../../core/secret.js'
import { drained } from './drained.js'
import { parseRecord } from './records.js'

/** Largest frame that is read: an offer with the records and firmware variables of a VM. */
const MAX_FRAME_OCTETS = 8 * 1024 * 1024
export const MAX_DATA_OCTETS = 1024 * 1024
const HEADER_OCTETS = 5
const TAG_OCTETS = 16
const IV_OCTETS = 12
const KEY_OCTETS = 32
const IDLE_TIMEOUT_MS = 60_000

const MAX_SMALL_FRAME_OCTETS = 16 * 1024
/** What is passed on of a failure. */
const MAX_MESSAGE = 300

/** Kinds of frames, by their octet. `open` ones come before there are keys. */
const KINDS = [
  ...(['open', 'prepared', 'data', 'end', 'loaded', 'go', 'running', 'failed'] as const),
  'begin',
] as const
type Kind = (typeof KINDS)[number]

const Failure = Type.Object({
  code: Type.String({ pattern: '^[A-Z][A-Z0-9_]{1,63}$' }),
  message: Type.String(),
})

/**
 * What two agents say to one another while a VM moves, over one connection: frames of length (4 octets), kind (1), content.
 *
 * From `seal` on each is AES-256-GCM under a key of its direction that is derived from the home key of the VM and a nonce of
 * each side, with the number of the frame as IV and its kind authenticated: frames cannot be read, changed, left out, put
 * in another order or said by anybody without the home key.
 */
export class LiveChannel implements Disposable {
  readonly #socket: Socket
  readonly #chunks: AsyncIterator<Buffer>
  readonly #rest = new OctetBuffer()
  #keys: { readonly send: Secret; readonly receive: Secret } | undefined
  #sent = 0n
  #received = 0n

  constructor(socket: Socket) {
    this.#socket = socket
    socket.setTimeout(IDLE_TIMEOUT_MS, () => {
      socket.destroy(new Error(`nothing was heard for ${IDLE_TIMEOUT_MS} ms`))
    })
    // told to whoever reads or writes next
    socket.on('error', () => undefined)
    this.#chunks = socket[Symbol.asyncIterator]()
  }

  /** From now on frames are sealed. */
  seal(
    homeKey: Secret,
    options: {
      readonly side: 'source' | 'target'
      readonly vmId: string
      readonly exportId: string
      readonly nonces: Uint8Array
    },
  ): void {
    const { side, vmId, exportId, nonces } = options
    const derive = (from: 'source' | 'target') =>
      new Secret(
        homeKey.use(
          (key) =>
            new Uint8Array(
              hkdfSync(
                'sha256',
                key,
                nonces,
                utf8(`sigillo live v1 ${vmId} ${exportId} ${from}`),
                KEY_OCTETS,
              ),
            ),
        ),
      )
    const other = side === 'source' ? 'target' : 'source'
    this.#keys = { send: derive(side), receive: derive(other) }
  }

  /** Resolves when the frame was taken by the connection. @throws PlatformError `VM_LIVE` */
  async send(kind: Kind, content: Uint8Array = new Uint8Array()): Promise<void> {
    const type = KINDS.indexOf(kind)
    const body = this.#keys ? this.#sealed(this.#keys.send, type, content) : content
    const header = new ByteWriter('big').u32(body.length).u8(type).finish()
    try {
      this.#requireOpen()
      this.#socket.write(view(header))
      if (!this.#socket.write(view(body))) await drained(this.#socket)
      this.#requireOpen()
    } catch (cause) {
      throw broken(cause)
    }
  }

  /** Tells the other side why there is no more to come. Never throws. */
  async fail(error: unknown): Promise<void> {
    const code = error instanceof PlatformError ? error.code : 'VM_LIVE'
    const message = messageOf(error).slice(0, MAX_MESSAGE)
    const content = utf8(JSON.stringify({ code, message }))
    await this.send('failed', content).catch(() => undefined)
  }

  /**
   * The next frame, which must be of one of these kinds.
   *
   * @throws PlatformError `VM_LIVE`, with what the other side said when it failed
   */
  async receive(
    ...kinds: readonly Kind[]
  ): Promise<{ readonly kind: Kind; readonly content: Uint8Array }> {
    const header = await this.#take(HEADER_OCTETS)
    const length = view(header).readUInt32BE(0)
    const kind = KINDS[header[4] ?? KINDS.length]
    if (kind === undefined || length > mostOctetsOf(kind)) {
      throw live(`expected a frame of a known kind and size, found ${length} octets`)
    }
    const body = await this.#take(length)
    const content = this.#keys ? this.#opened(this.#keys.receive, KINDS.indexOf(kind), body) : body
    if (kind === 'failed') {
      const { code, message } = parseRecord(Failure, content, 'VM_LIVE', 'a failure')
      throw live(`the other host failed: ${code}: ${message.slice(0, MAX_MESSAGE)}`)
    }
    if (!kinds.includes(kind)) throw live(`expected ${kinds.join(' or ')}, found ${kind}`)
    return { kind, content }
  }

  /** The next frame as a record. @throws PlatformError `VM_LIVE` */
  async receiveRecord<S extends TSchema>(schema: S): Promise<Static<S>> {
    const { content } = await this.receive('open')
    return parseRecord(schema, content, 'VM_LIVE', 'what the other host says')
  }

  /**
   * Does something that the other side may not draw out: after the time, or when the signal comes, the connection is cut.
   *
   * @throws the reason of the signal; PlatformError `VM_LIVE`
   */
  async within<T>(ms: number, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const timer = setTimeout(
      () => this.#socket.destroy(new Error(`it was not said within ${ms} ms`)),
      ms,
    )
    const onAbort = () => this.#socket.destroy()
    signal?.addEventListener('abort', onAbort)
    try {
      signal?.throwIfAborted()
      return await work()
    } catch (error) {
      signal?.throwIfAborted()
      throw error
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
    }
  }

  [Symbol.dispose](): void {
    this.#keys?.send.dispose()
    this.#keys?.receive.dispose()
    // what was written is sent
    this.#socket.destroySoon()
  }

  #sealed(key: Secret, type: number, content: Uint8Array): Uint8Array {
    const iv = ivOf(this.#sent)
    this.#sent += 1n
    return key.use((octets) => {
      const cipher = createCipheriv('aes-256-gcm', octets, iv, { authTagLength: TAG_OCTETS })
      cipher.setAAD(Uint8Array.of(type))
      return concat(cipher.update(content), cipher.final(), cipher.getAuthTag())
    })
  }

  #opened(key: Secret, type: number, body: Uint8Array): Uint8Array {
    if (body.length < TAG_OCTETS) throw live('a frame is too short')
    const iv = ivOf(this.#received)
    this.#received += 1n
    return key.use((octets) => {
      const decipher = createDecipheriv('aes-256-gcm', octets, iv, { authTagLength: TAG_OCTETS })
      decipher.setAAD(Uint8Array.of(type))
      decipher.setAuthTag(body.subarray(-TAG_OCTETS))
      const content = decipher.update(body.subarray(0, -TAG_OCTETS))
      try {
        decipher.final()
      } catch (cause) {
        throw live('a frame was altered, or is of somebody without the key of the VM', cause)
      }
      return content
    })
  }

  async #take(octets: number): Promise<Uint8Array> {
    try {
      while (this.#rest.length < octets) {
        const { value, done } = await this.#chunks.next()
        if (done) throw new Error('the other host closed it')
        this.#rest.append(value)
      }
    } catch (cause) {
      throw broken(cause)
    }
    return this.#rest.take(octets)
  }

  #requireOpen(): void {
    if (this.#socket.destroyed) throw this.#socket.errored ?? new Error('it is closed')
  }
}

function mostOctetsOf(kind: Kind): number {
  if (kind === 'open') return MAX_FRAME_OCTETS
  return kind === 'data' ? MAX_DATA_OCTETS + TAG_OCTETS : MAX_SMALL_FRAME_OCTETS
}

export function live(message: string, cause?: unknown): PlatformError {
  return new PlatformError('VM_LIVE', message, { cause })
}

function broken(cause: unknown): PlatformError {
  return live(`the connection to the other host broke: ${messageOf(cause)}`, cause)
}

/** @see NIST SP 800-38D, section 8.2.1: a key seals the frames of one direction, each with its number */
function ivOf(count: bigint): Uint8Array {
  const iv = Buffer.alloc(IV_OCTETS)
  iv.writeBigUInt64BE(count, IV_OCTETS - 8)
  return iv
}
