import { Agent, type Dispatcher, request } from 'undici'
import { parseUtf8 } from '../../core/bytes.js'
import type { Clock } from '../../core/clock.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { parseStrictJson } from '../../core/strict-json.js'
import { type OutsideKeys, readOutsideKeys } from '../../tokens/index.js'

/** A key set that lacks a key is asked for again, but not more often than this. */
const REFETCH_MS = 30_000
/** A key that the provider took back is trusted no longer than this. */
const FRESH_MS = 10 * 60_000
/** While the provider does not answer, its keys of before count for so long. */
const USABLE_MS = 60 * 60_000
const TIMEOUT_MS = 5_000
const MAX_OCTETS = 256 * 1024
const JSON_LIMITS = { maxDepth: 8, maxItems: 2_000 } as const

/** The keys of an outside provider, fetched over TLS from where its discovery document says. */
export interface OidcKeys extends AsyncDisposable {
  /**
   * The key set, which has the key `kid` if the provider has published it: it is asked again for a key that is not there, at
   * most every 30 s however many keys strangers invent.
   *
   * @throws PlatformError `UNAVAILABLE` where the provider does not answer and has not within the hour
   */
  keysFor(kid: string): Promise<OutsideKeys>
}

/** @see OpenID Connect Discovery 1.0, section 4 */
export function oidcKeys(options: {
  readonly issuer: string
  readonly caPem: string | undefined
  readonly clock: Clock
}): OidcKeys {
  const { issuer, caPem, clock } = options
  const dispatcher = new Agent({
    connect: { timeout: TIMEOUT_MS, ...(caPem === undefined ? {} : { ca: caPem }) },
    maxResponseSize: MAX_OCTETS,
  })
  let kept: { readonly keys: OutsideKeys; readonly atMs: number } | undefined
  let askedAtMs = Number.NEGATIVE_INFINITY
  let asking: Promise<void> | undefined
  let failure: unknown

  const ask = async (): Promise<void> => {
    askedAtMs = clock.monotonicMs()
    try {
      kept = { keys: await fetchKeys(issuer, dispatcher), atMs: clock.monotonicMs() }
      failure = undefined
    } catch (error) {
      failure = error
    }
  }
  return {
    async keysFor(kid) {
      const ageMs = () => clock.monotonicMs() - (kept?.atMs ?? Number.NEGATIVE_INFINITY)
      if (!kept?.keys.has(kid) || ageMs() > FRESH_MS) {
        if (!asking && clock.monotonicMs() - askedAtMs > REFETCH_MS) {
          asking = ask().finally(() => {
            asking = undefined
          })
        }
        await asking
      }
      if (kept && ageMs() <= USABLE_MS) return kept.keys
      const message = `no keys of ${issuer}: ${messageOf(failure)}`
      throw new PlatformError('UNAVAILABLE', message, { cause: failure })
    },
    [Symbol.asyncDispose]: () => dispatcher.destroy(),
  }
}

async function fetchKeys(issuer: string, dispatcher: Dispatcher): Promise<OutsideKeys> {
  const base = issuer.replace(/\/$/, '')
  const discovery = await fetchJson(`${base}/.well-known/openid-configuration`, dispatcher)
  const { issuer: found, jwks_uri: uri } = (discovery ?? {}) as Readonly<Record<string, unknown>>
  if (found !== issuer) {
    throw new PlatformError('UNAVAILABLE', `expected the discovery document of ${issuer}`)
  }
  if (typeof uri !== 'string' || !uri.startsWith('https://')) {
    throw new PlatformError('UNAVAILABLE', 'expected an https URL as jwks_uri')
  }
  return readOutsideKeys(await fetchJson(uri, dispatcher))
}

/** A JSON document. Redirects are not followed: they could lead away from what was configured. */
async function fetchJson(url: string, dispatcher: Dispatcher): Promise<unknown> {
  const answer = await request(url, {
    dispatcher,
    headers: { accept: 'application/json' },
    headersTimeout: TIMEOUT_MS,
    bodyTimeout: TIMEOUT_MS,
    signal: AbortSignal.timeout(TIMEOUT_MS),
  })
  const octets = new Uint8Array(await answer.body.arrayBuffer())
  if (answer.statusCode !== 200) {
    throw new PlatformError('UNAVAILABLE', `${url} answered status ${answer.statusCode}`)
  }
  return parseStrictJson(parseUtf8(octets), JSON_LIMITS)
}
