import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { type GuestAnswer, GuestRequest } from '../../api/guest-channel.js'
import { parseUtf8 } from '../../core/bytes.js'
import { isPlatformError, messageOf } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import { OctetBuffer } from '../../core/octet-buffer.js'
import { misfitOf } from '../../core/schema-errors.js'
import { parseStrictJson } from '../../core/strict-json.js'
import { drained } from '../vm/drained.js'

/** An event log of 1 MiB as base64, and the rest. */
const MAX_LINE_OCTETS = 2 * 1024 * 1024
const JSON_LIMITS = { maxDepth: 4, maxItems: 256 }
const RETRY_MS = 500
const NEWLINE = 0x0a
/** A guest attests when it boots, and again before its token ends: this is for one that fails and tries again. */
const LINES_PER_MINUTE = 30
const MINUTE_MS = 60_000
/** After a line too many, and after each 2 MiB that are no line, the guest is not listened to for so long. */
const PAUSE_MS = 1_000

/** The agent's end of the port of one VM. */
export interface GuestChannel extends AsyncDisposable {
  readonly isConnected: boolean
}

/**
 * Listens to the port of a VM that runs, and answers one request after the other. What the guest sends is untrusted:
 * lines are bounded, and the next one is read when the one before was answered. All guests of the host have one agent: who
 * sends more than a guest needs, requests or not, is read slowly.
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
  /** Resolves after the time, or when the signal comes. For tests. */
  readonly pause?: (ms: number, signal: AbortSignal) => Promise<void>
}): GuestChannel {
  const { vmId, logger, pause = pauseFor } = options
  const end = new AbortController()
  let socket: Socket | undefined
  let isConnected = false
  let asked: readonly number[] = []

  const isAllowed = (): boolean => {
    const now = options.monotonicMs()
    asked = asked.filter((at) => now - at < MINUTE_MS)
    if (asked.length >= LINES_PER_MINUTE) return false
    asked = [...asked, now]
    return true
  }

  const rest = () => pause(PAUSE_MS, end.signal)

  const replyTo = async (line: Uint8Array | undefined, isInTime: boolean): Promise<object> => {
    const request = line ? readRequest(line) : TOO_LONG
    if (!isInTime) return { ...('id' in request ? { id: request.id } : {}), ...TOO_MANY }
    if ('error' in request) return request
    const { id } = request
    try {
      return { id, ...(await options.answer(request)) }
    } catch (error) {
      logger.info({ event: 'guest.refused', vmId, err: error }, 'a guest was refused')
      const code = isPlatformError(error) ? error.code : 'INTERNAL'
      return { id, error: code, message: isPlatformError(error) ? messageOf(error) : 'failed' }
    }
  }

  const serve = async (): Promise<void> => {
    const port = await connectTo(options.path)
    for await (const line of linesOf(port, rest)) {
      const isInTime = isAllowed()
      const reply = await replyTo(line, isInTime)
      // there may be lines still that came before its end
      if (port.destroyed) return
      if (!port.write(`${JSON.stringify(reply)}\n`)) await drained(port)
      if (!isInTime) await rest()
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
      await pauseFor(RETRY_MS, end.signal)
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

const TOO_MANY = { error: 'RATE_LIMITED', message: 'too many requests' }
const TOO_LONG = {
  error: 'DECODE_TOO_LARGE',
  message: `expected a line of ${MAX_LINE_OCTETS} octets at most`,
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
  const misfit = misfitOf(GuestRequest, value)
  return misfit === undefined ? (value as GuestRequest) : invalid(`request${misfit}`)
}

/** Lines without their end; nothing for one that is too long, once it has ended. Empty lines are left out. */
async function* linesOf(
  socket: Socket,
  onExcess: () => Promise<void>,
): AsyncGenerator<Uint8Array | undefined> {
  const line = new OctetBuffer()
  /** Of a line that is too long: how much of it came since the last pause. */
  let excess: number | undefined
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    let rest = chunk
    for (;;) {
      const at = rest.indexOf(NEWLINE)
      const piece = at < 0 ? rest : rest.subarray(0, at)
      if (excess === undefined && line.length + piece.length <= MAX_LINE_OCTETS) line.append(piece)
      else {
        excess = (excess ?? line.length) + piece.length
        line.clear()
        if (excess > MAX_LINE_OCTETS) {
          await onExcess()
          excess = 0
        }
      }
      if (at < 0) break
      rest = rest.subarray(at + 1)
      if (excess !== undefined) yield undefined
      else if (line.length > 0) yield line.take()
      excess = undefined
    }
  }
}

async function pauseFor(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => undefined)
}
