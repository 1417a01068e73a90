import { parseUtf8 } from '../../src/core/bytes.js'
import { ByteReader } from '../../src/core/reader.js'
import { type HashName, hashById, type TpmProperties } from '../../src/tpm/index.js'
import { integerIn, slot, takeResult } from '../marshal.js'
import { flushHandle } from '../sessions.js'
import { isMissingHandle, tpmError } from '../tpm-error.js'
import { ESYS_TR, esys } from '../tss2/esys.js'

const { NONE } = ESYS_TR

/** @see TPM 2.0 Library, Part 2, clause 6.12 (TPM_CAP) */
const CAPABILITIES = { handles: 1, pcrs: 5, properties: 6 } as const
/** @see TPM 2.0 Library, Part 2, clause 6.13 (TPM_PT) */
export const PROPERTIES = {
  manufacturer: 0x105,
  vendorString1: 0x106,
  vendorString4: 0x109,
  firmwareVersion1: 0x10b,
  firmwareVersion2: 0x10c,
  nvBufferMax: 0x12c,
} as const
/**
 * First handles of what an earlier process can have left. Not sessions that are saved: behind a resource manager those
 * are of other processes.
 *
 * @see TPM 2.0 Library, Part 2, clause 7.2 (TPM_HT)
 */
const LEFTOVERS = { loadedSession: 0x02000000, transient: 0x80000000 } as const
/** More than any TPM has slots of one kind. */
const MOST_HANDLES = 64

/** Commands about the TPM itself. */
export function capabilityCommands(context: number) {
  const object = slot()

  const tpmHandleOf = async (handle: number): Promise<number> => {
    const code = await esys.Esys_TR_GetTpmHandle(context, handle, object)
    if (code !== 0) throw tpmError('TR_GetTpmHandle', code)
    return integerIn(object)
  }

  const handlesFrom = async (first: number): Promise<readonly number[]> => {
    const reader = await readCapability(context, CAPABILITIES.handles, first, MOST_HANDLES)
    return Array.from({ length: reader.u32() }, () => reader.u32())
  }

  const flushTpmHandle = async (handle: number): Promise<boolean> => {
    const found = await esys.Esys_TR_FromTPMPublic(context, handle, NONE, NONE, NONE, object)
    if (isMissingHandle(found)) return false
    if (found !== 0) throw tpmError('TR_FromTPMPublic', found)
    await flushHandle(context, integerIn(object))
    return true
  }

  return {
    async properties(): Promise<TpmProperties> {
      const { manufacturer, vendorString1, firmwareVersion1, firmwareVersion2 } = PROPERTIES
      const count = firmwareVersion2 - manufacturer + 1
      const values = await readProperties(context, manufacturer, count)
      const value = (property: number): number => values.get(property) ?? 0
      const vendorString = [0, 1, 2, 3].map((part) => textOf(value(vendorString1 + part))).join('')
      const firmwareVersion = [firmwareVersion1, firmwareVersion2]
        .map((property) => value(property).toString(16).padStart(8, '0'))
        .join('.')
      const banks = await readCapability(context, CAPABILITIES.pcrs, 0, 1)
      return {
        manufacturer: textOf(value(manufacturer)),
        vendorString,
        firmwareVersion,
        activeBanks: activeBanks(banks),
      }
    },

    /**
     * Flushes keys and loaded sessions of earlier processes. Behind the kernel's resource manager there are none.
     *
     * @param own keys and sessions to keep, as ESYS knows them
     */
    async flushLeftovers(own: readonly number[]): Promise<number> {
      const keep = new Set<number>()
      for (const handle of own) keep.add(await tpmHandleOf(handle))
      const found = new Set<number>()
      for (const first of Object.values(LEFTOVERS)) {
        for (const handle of await handlesFrom(first)) found.add(handle)
      }
      let flushed = 0
      for (const handle of found) {
        if (!keep.has(handle) && (await flushTpmHandle(handle))) flushed += 1
      }
      return flushed
    },
  }
}

/** Values of TPM properties, from `first` on. A TPM leaves out those that it does not have. */
export async function readProperties(
  context: number,
  first: number,
  count: number,
): Promise<ReadonlyMap<number, number>> {
  const reader = await readCapability(context, CAPABILITIES.properties, first, count)
  return new Map(Array.from({ length: reader.u32() }, () => [reader.u32(), reader.u32()] as const))
}

/** The list in a TPMS_CAPABILITY_DATA. */
async function readCapability(
  context: number,
  kind: number,
  first: number,
  count: number,
): Promise<ByteReader> {
  const more = slot()
  const data = slot()
  const code = await esys.Esys_GetCapability(
    ...([context, NONE, NONE, NONE, kind, first, count, more, data] as const),
  )
  if (code !== 0) throw tpmError('GetCapability', code)
  const reader = new ByteReader(takeResult('TPMS_CAPABILITY_DATA', data), 'big')
  reader.u32()
  return reader
}

function activeBanks(selections: ByteReader): readonly HashName[] {
  const count = selections.u32()
  const banks: HashName[] = []
  for (let index = 0; index < count; index += 1) {
    const bank = hashById(selections.u16())?.name
    const bitmap = selections.take(selections.u8())
    if (bank && bitmap.some((octet) => octet !== 0)) banks.push(bank)
  }
  return banks
}

/** The printable characters of the four octets. */
function textOf(value: number): string {
  const octets = Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value)
  return parseUtf8(octets.filter((octet) => octet >= 0x20 && octet < 0x7f)).trim()
}
