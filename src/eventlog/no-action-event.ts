import { ByteReader } from '../core/reader.js'
import { parseDevicePath } from './device-path.js'
import { readGuid } from './guid.js'
import { latinText, printable, utf16Text } from './printable.js'
import { must, takeShort } from './sized.js'
import { readSpdmDynamic, readSpdmEvent, type SpdmEvent } from './spdm-event.js'

/** What an EV_NO_ACTION event tells. It extends no PCR: nothing of it is ever proved. */
export type NoActionEvent =
  | {
      readonly says: 'specification'
      readonly version: string
      readonly errata: number
      readonly algorithms: readonly { readonly id: number; readonly digestOctets: number }[]
    }
  | { readonly says: 'startup-locality'; readonly locality: number }
  | {
      readonly says: 'hcrtm-component'
      readonly description: string
      readonly format: number
      readonly measurement: Uint8Array
    }
  | PlatformId
  | { readonly says: 'spdm-instance'; readonly spdm: SpdmEvent }
  | {
      readonly says: 'spdm-dynamic'
      readonly uid: bigint
      readonly description: string
      readonly data: Uint8Array
    }

/** Where the firmware says that reference values of it are found (NIST SP 800-155). */
export interface PlatformId {
  readonly says: 'platform'
  readonly manufacturerId: number
  readonly referenceManifest: string
  readonly platform?: Maker
  readonly firmware?: Maker & { readonly manufacturerId: number }
  readonly manifestLocator?: Locator
  readonly certificateLocator?: Locator
}

interface Maker {
  readonly manufacturer: string
  readonly model?: string
  readonly version: string
}

type Locator =
  | { readonly kind: 'none' }
  | { readonly kind: 'data' | 'unknown'; readonly octets: number }
  | { readonly kind: 'uri' | 'device-path'; readonly text: string }
  | { readonly kind: 'variable'; readonly guid: string; readonly name: string }

const SIGNATURE_OCTETS = 16
const MAX_ALGORITHMS = 16

/**
 * Reads the data of EV_NO_ACTION by the signature that they begin with; nothing where the signature is not known.
 *
 * @throws DecodeError where the signature is known and what follows cannot be read
 * @see TCG PC Client Platform Firmware Profile, clause 10.4.5 (EV_NO_ACTION event types)
 */
export function parseNoAction(data: Uint8Array): NoActionEvent | undefined {
  const reader = new ByteReader(data, 'little')
  const signature = latinText(reader.take(Math.min(SIGNATURE_OCTETS, data.length)))
  switch (signature) {
    case 'Spec ID Event00':
    case 'Spec ID Event02':
    case 'Spec ID Event03':
      return readSpecification(reader, signature === 'Spec ID Event03')
    case 'StartupLocality': {
      const locality = reader.u8()
      reader.end('the start-up locality')
      return { says: 'startup-locality', locality }
    }
    case 'H-CRTM CompMeas':
      return readHcrtmComponent(reader)
    case 'SP800-155 Event':
      return readPlatformId(reader, 1)
    case 'SP800-155 Event2':
      return readPlatformId(reader, 2)
    case 'SP800-155 Event3':
      return readPlatformId(reader, 3)
    case 'NvIndexInstance':
      // Version and reserved octets stand before the event of the device.
      reader.take(8)
      return { says: 'spdm-instance', spdm: readSpdmEvent(reader) }
    case 'NvIndexDynamic ':
    case 'NvIndexDynamic':
      return { says: 'spdm-dynamic', ...readSpdmDynamic(reader) }
    default:
      return undefined
  }
}

function readSpecification(reader: ByteReader, hasAlgorithms: boolean): NoActionEvent {
  reader.u32()
  const [minor, major, errata] = [reader.u8(), reader.u8(), reader.u8()]
  reader.u8()
  const algorithms: { id: number; digestOctets: number }[] = []
  if (hasAlgorithms) {
    const count = reader.u32()
    must(count <= MAX_ALGORITHMS, reader, `at most ${MAX_ALGORITHMS} algorithms`)
    while (algorithms.length < count) {
      algorithms.push({ id: reader.u16(), digestOctets: reader.u16() })
    }
  }
  takeShort(reader)
  reader.end('the specification event')
  return { says: 'specification', version: `${major}.${minor}`, errata, algorithms }
}

function readHcrtmComponent(reader: ByteReader): NoActionEvent {
  const description = printable(latinText(takeShort(reader)))
  const format = reader.u8()
  const measurement = reader.take(reader.u16())
  reader.end('the H-CRTM component')
  return { says: 'hcrtm-component', description, format, measurement }
}

function readPlatformId(reader: ByteReader, revision: 1 | 2 | 3): PlatformId {
  const manufacturerId = reader.u32()
  const first = {
    says: 'platform',
    manufacturerId,
    referenceManifest: readGuid(reader),
  } as const
  if (revision === 1) return first
  const text = () => printable(latinText(takeShort(reader)))
  const platform = { manufacturer: text(), model: text(), version: text() }
  const firmware = { manufacturer: text(), manufacturerId: reader.u32(), version: text() }
  const second = { ...first, platform, firmware }
  if (revision === 2) return second
  return {
    ...second,
    manifestLocator: readLocator(reader),
    certificateLocator: readLocator(reader),
  }
}

function readLocator(reader: ByteReader): Locator {
  const type = reader.u32()
  const value = reader.take(reader.u32())
  if (value.length === 0) return { kind: 'none' }
  switch (type) {
    case 0:
      return { kind: 'data', octets: value.length }
    case 1:
      return { kind: 'uri', text: printable(latinText(value)) }
    case 2:
      return { kind: 'device-path', text: parseDevicePath(value).text }
    case 3: {
      const variable = new ByteReader(value, 'little')
      const guid = readGuid(variable)
      return { kind: 'variable', guid, name: printable(utf16Text(variable.rest())) }
    }
    default:
      return { kind: 'unknown', octets: value.length }
  }
}
