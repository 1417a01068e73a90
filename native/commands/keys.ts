import { equalBytes } from '../../src/core/bytes.js'
import { PlatformError } from '../../src/core/errors.js'
import {
  encodeSized,
  type Hierarchy,
  type KeyBlob,
  type LoadedKey,
  nameOf,
  parsePublicArea,
  parseSized,
} from '../../src/tpm/index.js'
import { InputStruct, integerIn, release, slot, takeResult } from '../marshal.js'
import {
  EMPTY_LIST,
  EMPTY_SENSITIVE,
  EMPTY_SIZED,
  flushHandle,
  type Sessions,
} from '../sessions.js'
import { isMissingHandle, tpmError } from '../tpm-error.js'
import { ESYS_TR, esys } from '../tss2/esys.js'

const { NONE } = ESYS_TR
const HIERARCHIES: Readonly<Record<Hierarchy, number>> = {
  owner: ESYS_TR.RH_OWNER,
  endorsement: ESYS_TR.RH_ENDORSEMENT,
}
const MAX_PUBLIC_OCTETS = 1024

/**
 * Commands that make, load and flush keys.
 *
 * @param keysInTpm handles of the keys that are loaded: kept up to date here
 */
export function keyCommands(context: number, sessions: Sessions, keysInTpm: Set<number>) {
  const sensitiveIn = new InputStruct('TPM2B_SENSITIVE_CREATE')
  const publicIn = new InputStruct('TPM2B_PUBLIC')
  const privateIn = new InputStruct('TPM2B_PRIVATE')
  const outsideIn = new InputStruct('TPM2B_DATA')
  const pcrsIn = new InputStruct('TPML_PCR_SELECTION')
  const object = slot()
  const privateOut = slot()
  const publicOut = slot()
  const nameOut = slot()
  const creationOut = [slot(), slot(), slot()] as const

  const createIn = (template: Uint8Array) =>
    [
      sensitiveIn.from(EMPTY_SENSITIVE),
      publicIn.from(encodeSized(template)),
      outsideIn.from(EMPTY_SIZED),
      pcrsIn.from(EMPTY_LIST),
    ] as const

  /** Handles of keys that stay in the TPM when this side forgets them. */
  const persistent = new Set<number>()

  const nameInTpm = async (handle: number): Promise<Uint8Array> => {
    const code = await esys.Esys_TR_GetName(context, handle, nameOut)
    if (code !== 0) throw tpmError('TR_GetName', code)
    return takeResult('TPM2B_NAME', nameOut).subarray(2)
  }

  /** The key under a handle that the TPM just gave; where its name is not that of `publicBlob`, it is flushed. */
  const loadedKey = async (handle: number, publicBlob: Uint8Array): Promise<LoadedKey> => {
    keysInTpm.add(handle)
    try {
      const publicArea = parseSized(publicBlob, 'TPM2B_PUBLIC', MAX_PUBLIC_OCTETS)
      const name = await nameInTpm(handle)
      if (!equalBytes(name, nameOf(parsePublicArea(publicArea)))) {
        throw new PlatformError('TPM_ANSWER', 'expected the name of the public area, found another')
      }
      return { handle, publicArea, name }
    } catch (error) {
      await flush(handle).catch((): undefined => undefined)
      throw error
    }
  }

  const flush = async (handle: number): Promise<void> => {
    if (persistent.delete(handle)) {
      object.octets.writeUInt32LE(handle)
      await esys.Esys_TR_Close(context, object)
    } else {
      await flushHandle(context, handle)
    }
    keysInTpm.delete(handle)
  }

  return {
    async createPrimary(hierarchy: Hierarchy, template: Uint8Array): Promise<LoadedKey> {
      const code = await esys.Esys_CreatePrimary(
        ...([context, HIERARCHIES[hierarchy], sessions.authorisation, NONE, NONE] as const),
        ...createIn(template),
        ...([object, publicOut, ...creationOut] as const),
      )
      release(...creationOut)
      if (code !== 0) throw tpmError('CreatePrimary', code)
      return loadedKey(integerIn(object), takeResult('TPM2B_PUBLIC', publicOut))
    },

    async create(parent: LoadedKey, template: Uint8Array): Promise<KeyBlob> {
      const code = await esys.Esys_Create(
        ...([context, parent.handle, sessions.authorisation, NONE, NONE] as const),
        ...createIn(template),
        ...([privateOut, publicOut, ...creationOut] as const),
      )
      release(...creationOut)
      if (code !== 0) throw tpmError('Create', code)
      try {
        return {
          privateBlob: takeResult('TPM2B_PRIVATE', privateOut),
          publicBlob: takeResult('TPM2B_PUBLIC', publicOut),
        }
      } finally {
        release(privateOut, publicOut)
      }
    },

    async load(parent: LoadedKey, blob: KeyBlob): Promise<LoadedKey> {
      const code = await esys.Esys_Load(
        ...([context, parent.handle, sessions.authorisation, NONE, NONE] as const),
        privateIn.from(blob.privateBlob),
        publicIn.from(blob.publicBlob),
        object,
      )
      if (code !== 0) throw tpmError('Load', code)
      return loadedKey(integerIn(object), Uint8Array.from(blob.publicBlob))
    },

    async openPersistent(tpmHandle: number): Promise<LoadedKey | undefined> {
      const found = await esys.Esys_TR_FromTPMPublic(context, tpmHandle, NONE, NONE, NONE, object)
      if (isMissingHandle(found)) return undefined
      if (found !== 0) throw tpmError('TR_FromTPMPublic', found)
      const handle = integerIn(object)
      persistent.add(handle)
      const code = await esys.Esys_ReadPublic(
        ...([context, handle, NONE, NONE, NONE, publicOut, nameOut, privateOut] as const),
      )
      release(nameOut, privateOut)
      if (code !== 0) {
        await flush(handle)
        throw tpmError('ReadPublic', code)
      }
      return loadedKey(handle, takeResult('TPM2B_PUBLIC', publicOut))
    },

    flush: (key: LoadedKey): Promise<void> => flush(key.handle),
  }
}
