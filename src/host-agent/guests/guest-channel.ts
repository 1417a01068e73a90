import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { Value } from 'typebox/value'
import { type GuestAnswer, GuestRequest } from '../../api/guest-channel.js'
import { parseUtf8 } from '../../core/bytes.js'
import { isPlatformError, messageOf } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import { describeSchemaErrors } from '../../core/schema-errors.js'
import { parseStrictJson } from '../../core/strict-json.js'

/** An event log of 1 MiB as base64, and the rest. */
const MAX_LINE_OCTETS = 2 * 1024 * 1024
const JSON_LIMITS = { maxDepth: 4, maxItems: 256 }
const RETRY_MS = 500
const NEWLINE = 0x0a
/** A guest attests when it boots, and again before its token ends: this is for one that fails and tries again. */
const REQUESTS_PER_MINUTE = 30
const MINUTE_MS = 60_000

/** The agent's end of the port of one VM. */
export interface GuestChannel extends AsyncDisposable {
  readonly isConnected: boolean
}

/**
 * Listens to the port of a VM that runs, and answers one request after the other. What the guest sends is untrusted:
 * lines are bounded, requests are limited, and the next one is read when the one before was answered.
 *
 * Connects again when the port was closed, until it is disposed of.
 */
export function openGuestChannel(options: {
  /** Unix socket that QEMU listens on. */
  readonly path: string
  readonly vmId: string
  /** Throws what the guest is told: code and message. */
  readonly answer: (request: GuestRequest) => Promise<GuestAnswer>
  readonly monotonicMs: () => number
  readonly logger: Logger
}): GuestChannel {
  const { vmId, logger } = options
  const end = new AbortController()
  let socket: Socket | undefined
  let isConnected = false
  let asked: readonly number[] = []

  const isAllowed = (): boolean => {
    const now = options.monotonicMs()
    asked = asked.filter((at) => now - at < MINUTE_MS)
    if (asked.length >= REQUESTS_PER_MINUTE) return false
    asked = [...asked, now]
    return true
  }

  const replyTo = async (line: Uint8Array): Promise<object> => {
    const request = readRequest(line)
    if ('error' in request) return request
    const { id } = request
    if (!isAllowed()) return { id, error: 'RATE_LIMITED', message: 'too many requests' }
    try {
      return { id, ...(await options.answer(request)) }
    } catch (error) {
      logger.info({ event: 'guest.refused', vmId, err: error }, 'a guest was refused')
      const code = isPlatformError(error) ? error.code : 'INTERNAL'
      return { id, error: code, message: isPlatformError(error) ? messageOf(error) : 'failed' }
    }
  }

  const serve = async (): Promise<void> => {
    for await (const line of linesOf(await connectTo(options.path))) {
      const reply = line ? await replyTo(line) : tooLong()
      if (!socket?.write(`${JSON.stringify(reply)}\n`) && socket) await drained(socket)
    }
  }

  const connectTo = async (path: string): Promise<Socket> => {
    const connecting = connect(path)
    socket = connecting
    await new Promise<void>((resolve, reject) => {
      connecting.once('connect', resolve)
      connecting.once('error', reject)
    })
    connecting.on('close', () => {
      isConnected = false
    })
    isConnected = true
    return connecting
  }

  const run = async (): Promise<void> => {
    while (!end.signal.aborted) {
      try {
        await serve()
      } catch (err) {
        // The VM is being stopped, or QEMU does not listen yet
        logger.debug({ event: 'guest.port-closed', vmId, err }, 'the port of a VM is closed')
      }
      isConnected = false
      await delay(RETRY_MS, undefined, { signal: end.signal }).catch(() => undefined)
    }
  }
  const running = run()
  return {
    get isConnected() {
      return isConnected
    },
    async [Symbol.asyncDispose]() {
      end.abort()
      socket?.destroy()
      await running
    },
  }
}

function readRequest(
  line: Uint8Array,
): GuestRequest | { readonly error: string; readonly message: string } {
  const invalid = (message: string) => ({ error: 'REQUEST_INVALID', message })
  let value: unknown
  try {
    value = parseStrictJson(parseUtf8(line), JSON_LIMITS)
  } catch (error) {
    if (!isPlatformError(error)) throw error
    return invalid('expected a JSON object on a line')
  }
  const errors = Value.Errors(GuestRequest, value)
  return errors.length === 0
    ? (value as GuestRequest)
    : invalid(`request${describeSchemaErrors(errors)}`)
}

function tooLong() {
  return {
    error: 'DECODE_TOO_LARGE',
    message: `expected a line of ${MAX_LINE_OCTETS} octets at most`,
  }
}

/** Lines without their end; nothing for one that is too long, once it has ended. Empty lines are left out. */
async function* linesOf(socket: Socket): AsyncGenerator<Uint8Array | undefined> {
  let parts: Buffer[] = []
  let octets = 0
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    let rest = chunk
    for (;;) {
      const at = rest.indexOf(NEWLINE)
      const piece = at < 0 ? rest : rest.subarray(0, at)
      octets += piece.length
      if (octets <= MAX_LINE_OCTETS) parts.push(piece)
      else parts = []
      if (at < 0) break
      rest = rest.subarray(at + 1)
      const line = Buffer.concat(parts)
      const isTooLong = octets > MAX_LINE_OCTETS
      parts = []
      octets = 0
      if (isTooLong) yield undefined
      else if (line.length > 0) yield line
    }
  }
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once('drain', resolve)
    socket.once('close', () => resolve())
  })
}
