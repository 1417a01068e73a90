import type { TObject, TSchema } from 'typebox'
import { type CanonicalValue, canonicalJson } from '../core/canonical-json.js'
import { PlatformError } from '../core/errors.js'
import type { CallInput, Client } from './client.js'
import type { AnswerOf, Operation, QueryOf } from './operation.js'

/** An operation that answers a list in pages. */
type ListOperation = Operation<TObject, TObject, TSchema, TSchema>

const PAGE_ITEMS = 100

/**
 * Calls a list operation page by page, and answers as if it were one page: every item, or those behind `after`, or
 * `limit` of them.
 *
 * `next` is in the answer only where `limit` left something out. Items that are added or removed meanwhile may be in it
 * or not; every other one is, once.
 *
 * @param member the member of the answer that has the items
 * @throws PlatformError `CONFLICT` where what stands beside the items changed from one page to the next; as `Client.call`
 */
export async function everyPage<O extends ListOperation>(
  client: Client,
  operation: O,
  input: CallInput<O>,
  member: string,
  part: { readonly after?: string | undefined; readonly limit?: number | undefined } = {},
): Promise<AnswerOf<O>> {
  const items: unknown[] = []
  const limit = part.limit ?? Number.POSITIVE_INFINITY
  let after: unknown = part.after
  let beside: string | undefined
  for (;;) {
    const query = {
      ...input.query,
      limit: Math.min(PAGE_ITEMS, limit - items.length),
      ...(after === undefined ? {} : { after }),
    } as unknown as QueryOf<O>
    const answer = (await client.call(operation, { ...input, query })) as Record<string, unknown>
    const { [member]: page, next, ...others } = answer
    if (!Array.isArray(page)) throw new TypeError(`${operation.id} answers no list of ${member}`)
    const text = canonicalJson(others as CanonicalValue)
    if (beside !== undefined && beside !== text) {
      throw new PlatformError('CONFLICT', 'expected a list that stays, found it changed meanwhile')
    }
    beside = text
    items.push(...page)
    if (next === undefined || items.length >= limit) {
      return { ...answer, [member]: items } as AnswerOf<O>
    }
    after = next
  }
}
