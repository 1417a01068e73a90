import { concat } from '../../src/core/bytes.js'
import { PlatformError } from '../../src/core/errors.js'
import { slot, takeResult } from '../marshal.js'
import type { Sessions } from '../sessions.js'
import { tpmError } from '../tpm-error.js'
import { ESYS_TR, esys } from '../tss2/esys.js'

const { NONE } = ESYS_TR

/** TPM2_GetRandom, encrypted on the way from the TPM. */
export function randomCommands(context: number, sessions: Sessions) {
  const place = slot()

  /** The TPM answers at most as many octets as its largest digest has. */
  const some = async (octets: number): Promise<Uint8Array> => {
    const code = await esys.Esys_GetRandom(
      ...([context, sessions.confidential, NONE, NONE, octets, place] as const),
    )
    if (code !== 0) throw tpmError('GetRandom', code)
    return takeResult('TPM2B_DIGEST', place).subarray(2)
  }

  return {
    async getRandom(octets: number): Promise<Uint8Array> {
      if (!Number.isInteger(octets) || octets < 1 || octets > MAX_OCTETS) {
        throw new TypeError(`from 1 to ${MAX_OCTETS} octets, not ${octets}`)
      }
      const parts: Uint8Array[] = []
      for (let missing = octets; missing > 0; ) {
        const part = await some(missing)
        if (part.length === 0 || part.length > missing) {
          throw new PlatformError(
            'TPM_ANSWER',
            `expected at most ${missing} random octets, found ${part.length}`,
          )
        }
        parts.push(part)
        missing -= part.length
      }
      return concat(...parts)
    },
  }
}

/** Nobody needs more of a TPM: it seeds. */
const MAX_OCTETS = 4096
