import { BootView } from '../../api/base-images.js'
import { jsonColumn, keptByText } from '../../store/index.js'

/** Accepted PCR digests by index as one JSON column: `{"0":["…"],"7":["…"]}`; one alone may stand without brackets. */
export function textOfPcrs(pcrs: ReadonlyMap<number, readonly string[]>): string {
  return JSON.stringify(Object.fromEntries(pcrs))
}

export const parsePcrs = keptByText((text): ReadonlyMap<number, readonly string[]> => {
  const columns = JSON.parse(text) as Record<string, string | readonly string[]>
  return new Map(Object.entries(columns).map(([pcr, digests]) => [Number(pcr), [digests].flat()]))
})

const readBoot = jsonColumn(BootView)

/** The member `boot` of a row that may have none, ready to be spread into a record. */
export function parseBoot(text: string | null): { readonly boot?: BootView } {
  return text === null ? {} : { boot: readBoot(text) }
}
