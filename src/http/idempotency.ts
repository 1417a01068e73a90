import { createHash } from 'node:crypto'
import { type CanonicalValue, canonicalJson } from '../core/canonical-json.js'
import { PlatformError } from '../core/errors.js'

/** Where answers are kept that a caller may ask for again. */
export interface IdempotencyStore {
  /**
   * Takes a key for a request.
   *
   * @returns `new` where it was free; the answer where the same request was answered before; `open` where it was taken
   *   and never answered; `other` where it was used for another request
   */
  begin(
    scope: string,
    key: string,
    requestDigest: string,
  ): Promise<'new' | 'open' | 'other' | { readonly answer: unknown }>
  /** Keeps the answer, sealed. */
  finish(scope: string, key: string, answer: unknown): Promise<void>
  /** Gives a key back: the request failed and changed nothing. */
  abandon(scope: string, key: string): Promise<void>
}

const KEY = /^[\x21-\x7e]{8,128}$/

/**
 * Does what a request asks for once, however often it comes with the same key.
 *
 * A process that ended in the middle leaves a key of which nobody knows whether its request was done: it answers
 * `IDEMPOTENCY_UNKNOWN`, and the caller has to look.
 *
 * @see draft-ietf-httpapi-idempotency-key-header-07
 */
export async function once<A>(
  store: IdempotencyStore,
  request: { readonly scope: string; readonly key: string; readonly content: unknown },
  work: () => Promise<A>,
): Promise<A> {
  const { scope, key } = request
  if (!KEY.test(key)) {
    const expected = 'expected an Idempotency-Key of 8 to 128 visible characters'
    throw new PlatformError('REQUEST_INVALID', expected)
  }
  const content = canonicalJson(request.content as CanonicalValue)
  const digest = createHash('sha256').update(content).digest('hex')
  const before = await store.begin(scope, key, digest)
  if (typeof before === 'object') return before.answer as A
  if (before === 'other') {
    throw new PlatformError(
      'IDEMPOTENCY_MISMATCH',
      'expected the request that the key was used for',
    )
  }
  if (before === 'open') {
    throw new PlatformError(
      'IDEMPOTENCY_UNKNOWN',
      'the request is under way, or was never answered',
    )
  }
  let answer: A
  try {
    answer = await work()
  } catch (error) {
    await store.abandon(scope, key)
    throw error
  }
  await store.finish(scope, key, answer)
  return answer
}
