import { concat, equalBytes } from '../../src/core/bytes.js'
import { PlatformError } from '../../src/core/errors.js'
import {
  encodePcrSelections,
  encodeSized,
  type HashName,
  type KeyBlob,
  type LoadedKey,
  nameOfSealedObject,
  parseSized,
} from '../../src/tpm/index.js'
import { InputStruct, integerIn, release, slot, takeResult } from '../marshal.js'
import { EMPTY_LIST, EMPTY_SIZED, flushHandle, type Sessions } from '../sessions.js'
import { foreignObjectError, tpmError } from '../tpm-error.js'
import { ESYS_TR, esys } from '../tss2/esys.js'

const { NONE } = ESYS_TR
const MAX_PUBLIC_OCTETS = 1024

/** Commands that keep data in an object of the TPM, and give it back. */
export function sealingCommands(context: number, sessions: Sessions) {
  const sensitiveIn = new InputStruct('TPM2B_SENSITIVE_CREATE')
  const publicIn = new InputStruct('TPM2B_PUBLIC')
  const privateIn = new InputStruct('TPM2B_PRIVATE')
  const outsideIn = new InputStruct('TPM2B_DATA')
  const creationPcrsIn = new InputStruct('TPML_PCR_SELECTION')
  const pcrsIn = new InputStruct('TPML_PCR_SELECTION')
  const object = slot()
  const privateOut = slot()
  const publicOut = slot()
  const nameOut = slot()
  const dataOut = slot()
  const creationOut = [slot(), slot(), slot()] as const

  /** The TPM's own name of an object, which must be that of the public area that was asked for. */
  const requireName = async (handle: number, publicBlob: Uint8Array): Promise<void> => {
    const code = await esys.Esys_TR_GetName(context, handle, nameOut)
    if (code !== 0) throw tpmError('TR_GetName', code)
    const name = takeResult('TPM2B_NAME', nameOut).subarray(2)
    const publicArea = parseSized(publicBlob, 'TPM2B_PUBLIC', MAX_PUBLIC_OCTETS)
    if (!equalBytes(name, nameOfSealedObject(publicArea))) {
      throw new PlatformError('TPM_ANSWER', 'expected the name of the public area, found another')
    }
  }

  const unseal = (handle: number, selection: ReturnType<InputStruct['from']>) =>
    sessions.withPolicy(async (session) => {
      const held = await esys.Esys_PolicyPCR(
        ...([context, session, NONE, NONE, NONE, null, selection] as const),
      )
      if (held !== 0) throw tpmError('PolicyPCR', held)
      const code = await esys.Esys_Unseal(
        ...([context, handle, session, sessions.confidential, NONE, dataOut] as const),
      )
      if (code !== 0) throw tpmError('Unseal', code)
      return takeResult('TPM2B_SENSITIVE_DATA', dataOut).subarray(2)
    })

  return {
    async seal(parent: LoadedKey, template: Uint8Array, data: Uint8Array): Promise<KeyBlob> {
      const inner = concat(EMPTY_SIZED, encodeSized(data))
      const sensitive = encodeSized(inner)
      try {
        const code = await sessions.concealed((session) =>
          esys.Esys_Create(
            ...([context, parent.handle, sessions.authorisation, session, NONE] as const),
            ...([
              sensitiveIn.from(sensitive),
              publicIn.from(encodeSized(template)),
              outsideIn.from(EMPTY_SIZED),
              creationPcrsIn.from(EMPTY_LIST),
            ] as const),
            ...([privateOut, publicOut, ...creationOut] as const),
          ),
        )
        release(...creationOut)
        if (code !== 0) throw tpmError('Create', code)
        return {
          privateBlob: takeResult('TPM2B_PRIVATE', privateOut),
          publicBlob: takeResult('TPM2B_PUBLIC', publicOut),
        }
      } finally {
        release(privateOut, publicOut)
        sensitiveIn.forget()
        inner.fill(0)
        sensitive.fill(0)
      }
    },

    async unsealWithPcrPolicy(
      parent: LoadedKey,
      blob: KeyBlob,
      policy: { readonly bank: HashName; readonly pcrs: readonly number[] },
    ): Promise<Uint8Array> {
      const selection = pcrsIn.from(encodePcrSelections([policy]))
      const code = await esys.Esys_Load(
        ...([context, parent.handle, sessions.authorisation, NONE, NONE] as const),
        privateIn.from(blob.privateBlob),
        publicIn.from(blob.publicBlob),
        object,
      )
      if (code !== 0) throw foreignObjectError('Load', code)
      const handle = integerIn(object)
      try {
        await requireName(handle, blob.publicBlob)
        return await unseal(handle, selection)
      } finally {
        await flushHandle(context, handle)
      }
    },
  }
}
