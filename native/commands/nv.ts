import { concat } from '../../src/core/bytes.js'
import { DecodeError } from '../../src/core/errors.js'
import { ByteReader } from '../../src/core/reader.js'
import { slot, takeResult } from '../marshal.js'
import type { Sessions } from '../sessions.js'
import { isMissingHandle, tpmError } from '../tpm-error.js'
import { ESYS_TR, esys } from '../tss2/esys.js'

const { NONE } = ESYS_TR
/** Octets in one read: every TPM has a buffer of at least this size. @see PC Client Platform TPM Profile, clause 4.2 */
const CHUNK_OCTETS = 512
const MAX_INDEX_OCTETS = 4096
/** TPMA_NV_AUTHREAD. @see TPM 2.0 Library, Part 2, clause 13.4 */
const AUTH_READ = 1 << 18

/** Commands about NV memory. */
export function nvCommands(context: number, sessions: Sessions) {
  const object = slot()
  const data = slot()

  const readPublic = async (handle: number) => {
    const nvPublic = slot()
    const name = slot()
    const code = await esys.Esys_NV_ReadPublic(context, handle, NONE, NONE, NONE, nvPublic, name)
    if (code !== 0) throw tpmError('NV_ReadPublic', code)
    takeResult('TPM2B_NAME', name)
    const reader = new ByteReader(takeResult('TPM2B_NV_PUBLIC', nvPublic), 'big')
    reader.take(2 + 4 + 2)
    const attributes = reader.u32()
    reader.take(reader.u16())
    return { attributes, size: reader.u16() }
  }

  const readChunk = async (authority: number, handle: number, size: number, offset: number) => {
    const code = await esys.Esys_NV_Read(
      ...([context, authority, handle, sessions.authorisation, NONE, NONE] as const),
      ...([size, offset, data] as const),
    )
    if (code !== 0) throw tpmError('NV_Read', code)
    return takeResult('TPM2B_MAX_NV_BUFFER', data).subarray(2)
  }

  return {
    async nvRead(index: number): Promise<Uint8Array | undefined> {
      const found = await esys.Esys_TR_FromTPMPublic(context, index, NONE, NONE, NONE, object)
      if (isMissingHandle(found)) return undefined
      if (found !== 0) throw tpmError('TR_FromTPMPublic', found)
      const handle = object.readUInt32LE()
      try {
        const { attributes, size } = await readPublic(handle)
        if (size > MAX_INDEX_OCTETS) {
          throw new DecodeError(
            'DECODE_TOO_LARGE',
            0,
            `expected an NV index of at most ${MAX_INDEX_OCTETS} octets, found ${size}`,
          )
        }
        const authority = (attributes & AUTH_READ) !== 0 ? handle : ESYS_TR.RH_OWNER
        const chunks: Uint8Array[] = []
        for (let offset = 0; offset < size; offset += CHUNK_OCTETS) {
          const length = Math.min(CHUNK_OCTETS, size - offset)
          chunks.push(await readChunk(authority, handle, length, offset))
        }
        return concat(...chunks)
      } finally {
        object.writeUInt32LE(handle)
        await esys.Esys_TR_Close(context, object)
      }
    },
  }
}
