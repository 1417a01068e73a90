import { getJwks } from '../api/attestation.js'
import { createClient } from '../api/client.js'
import type { Clock } from '../core/clock.js'
import { importJwks, type VerificationKeys } from '../tokens/index.js'

/** A key set that lacks a key is asked for again, but not more often than this. */
const REFETCH_MS = 30_000

/** Where the keys of an attestation service come from. */
export type KeysOf = (issuer: string, kid: string) => Promise<VerificationKeys | undefined>

/** The attestation service of this process. */
export function localKeys(issuer: string, keys: () => VerificationKeys): KeysOf {
  return async (asked) => (asked === issuer ? keys() : undefined)
}

/** An attestation service elsewhere: its key set is fetched over TLS, and again when a token names another key. */
export function remoteKeys(options: {
  readonly issuer: string
  readonly caPem: string | undefined
  readonly clock: Clock
}): KeysOf {
  const { issuer, clock } = options
  const client = createClient({
    baseUrl: issuer.replace(/\/attestation$/, ''),
    ...(options.caPem === undefined ? {} : { caPem: options.caPem }),
  })
  let keys: VerificationKeys | undefined
  let fetchedAtMs = Number.NEGATIVE_INFINITY
  return async (asked, kid) => {
    if (asked !== issuer) return undefined
    const stale = clock.monotonicMs() - fetchedAtMs > REFETCH_MS
    if (!keys?.has(kid) && stale) {
      fetchedAtMs = clock.monotonicMs()
      keys = await importJwks(await client.call(getJwks, {}))
    }
    return keys
  }
}
