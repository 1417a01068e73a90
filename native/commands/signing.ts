import {
  type Attested,
  encodePcrSelections,
  encodeSized,
  type LoadedKey,
  type QuoteRequest,
} from '../../src/tpm/index.js'
import { release, StructBuffer, slot, takeResult } from '../marshal.js'
import type { Sessions } from '../sessions.js'
import { tpmError } from '../tpm-error.js'
import { ESYS_TR, esys } from '../tss2/esys.js'

const { NONE, PASSWORD } = ESYS_TR
/** TPMT_SIG_SCHEME without a scheme: the key's own is used. */
const NO_SCHEME = Uint8Array.of(0x00, 0x10)
/** What the smallest TPMs take as qualifying data: a SHA-256 digest. */
const MAX_QUALIFYING_OCTETS = 32

/**
 * Commands that sign what the TPM itself made. Structures and places are used again: a quote is the hot path.
 *
 * A quote is authorised by the key's empty value as it is. An HMAC session would protect nothing (there is no secret,
 * and the result is signed), and costs five milliseconds in tpm2-tss 3.2, which makes an OpenSSL library context for
 * every hash. See docs/decisions/0005-sessions.md.
 */
export function signingCommands(context: number, sessions: Sessions) {
  const qualifyingIn = new StructBuffer('TPM2B_DATA')
  const schemeIn = new StructBuffer('TPMT_SIG_SCHEME')
  const pcrsIn = new StructBuffer('TPML_PCR_SELECTION')
  const attestOut = slot()
  const signatureOut = slot()

  const qualifying = (data: Uint8Array): Buffer => {
    if (data.length > MAX_QUALIFYING_OCTETS) {
      throw new TypeError(`qualifying data of at most ${MAX_QUALIFYING_OCTETS} octets`)
    }
    return qualifyingIn.from(encodeSized(data))
  }

  const takeAttested = (): Attested => {
    try {
      const attest = takeResult('TPM2B_ATTEST', attestOut)
      const signature = takeResult('TPMT_SIGNATURE', signatureOut)
      return { attest: attest.subarray(2), signature }
    } finally {
      release(attestOut, signatureOut)
    }
  }

  return {
    async quote({ key, qualifyingData, bank, pcrs }: QuoteRequest): Promise<Attested> {
      const code = await esys.Esys_Quote(
        ...([context, key.handle, PASSWORD, NONE, NONE] as const),
        qualifying(qualifyingData),
        schemeIn.from(NO_SCHEME),
        pcrsIn.from(encodePcrSelections([{ bank, pcrs }])),
        ...([attestOut, signatureOut] as const),
      )
      if (code !== 0) throw tpmError('Quote', code)
      return takeAttested()
    },

    async certify(
      object: LoadedKey,
      signer: LoadedKey,
      qualifyingData: Uint8Array,
    ): Promise<Attested> {
      const code = await esys.Esys_Certify(
        ...([context, object.handle, signer.handle] as const),
        ...([sessions.authorisation, sessions.confidential, NONE] as const),
        qualifying(qualifyingData),
        schemeIn.from(NO_SCHEME),
        ...([attestOut, signatureOut] as const),
      )
      if (code !== 0) throw tpmError('Certify', code)
      return takeAttested()
    },
  }
}
