import type { StoredPage } from '../ports.js'

const PAGE_ITEMS = 100

/** One page of a list, and where the next one begins. */
export interface Page<T> {
  readonly items: readonly T[]
  readonly next?: string
}

/** Reads one page: one item more than asked for tells that there is another. */
export async function readPage<T>(
  request: StoredPage,
  read: (page: StoredPage) => Promise<readonly T[]>,
  placeOf: (item: T) => string,
): Promise<Page<T>> {
  const limit = request.limit ?? PAGE_ITEMS
  const found = await read({ after: request.after, limit: limit + 1 })
  const last = found[limit - 1]
  return {
    items: found.slice(0, limit),
    ...(found.length > limit && last !== undefined ? { next: placeOf(last) } : {}),
  }
}

/** The same of a short list that is there as a whole, in the order of its places. */
export function pageOf<T>(
  all: readonly T[],
  request: StoredPage,
  placeOf: (item: T) => string,
): Promise<Page<T>> {
  const sorted = [...all].sort((a, b) => (placeOf(a) < placeOf(b) ? -1 : 1))
  return readPage(
    request,
    async ({ after, limit }) =>
      sorted.filter((item) => after === undefined || placeOf(item) > after).slice(0, limit),
    placeOf,
  )
}
