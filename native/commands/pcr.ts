import { PlatformError } from '../../src/core/errors.js'
import { ByteReader, ByteWriter } from '../../src/core/reader.js'
import {
  type BankDigest,
  encodePcrSelections,
  HASH_ALGORITHMS,
  type HashName,
  parsePcrSelections,
} from '../../src/tpm/index.js'
import { InputStruct, integerIn, release, slot, takeResult } from '../marshal.js'
import type { Sessions } from '../sessions.js'
import { tpmError } from '../tpm-error.js'
import { ESYS_TR, esys } from '../tss2/esys.js'

const { NONE } = ESYS_TR
/** How often reading begins again because a PCR changed meanwhile. */
const READ_TRIES = 5
/** @see PC Client Platform TPM Profile, clause 4.6 */
const PCR_COUNT = 24

/** Commands about PCRs. */
export function pcrCommands(context: number, sessions: Sessions) {
  const selectionIn = new InputStruct('TPML_PCR_SELECTION')
  const digestsIn = new InputStruct('TPML_DIGEST_VALUES')
  const counter = slot()
  const selectionOut = slot()
  const values = slot()

  /** The TPM answers at most eight values at a time, and says which. */
  const readSome = async (bank: HashName, pcrs: readonly number[]) => {
    const selection = selectionIn.from(encodePcrSelections([{ bank, pcrs }]))
    const code = await esys.Esys_PCR_Read(
      ...([context, NONE, NONE, NONE, selection, counter, selectionOut, values] as const),
    )
    if (code !== 0) throw tpmError('PCR_Read', code)
    try {
      const read = parsePcrSelections(takeResult('TPML_PCR_SELECTION', selectionOut))
      const digests = new ByteReader(takeResult('TPML_DIGEST', values), 'big')
      const count = digests.u32()
      const indexes = read.flatMap((selected) => selected.pcrs)
      if (indexes.length !== count) throw inactive(bank)
      return {
        counter: integerIn(counter),
        values: indexes.map((pcr) => [pcr, digests.take(digests.u16())] as const),
      }
    } finally {
      release(selectionOut, values)
    }
  }

  /** All values as they were at one moment, or nothing where a PCR changed meanwhile. */
  const readAll = async (bank: HashName, pcrs: readonly number[]) => {
    const all = new Map<number, Uint8Array>()
    const missing = new Set(pcrs)
    let before: number | undefined
    while (missing.size > 0) {
      const some = await readSome(bank, [...missing])
      if (before !== undefined && before !== some.counter) return undefined
      before = some.counter
      const asked = some.values.filter(([pcr]) => missing.delete(pcr))
      if (asked.length === 0) throw inactive(bank)
      for (const [pcr, value] of asked) all.set(pcr, value)
    }
    return all
  }

  return {
    async pcrRead(
      bank: HashName,
      pcrs: readonly number[],
    ): Promise<ReadonlyMap<number, Uint8Array>> {
      for (let tries = READ_TRIES; tries > 0; tries -= 1) {
        const all = await readAll(bank, pcrs)
        if (all) return all
      }
      throw new PlatformError('TPM_PCRS_BUSY', `PCRs changed ${READ_TRIES} times while being read`)
    },

    async pcrExtend(pcr: number, digests: readonly BankDigest[]): Promise<void> {
      if (!Number.isInteger(pcr) || pcr < 0 || pcr >= PCR_COUNT)
        throw new TypeError(`no PCR ${pcr}`)
      const writer = new ByteWriter('big').u32(digests.length)
      for (const { bank, digest } of digests) {
        const { id, digestOctets } = HASH_ALGORITHMS[bank]
        if (digest.length !== digestOctets) {
          throw new TypeError(`a digest of ${digestOctets} octets for ${bank}`)
        }
        writer.u16(id).put(digest)
      }
      const list = digestsIn.from(writer.finish())
      const code = await esys.Esys_PCR_Extend(
        ...([context, ESYS_TR.PCR0 + pcr, sessions.authorisation, NONE, NONE, list] as const),
      )
      if (code !== 0) throw tpmError('PCR_Extend', code)
    },
  }
}

function inactive(bank: HashName): PlatformError {
  return new PlatformError('TPM_BANK', `expected PCR bank ${bank} to be active, found it is not`)
}
