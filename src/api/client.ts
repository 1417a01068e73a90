import type { TObject, TSchema } from 'typebox'
import { Value } from 'typebox/value'
import { Agent, type Dispatcher, request } from 'undici'
import { ERROR_CODES, type ErrorCode } from '../core/error-codes.js'
import { messageOf, PlatformError } from '../core/errors.js'
import { Problem } from './common.js'
import type { AnswerOf, BodyOf, Operation, ParamsOf, QueryOf } from './operation.js'

/** What a call takes: members that the operation does not have are left out. */
export interface CallInput<O> {
  readonly params?: ParamsOf<O>
  readonly query?: QueryOf<O>
  readonly body?: BodyOf<O>
}

/** An error that the other side answered, with its request id for the administrator of that side. */
export class AnsweredError extends PlatformError {
  readonly status: number
  readonly requestId: string

  constructor(code: ErrorCode, message: string, status: number, requestId: string) {
    super(code, message)
    this.status = status
    this.requestId = requestId
  }
}

export interface Client extends AsyncDisposable {
  /**
   * Calls an operation once.
   *
   * @throws AnsweredError with the code of the problem document; `REQUEST_INVALID` for a parameter that no path can have;
   *   `AUTHORITY_UNREACHABLE`, on a socket `AGENT_UNREACHABLE`, where nobody answers in time or what answers is not what the
   *   operation says
   */
  call<O extends Operation<TObject, TObject, TSchema, TSchema>>(
    operation: O,
    input: CallInput<O>,
    headers?: Readonly<Record<string, string>>,
    /** Gives the call up: it throws `AUTHORITY_UNREACHABLE` then. */
    signal?: AbortSignal,
  ): Promise<AnswerOf<O>>
  /** The URL that a call goes to, as a DPoP proof names it. */
  urlOf(operation: Operation, params?: Readonly<Record<string, unknown>>): string
}

export interface ClientOptions {
  /** `https://authority.example:8440`, or `http://localhost` with `socketPath`. */
  readonly baseUrl: string
  /** The only authorities that the server's certificate may come from, PEM. */
  readonly caPem?: string
  /** A unix socket to speak through. */
  readonly socketPath?: string
  readonly bearerToken?: string
  readonly timeoutMs?: number
  readonly maxAnswerOctets?: number
}

/** A client for the operations of this folder: one deadline, one size limit, one trust anchor for all calls. */
export function createClient(options: ClientOptions): Client {
  const timeout = options.timeoutMs ?? 30_000
  const maxAnswerOctets = options.maxAnswerOctets ?? 4 * 1024 * 1024
  const dispatcher: Dispatcher = new Agent({
    connect: {
      timeout: Math.min(timeout, 5_000),
      ...(options.caPem === undefined ? {} : { ca: options.caPem }),
      ...(options.socketPath === undefined ? {} : { socketPath: options.socketPath }),
    },
    headersTimeout: timeout,
    bodyTimeout: timeout,
    maxResponseSize: maxAnswerOctets,
  })
  const urlOf: Client['urlOf'] = (operation, params) =>
    options.baseUrl.replace(/\/$/, '') + fillPath(operation.path, params ?? {})

  return {
    urlOf,
    async call(operation, input, headers = {}, signal) {
      const url = new URL(urlOf(operation, input.params))
      for (const [name, value] of Object.entries(input.query ?? {})) {
        if (value !== undefined) url.searchParams.set(name, String(value))
      }
      const unreachable = (why: string, cause?: unknown): PlatformError =>
        options.socketPath === undefined
          ? new PlatformError(
              'AUTHORITY_UNREACHABLE',
              `no usable answer from ${url.origin}: ${why}`,
              { cause },
            )
          : new PlatformError(
              'AGENT_UNREACHABLE',
              `no usable answer on the socket ${options.socketPath}: ${why}`,
              { cause },
            )
      const { status, body } = await send(url, {
        method: operation.method,
        dispatcher,
        headers: {
          accept: 'application/json',
          ...(operation.body === undefined ? {} : { 'content-type': 'application/json' }),
          ...(options.bearerToken === undefined
            ? {}
            : { authorization: `Bearer ${options.bearerToken}` }),
          ...headers,
        },
        body: operation.body === undefined ? null : JSON.stringify(input.body ?? {}),
        signal: signal
          ? AbortSignal.any([AbortSignal.timeout(timeout), signal])
          : AbortSignal.timeout(timeout),
      }).catch((cause: unknown) => {
        throw unreachable(messageOf(cause), cause)
      })
      if (status !== operation.status) {
        throw (
          answeredError(status, body) ?? unreachable(`status ${status} without a problem document`)
        )
      }
      if (!Value.Check(operation.answer, body)) {
        throw unreachable(`${operation.id} was not answered in the expected form`)
      }
      return body as AnswerOf<typeof operation>
    },
    async [Symbol.asyncDispose]() {
      await dispatcher.close()
    },
  }
}

function fillPath(path: string, params: Readonly<Record<string, unknown>>): string {
  return path.replace(/:([A-Za-z]+)/g, (_, name: string) => {
    const value = params[name]
    if (typeof value !== 'string') throw new TypeError(`no parameter ${name} for ${path}`)
    // No encoding keeps these from being taken as steps of the path: it would be another operation that is called
    if (/^\.{0,2}$/.test(value)) {
      throw new PlatformError('REQUEST_INVALID', `expected a value for ${name}, found '${value}'`)
    }
    // a part that is no name but a way to another path
    if (value === '.' || value === '..') {
      throw new PlatformError('REQUEST_INVALID', `expected ${name}, found ${value}`)
    }
    return encodeURIComponent(value)
  })
}

async function send(
  url: URL,
  options: Parameters<typeof request>[1] & object,
): Promise<{ readonly status: number; readonly body: unknown }> {
  const answer = await request(url, options)
  const text = await answer.body.text()
  return { status: answer.statusCode, body: text === '' ? undefined : JSON.parse(text) }
}

function answeredError(status: number, body: unknown): AnsweredError | undefined {
  if (!Value.Check(Problem, body)) return undefined
  const { code, title, detail, requestId } = body
  const message = detail ?? title
  return isErrorCode(code)
    ? new AnsweredError(code, message, status, requestId)
    : new AnsweredError('INTERNAL', `${code}: ${message}`, status, requestId)
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERROR_CODES, code)
}
