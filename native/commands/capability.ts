import { parseUtf8 } from '../../src/core/bytes.js'
import { ByteReader } from '../../src/core/reader.js'
import { type HashName, hashById, type TpmProperties } from '../../src/tpm/index.js'
import { slot, takeResult } from '../marshal.js'
import { isMissingHandle, tpmError } from '../tpm-error.js'
import { ESYS_TR, esys } from '../tss2/esys.js'

const { NONE } = ESYS_TR

/** @see TPM 2.0 Library, Part 2, clause 6.12 (TPM_CAP) */
const CAPABILITIES = { handles: 1, pcrs: 5, properties: 6 } as const
/** @see TPM 2.0 Library, Part 2, clause 6.13 (TPM_PT) */
const PROPERTIES = {
  manufacturer: 0x105,
  vendorString1: 0x106,
  vendorString4: 0x109,
  firmwareVersion1: 0x10b,
  firmwareVersion2: 0x10c,
} as const
/** First handles of kinds. @see TPM 2.0 Library, Part 2, clause 7.2 (TPM_HT) */
const HANDLES = {
  hmacSession: 0x02000000,
  policySession: 0x03000000,
  transient: 0x80000000,
} as const
const MOST_HANDLES = 64

/** Commands about the TPM itself. */
export function capabilityCommands(context: number) {
  const more = slot()
  const data = slot()

  const capability = async (kind: number, first: number, count: number): Promise<ByteReader> => {
    const code = await esys.Esys_GetCapability(
      ...([context, NONE, NONE, NONE, kind, first, count, more, data] as const),
    )
    if (code !== 0) throw tpmError('GetCapability', code)
    const reader = new ByteReader(takeResult('TPMS_CAPABILITY_DATA', data), 'big')
    reader.u32()
    return reader
  }

  const handles = async (first: number): Promise<readonly number[]> => {
    const reader = await capability(CAPABILITIES.handles, first, MOST_HANDLES)
    return Array.from({ length: reader.u32() }, () => reader.u32())
  }

  const flushHandle = async (handle: number): Promise<boolean> => {
    const object = slot()
    const found = await esys.Esys_TR_FromTPMPublic(context, handle, NONE, NONE, NONE, object)
    if (isMissingHandle(found)) return false
    if (found !== 0) throw tpmError('TR_FromTPMPublic', found)
    const code = await esys.Esys_FlushContext(context, object.readUInt32LE())
    if (code !== 0) throw tpmError('FlushContext', code)
    return true
  }

  return {
    async properties(): Promise<TpmProperties> {
      const reader = await capability(CAPABILITIES.properties, PROPERTIES.manufacturer, 8)
      const values = new Map(
        Array.from({ length: reader.u32() }, () => [reader.u32(), reader.u32()] as const),
      )
      const text = (property: number) => textOf(values.get(property) ?? 0)
      let vendorString = ''
      for (let p = PROPERTIES.vendorString1; p <= PROPERTIES.vendorString4; p += 1) {
        vendorString += text(p)
      }
      const firmware = [PROPERTIES.firmwareVersion1, PROPERTIES.firmwareVersion2]
        .map((property) => (values.get(property) ?? 0).toString(16).padStart(8, '0'))
        .join('.')
      const banks = await capability(CAPABILITIES.pcrs, 0, 1)
      return {
        manufacturer: text(PROPERTIES.manufacturer),
        vendorString,
        firmwareVersion: firmware,
        activeBanks: activeBanks(banks.rest()),
      }
    },

    /**
     * Flushes keys and sessions of earlier processes. Only a TPM without a resource manager shows any.
     *
     * @param own sessions to keep, as ESYS knows them
     */
    async flushLeftovers(own: readonly number[]): Promise<number> {
      let flushed = 0
      for (const handle of await handles(HANDLES.transient)) {
        if (await flushHandle(handle)) flushed += 1
      }
      const keep = new Set<number>()
      for (const session of own) keep.add(await tpmHandleOf(context, session))
      const loaded = [
        ...(await handles(HANDLES.hmacSession)),
        ...(await handles(HANDLES.policySession)),
      ]
      for (const handle of new Set(loaded)) {
        if (!keep.has(handle) && (await flushHandle(handle))) flushed += 1
      }
      return flushed
    },
  }
}

/** The handle that the TPM has for an object of ESYS: the name of a session is its handle. */
async function tpmHandleOf(context: number, object: number): Promise<number> {
  const name = slot()
  const code = await esys.Esys_TR_GetName(context, object, name)
  if (code !== 0) throw tpmError('TR_GetName', code)
  const octets = takeResult('TPM2B_NAME', name)
  return new ByteReader(octets.subarray(2), 'big').u32()
}

function activeBanks(selections: Uint8Array): readonly HashName[] {
  const reader = new ByteReader(selections, 'big')
  const count = reader.u32()
  const banks: HashName[] = []
  for (let index = 0; index < count; index += 1) {
    const bank = hashById(reader.u16())?.name
    const bitmap = reader.take(reader.u8())
    if (bank && bitmap.some((octet) => octet !== 0)) banks.push(bank)
  }
  return banks
}

function textOf(value: number): string {
  const octets = Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value)
  return parseUtf8(octets.filter((octet) => octet >= 0x20 && octet < 0x7f)).trim()
}
