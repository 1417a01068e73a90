import { concat } from '../../src/core/bytes.js'
import { DecodeError } from '../../src/core/errors.js'
import { ByteReader } from '../../src/core/reader.js'
import { integerIn, release, slot, takeResult } from '../marshal.js'
import type { Sessions } from '../sessions.js'
import { isMissingHandle, tpmError } from '../tpm-error.js'
import { ESYS_TR, esys } from '../tss2/esys.js'
import { PROPERTIES, readProperties } from './capability.js'

const { NONE, RH_OWNER } = ESYS_TR
/** An endorsement certificate is below; the largest index of most TPMs too. */
const MAX_INDEX_OCTETS = 4096
/** Octets in one read where the TPM states no limit: every TPM has a buffer of this size. */
const DEFAULT_CHUNK_OCTETS = 512
/** TPM2B_MAX_NV_BUFFER of tpm2-tss has room for no more. */
const MAX_CHUNK_OCTETS = 2048

/** Commands about NV memory. */
export function nvCommands(context: number, sessions: Sessions) {
  const object = slot()
  const publicOut = slot()
  const nameOut = slot()
  const dataOut = slot()

  const sizeOf = async (handle: number): Promise<number> => {
    const code = await esys.Esys_NV_ReadPublic(
      ...([context, handle, NONE, NONE, NONE, publicOut, nameOut] as const),
    )
    release(nameOut)
    if (code !== 0) throw tpmError('NV_ReadPublic', code)
    const reader = new ByteReader(takeResult('TPM2B_NV_PUBLIC', publicOut), 'big')
    // size of the TPMS_NV_PUBLIC, nvIndex, nameAlg, attributes
    reader.take(2 + 4 + 2 + 4)
    reader.take(reader.u16())
    return reader.u16()
  }

  /** Octets in one read. */
  const chunkOctets = async (): Promise<number> => {
    const properties = await readProperties(context, PROPERTIES.nvBufferMax, 1)
    const stated = properties.get(PROPERTIES.nvBufferMax) || DEFAULT_CHUNK_OCTETS
    return Math.min(stated, MAX_CHUNK_OCTETS)
  }

  const readChunk = async (handle: number, size: number, offset: number): Promise<Uint8Array> => {
    const code = await esys.Esys_NV_Read(
      ...([context, RH_OWNER, handle, sessions.authorisation, NONE, NONE] as const),
      ...([size, offset, dataOut] as const),
    )
    if (code !== 0) throw tpmError('NV_Read', code)
    return takeResult('TPM2B_MAX_NV_BUFFER', dataOut).subarray(2)
  }

  const readAll = async (handle: number): Promise<Uint8Array> => {
    const size = await sizeOf(handle)
    if (size > MAX_INDEX_OCTETS) {
      throw new DecodeError(
        'DECODE_TOO_LARGE',
        0,
        `expected an NV index of at most ${MAX_INDEX_OCTETS} octets, found ${size}`,
      )
    }
    const chunk = await chunkOctets()
    const chunks: Uint8Array[] = []
    for (let offset = 0; offset < size; offset += chunk) {
      chunks.push(await readChunk(handle, Math.min(chunk, size - offset), offset))
    }
    return concat(...chunks)
  }

  return {
    async nvRead(index: number): Promise<Uint8Array | undefined> {
      const found = await esys.Esys_TR_FromTPMPublic(context, index, NONE, NONE, NONE, object)
      if (isMissingHandle(found)) return undefined
      if (found !== 0) throw tpmError('TR_FromTPMPublic', found)
      try {
        return await readAll(integerIn(object))
      } finally {
        await esys.Esys_TR_Close(context, object)
      }
    },
  }
}
