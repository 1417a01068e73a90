import { Value } from 'typebox/value'
import {
  MAX_BATCH_ITEMS,
  releaseKeys,
  rewrapKeys,
  SealedKeysContent,
  unwrapKeys,
  wrapKeys,
} from '../../api/key-provider.js'
import { fromBase64url, parseUtf8, toBase64url } from '../../core/bytes.js'
import { ERROR_CODES, type ErrorCode } from '../../core/error-codes.js'
import { PlatformError } from '../../core/errors.js'
import { Secret } from '../../core/secret.js'
import type { Tpm } from '../../tpm/index.js'
import type { KeyClient, KeyToUnwrap } from '../vm/ports.js'
import type { Authority } from './authority.js'
import { openAnswer } from './open-answer.js'

/** Keys from the key provider: wrapped and unwrapped for this host, answers opened by its session key or its TPM. */
export function createKeyClient(authority: Authority, tpm: () => Promise<Tpm>): KeyClient {
  return {
    async wrap(provider, items) {
      const { items: wrapped } = await authority.call(wrapKeys, {
        params: { provider },
        body: {
          items: limited(items).map(({ purpose, context, dek }) => ({
            purpose,
            context,
            dek: dek.use(toBase64url),
          })),
        },
      })
      requireAll(wrapped, items.length)
      return wrapped.map((item) => (item.ok ? item.wrapped : ''))
    },

    async unwrap(provider, items, assurance) {
      const session = await authority.session()
      const answer = await authority.call(unwrapKeys, {
        params: { provider },
        body: {
          assurance,
          items: limited(items).map(itemOf),
        },
      })
      requireAll(answer.items, items.length)
      const plaintext = await openAnswer(answer.sealed, session, assurance, tpm)
      try {
        return secretsOf(plaintext, items.length)
      } finally {
        plaintext.fill(0)
      }
    },

    async rewrap(provider, items) {
      const body = { items: limited(items).map(itemOf) }
      const answer = await authority.call(rewrapKeys, { params: { provider }, body })
      requireAll(answer.items, items.length)
      return answer.items.map((item) => (item.ok ? item.wrapped : ''))
    },

    async release(provider, items) {
      const body = { items: limited(items).map(itemOf) }
      // An item that the provider does not open is nothing that it counts, and trying again would not change it.
      await authority.call(releaseKeys, { params: { provider }, body })
    },
  }
}

function itemOf({ wrapped, purpose, context }: KeyToUnwrap) {
  return { wrapped, purpose, context }
}

function secretsOf(plaintext: Uint8Array, count: number): readonly Secret[] {
  const content = Value.Parse(SealedKeysContent, JSON.parse(parseUtf8(plaintext)))
  const byItem = new Map(content.keys.map(({ item, dek }) => [item, dek]))
  return Array.from({ length: count }, (_, item) => {
    const dek = byItem.get(item)
    if (dek === undefined) {
      throw new PlatformError('AGENT_ANSWER', `expected a key for item ${item}, found none`)
    }
    return new Secret(fromBase64url(dek))
  })
}

function limited<T>(items: readonly T[]): readonly T[] {
  if (items.length === 0 || items.length > MAX_BATCH_ITEMS) {
    throw new TypeError(`1 to ${MAX_BATCH_ITEMS} items fit in one call`)
  }
  return items
}

type Item =
  | { readonly ok: true }
  | { readonly ok: false; readonly code: string; readonly message: string }

function requireAll(items: readonly Item[], count: number): void {
  if (items.length !== count) {
    throw new PlatformError('AGENT_ANSWER', `expected ${count} items, found ${items.length}`)
  }
  for (const item of items) {
    if (!item.ok) throw new PlatformError(knownCode(item.code), item.message)
  }
}

function knownCode(code: string): ErrorCode {
  return Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : 'INTERNAL'
}
