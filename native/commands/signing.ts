import { equalBytes } from '../../src/core/bytes.js'
import { PlatformError } from '../../src/core/errors.js'
import {
  type Attest,
  type Attested,
  encodePcrSelections,
  encodeSized,
  type LoadedKey,
  parseAttest,
  type QuoteRequest,
} from '../../src/tpm/index.js'
import { InputStruct, release, slot, takeResult } from '../marshal.js'
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
 * and the result is signed), and costs milliseconds in tpm2-tss 3.2, which makes an OpenSSL library context for every
 * hash. See docs/decisions/0005-sessions.md.
 */
export function signingCommands(context: number, sessions: Sessions) {
  const qualifyingIn = new InputStruct('TPM2B_DATA')
  const schemeIn = new InputStruct('TPMT_SIG_SCHEME')
  const pcrsIn = new InputStruct('TPML_PCR_SELECTION')
  const attestOut = slot()
  const signatureOut = slot()

  const qualifying = (data: Uint8Array) => {
    if (data.length > MAX_QUALIFYING_OCTETS) {
      throw new TypeError(`qualifying data of at most ${MAX_QUALIFYING_OCTETS} octets`)
    }
    return qualifyingIn.from(encodeSized(data))
  }

  /** What the TPM signed, once it is seen to be about what was asked. **The signature is not verified.** */
  const takeAttested = (
    qualifyingData: Uint8Array,
    isAsked: (attest: Attest) => boolean,
  ): Attested => {
    try {
      const attest = takeResult('TPM2B_ATTEST', attestOut).subarray(2)
      const signature = takeResult('TPMT_SIGNATURE', signatureOut)
      const parsed = parseAttest(attest)
      if (!equalBytes(parsed.extraData, qualifyingData) || !isAsked(parsed)) {
        throw new PlatformError('TPM_ANSWER', 'expected an attestation of what was asked')
      }
      return { attest, signature }
    } finally {
      release(attestOut, signatureOut)
    }
  }

  return {
    async quote({ key, qualifyingData, bank, pcrs }: QuoteRequest): Promise<Attested> {
      const selection = encodePcrSelections([{ bank, pcrs }])
      const code = await esys.Esys_Quote(
        ...([context, key.handle, PASSWORD, NONE, NONE] as const),
        qualifying(qualifyingData),
        schemeIn.from(NO_SCHEME),
        pcrsIn.from(selection),
        ...([attestOut, signatureOut] as const),
      )
      if (code !== 0) throw tpmError('Quote', code)
      return takeAttested(
        qualifyingData,
        (attest) =>
          attest.type === 'quote' && equalBytes(encodePcrSelections(attest.selections), selection),
      )
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
      return takeAttested(
        qualifyingData,
        (attest) => attest.type === 'certify' && equalBytes(attest.name, object.name),
      )
    },
  }
}
