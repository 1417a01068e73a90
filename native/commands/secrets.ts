import {
  encodePcrSelections,
  encodeSized,
  type HashName,
  type LoadedKey,
  parsePublicArea,
} from '../../src/tpm/index.js'
import { InputStruct, release, slot, takeResult } from '../marshal.js'
import { EMPTY_SIZED, type Sessions } from '../sessions.js'
import { decryptError, tpmError } from '../tpm-error.js'
import { ESYS_TR, esys } from '../tss2/esys.js'

const { NONE, PASSWORD } = ESYS_TR
/** TPMT_RSA_DECRYPT without a scheme: the key's own is used. */
const NO_SCHEME = Uint8Array.of(0x00, 0x10)

/** Commands that the TPM answers with a secret: the answer is encrypted on its way from the TPM. */
export function secretCommands(context: number, sessions: Sessions) {
  const credentialIn = new InputStruct('TPM2B_ID_OBJECT')
  const seedIn = new InputStruct('TPM2B_ENCRYPTED_SECRET')
  const pcrsIn = new InputStruct('TPML_PCR_SELECTION')
  const cipherIn = new InputStruct('TPM2B_PUBLIC_KEY_RSA')
  const schemeIn = new InputStruct('TPMT_RSA_DECRYPT')
  const labelIn = new InputStruct('TPM2B_DATA')
  const secretOut = slot()
  const timeoutOut = slot()
  const ticketOut = slot()

  const policySecretOfEndorsement = async (session: number): Promise<void> => {
    const code = await esys.Esys_PolicySecret(
      ...([context, ESYS_TR.RH_ENDORSEMENT, session, sessions.authorisation, NONE, NONE] as const),
      ...([null, null, null, 0, timeoutOut, ticketOut] as const),
    )
    release(timeoutOut, ticketOut)
    if (code !== 0) throw tpmError('PolicySecret', code)
  }

  return {
    async activateCredential(
      ek: LoadedKey,
      ak: LoadedKey,
      credentialBlob: Uint8Array,
      encryptedSecret: Uint8Array,
    ): Promise<Uint8Array> {
      const activate = async (ekSession: number): Promise<Uint8Array> => {
        const code = await esys.Esys_ActivateCredential(
          ...([context, ak.handle, ek.handle] as const),
          ...([sessions.authorisation, ekSession, sessions.confidential] as const),
          credentialIn.from(credentialBlob),
          seedIn.from(encryptedSecret),
          secretOut,
        )
        if (code !== 0) throw tpmError('ActivateCredential', code)
        return takeResult('TPM2B_DIGEST', secretOut).subarray(2)
      }
      if (parsePublicArea(ek.publicArea).attributes.userWithAuth) return activate(PASSWORD)
      return sessions.withPolicy(async (session) => {
        await policySecretOfEndorsement(session)
        return activate(session)
      })
    },

    async rsaDecryptWithPcrPolicy(
      key: LoadedKey,
      policy: { readonly bank: HashName; readonly pcrs: readonly number[] },
      ciphertext: Uint8Array,
    ): Promise<Uint8Array> {
      const selection = pcrsIn.from(encodePcrSelections([policy]))
      const cipher = cipherIn.from(encodeSized(ciphertext))
      return sessions.withPolicy(async (session) => {
        const held = await esys.Esys_PolicyPCR(
          ...([context, session, NONE, NONE, NONE, null, selection] as const),
        )
        if (held !== 0) throw tpmError('PolicyPCR', held)
        const code = await esys.Esys_RSA_Decrypt(
          ...([context, key.handle, session, sessions.confidential, NONE, cipher] as const),
          schemeIn.from(NO_SCHEME),
          labelIn.from(EMPTY_SIZED),
          secretOut,
        )
        if (code !== 0) throw decryptError(code)
        return takeResult('TPM2B_PUBLIC_KEY_RSA', secretOut).subarray(2)
      })
    },
  }
}
