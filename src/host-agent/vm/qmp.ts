import { connect } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { concat, utf8, view } from '../../core/bytes.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import { hexText } from './programs.js'

const MAX_LINE_CHARACTERS = 1024 * 1024
/** Kinds of events that are remembered: QEMU 7.2 has fewer. */
const MAX_EVENTS = 100
const COMMAND_TIMEOUT_MS = 20_000

/** An answer or event of QEMU. */
interface Message {
  readonly QMP?: unknown
  readonly return?: unknown
  readonly error?: { readonly desc?: unknown }
  readonly event?: unknown
}

interface Waiting {
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
}

/**
 * A conversation with one QEMU, one command at a time.
 *
 * @see QEMU Machine Protocol Specification, section 2
 */
export class Qmp implements AsyncDisposable {
  readonly #output: Writable
  readonly #waiting: Waiting[] = []
  readonly #events = new Set<string>()
  #text = ''
  #ended: Error | undefined

  private constructor(input: Readable, output: Writable) {
    this.#output = output
    input.setEncoding('utf8')
    input.on('data', (text: string) => this.#read(text))
    for (const stream of [input, output]) {
      stream.on('error', (error) => this.#end(error))
      stream.on('close', () => this.#end(new Error('QEMU closed the connection')))
    }
  }

  /** Waits for the greeting and takes up the conversation. */
  static async open(input: Readable, output: Writable): Promise<Qmp> {
    const qmp = new Qmp(input, output)
    try {
      await qmp.#next()
      await qmp.execute('qmp_capabilities')
      return qmp
    } catch (error) {
      await qmp[Symbol.asyncDispose]()
      throw error
    }
  }

  /** @throws PlatformError `VM_PROCESS` when nobody listens there */
  static async connect(path: string): Promise<Qmp> {
    const socket = connect(path)
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve)
        socket.once('error', reject)
      })
    } catch (cause) {
      throw failed(`does not answer: ${messageOf(cause)}`, cause)
    }
    return Qmp.open(socket, socket)
  }

  /**
   * The answer to a command. No argument may be secret: see `addSecret`.
   *
   * @throws PlatformError `VM_PROCESS` with the words of QEMU
   */
  async execute(command: string, parameters: Readonly<Record<string, unknown>> = {}) {
    const answer = this.#next()
    this.#output.write(`${JSON.stringify({ execute: command, arguments: parameters })}\n`)
    try {
      return await answer
    } catch (cause) {
      throw failed(`refused ${command}: ${messageOf(cause)}`, cause)
    }
  }

  /** Gives QEMU the hexadecimal text of a key as a secret object. The text is erased when it was sent. */
  async addSecret(id: string, key: Secret): Promise<void> {
    const head = utf8(
      `{"execute":"object-add","arguments":{"qom-type":"secret","id":${JSON.stringify(id)},"data":"`,
    )
    const hex = hexText(key)
    const line = concat(head, hex, utf8('"}}\n'))
    const answer = this.#next()
    this.#output.write(view(line), () => {
      hex.fill(0)
      line.fill(0)
    })
    try {
      await answer
    } catch (cause) {
      throw failed(`refused a secret: ${messageOf(cause)}`, cause)
    }
  }

  /** Whether this event has come since the conversation began. */
  hasSeen(event: string): boolean {
    return this.#events.has(event)
  }

  get hasEnded(): boolean {
    return this.#ended !== undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#output.destroy()
    this.#end(new Error('the connection was closed'))
  }

  async #next(): Promise<unknown> {
    if (this.#ended) throw this.#ended
    let timer: NodeJS.Timeout | undefined
    try {
      return await new Promise((resolve, reject) => {
        timer = setTimeout(
          () => this.#end(new Error(`no answer within ${COMMAND_TIMEOUT_MS} ms`)),
          COMMAND_TIMEOUT_MS,
        )
        this.#waiting.push({ resolve, reject })
      })
    } finally {
      clearTimeout(timer)
    }
  }

  #read(text: string): void {
    if (this.#ended) return
    // only what is new is searched: a line may come in pieces of one character
    const [first = '', ...more] = text.split('\n')
    this.#text += first
    for (const next of more) {
      this.#take(this.#text)
      this.#text = next
    }
    if (this.#text.length > MAX_LINE_CHARACTERS) this.#end(new Error('a line is too long'))
  }

  #take(line: string): void {
    let message: Message
    try {
      message = JSON.parse(line)
    } catch {
      this.#end(new Error('QEMU does not speak JSON'))
      return
    }
    if (typeof message.event === 'string') {
      if (this.#events.size < MAX_EVENTS) this.#events.add(message.event)
      return
    }
    const waiting = this.#waiting.shift()
    if (message.error) waiting?.reject(new Error(String(message.error.desc)))
    else waiting?.resolve(message.return)
  }

  #end(error: Error): void {
    this.#ended ??= error
    for (const { reject } of this.#waiting.splice(0)) reject(this.#ended)
  }
}

function failed(what: string, cause: unknown): PlatformError {
  return new PlatformError('VM_PROCESS', `qemu ${what}`, { cause })
}
