import { Value } from 'typebox/value'
import { BootView } from '../../api/attestation.js'

/** PCR digests by index as one JSON column: `{"0":"…","7":"…"}`. */
export function textOfPcrs(pcrs: ReadonlyMap<number, string>): string {
  return JSON.stringify(Object.fromEntries(pcrs))
}

export function parsePcrs(text: string): ReadonlyMap<number, string> {
  const columns = JSON.parse(text) as Record<string, string>
  return new Map(Object.entries(columns).map(([pcr, digest]) => [Number(pcr), digest]))
}

/** The member `boot` of a row that may have none, ready to be spread into a record. */
export function parseBoot(text: string | null): { readonly boot?: BootView } {
  return text === null ? {} : { boot: Value.Parse(BootView, JSON.parse(text)) }
}
