import { equalBytes, toHex } from '../core/bytes.js'
import { type Finding, failed, passed } from '../core/finding.js'
import type { ImaEntry, ImaProgress } from './entry.js'
import { readImaList } from './read-list.js'
import { extendIma, type ImaExtension, startOfIma } from './replay.js'

export interface ImaVerdict {
  readonly findings: readonly Finding[]
  /** Entries that the quoted PCR proves, those that were proved before not among them. */
  readonly proved: readonly ImaEntry[]
  /** Where the list stands now; absent where it was not proved. */
  readonly progress?: ImaProgress
  /** Entries after those: made since the quote, and not looked at. */
  readonly later: number
}

const EXTENSIONS: readonly ImaExtension[] = ['own-digest', 'padded-sha1']

/**
 * Replays a list up to the quoted value of PCR 10.
 *
 * The list may have grown since the quote was made: what is after the entry that leads to the quoted value bears no
 * trust. The first part may be left out where it was proved before in the same boot: `from` says where to go on.
 *
 * Calls `pause` every few hundred entries, so that a long list does not hold up others.
 *
 * @throws DecodeError where the list cannot be read up to the quoted value, or beyond
 */
export async function verifyImaList(
  list: Uint8Array,
  input: {
    readonly from: ImaProgress
    readonly quoted: Uint8Array
    readonly pause?: () => Promise<void>
  },
): Promise<ImaVerdict> {
  const { from, quoted } = input
  const entries: ImaEntry[] = []
  let running = EXTENSIONS.map((extension) => ({ extension, progress: from }))
  let found: { readonly extension: ImaExtension; readonly progress: ImaProgress } | undefined =
    equalBytes(from.value, quoted) ? running[0] : undefined
  let later = 0
  for (const entry of readImaList(list)) {
    if (found) {
      later += 1
      continue
    }
    entries.push(entry)
    running = running.map(({ extension, progress }) => ({
      extension,
      progress: extendIma(progress, entry, extension),
    }))
    found = running.find(({ progress }) => equalBytes(progress.value, quoted))
    if (entries.length % PAUSE_EVERY === 0) await input.pause?.()
  }
  if (!found) {
    const reached = running[0]?.progress.value ?? startOfIma(from.bank).value
    return {
      findings: [
        failed('ima.replay', 'IMA_REPLAY', toHex(quoted), `${toHex(reached)} at the end`, {
          pcr: 10,
        }),
      ],
      proved: [],
      later: 0,
    }
  }
  const { extension, progress } = found
  const quirk = extension === 'padded-sha1' && entries.length > 0 ? ', SHA-1 with zeros' : ''
  const text = `${progress.entries} entries, ${entries.length} of them new${quirk}`
  return { findings: [passed('ima.replay', text)], proved: entries, progress, later }
}

const PAUSE_EVERY = 256
