import { equalBytes, toHex } from '../core/bytes.js'
import { type FailedFinding, type Finding, failed, passed } from '../core/finding.js'
import type { ImaEntry, ImaProgress } from './entry.js'
import { IMA_LIMITS, readImaList } from './read-list.js'
import { extendIma, IMA_PCR, type ImaExtension, startOfIma } from './replay.js'

export interface ImaVerdict {
  readonly findings: readonly Finding[]
  /** Entries that the quoted PCR proves, those that were proved before not among them. */
  readonly proved: readonly ImaEntry[]
  /** Where the list stands now; absent where it was not proved. */
  readonly progress?: ImaProgress
  /** Entries after those: made since the quote, and not looked at. */
  readonly later: number
}

const PAUSE_EVERY = 256
const EXTENSIONS: readonly ImaExtension[] = ['own-digest', 'padded-sha1']

/**
 * Replays a list up to the quoted value of PCR 10.
 *
 * The list may have grown since the quote was made: what is after the entry that leads to the quoted value bears no
 * trust. The first part may be left out where it was proved before in the same boot: `from` says where to go on.
 *
 * A list in which nothing is proved at all is refused. Entries of other PCRs than 10 are among the proved ones, and are not
 * proved: `judgeImaEntries` refuses them.
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
  for (const entry of readImaList(list, IMA_LIMITS, from.entries)) {
    if ((entries.length + later) % PAUSE_EVERY === PAUSE_EVERY - 1) await input.pause?.()
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
  }
  if (!found) {
    const reached = running[0]?.progress.value ?? startOfIma(from.bank).value
    const reading = `${toHex(reached)} at the end`
    return refusal(failed('ima.replay', 'IMA_REPLAY', toHex(quoted), reading, { pcr: IMA_PCR }))
  }
  const { extension, progress } = found
  if (progress.entries === 0) return refusal(nothingMeasured(quoted))
  const quirk = extension === 'padded-sha1' && entries.length > 0 ? ', SHA-1 with zeros' : ''
  const text = `${progress.entries} entries, ${entries.length} of them new${quirk}`
  return { findings: [passed('ima.replay', text)], proved: entries, progress, later }
}

/** A kernel that measures begins with the boot aggregate: one that measured nothing says nothing of what runs. */
function nothingMeasured(quoted: Uint8Array): FailedFinding {
  const where = { pcr: IMA_PCR }
  return failed('ima.replay', 'IMA_MISSING', 'at least one measurement', toHex(quoted), where)
}

function refusal(finding: FailedFinding): ImaVerdict {
  return { findings: [finding], proved: [], later: 0 }
}
