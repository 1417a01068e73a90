const PAGE_ITEMS = 100
/** How many are looked at in one go for those that are visible. */
const BATCH_ITEMS = 500

/** Items in the order of their list: behind one, and how many at most. */
export interface StoredPage {
  readonly after?: string | undefined
  readonly limit?: number | undefined
}

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

/** The same of a list of which the caller does not see everything: pages are as long as they can be all the same. */
export function readVisiblePage<T>(
  request: StoredPage,
  read: (page: StoredPage) => Promise<readonly T[]>,
  visible: (items: readonly T[]) => Promise<readonly T[]>,
  placeOf: (item: T) => string,
): Promise<Page<T>> {
  return readPage(
    request,
    async ({ after, limit = PAGE_ITEMS }) => {
      const found: T[] = []
      let from = after
      for (;;) {
        const batch = await read({ after: from, limit: BATCH_ITEMS })
        found.push(...(await visible(batch)))
        const last = batch.at(-1)
        if (found.length >= limit || batch.length < BATCH_ITEMS || last === undefined) {
          return found.slice(0, limit)
        }
        from = placeOf(last)
      }
    },
    placeOf,
  )
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
