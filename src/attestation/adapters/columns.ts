import { Value } from 'typebox/value'
import { BootView } from '../../api/attestation.js'

/** Accepted PCR digests by index as one JSON column: `{"0":["…"],"7":["…"]}`; one alone may stand without brackets. */
export function textOfPcrs(pcrs: ReadonlyMap<number, readonly string[]>): string {
  return JSON.stringify(Object.fromEntries(pcrs))
}

export function parsePcrs(text: string): ReadonlyMap<number, readonly string[]> {
  const columns = JSON.parse(text) as Record<string, string | readonly string[]>
  return new Map(Object.entries(columns).map(([pcr, digests]) => [Number(pcr), [digests].flat()]))
}

/** The member `boot` of a row that may have none, ready to be spread into a record. */
export function parseBoot(text: string | null): { readonly boot?: BootView } {
  return text === null ? {} : { boot: Value.Parse(BootView, JSON.parse(text)) }
}
