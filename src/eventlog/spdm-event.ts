import { ByteReader } from '../core/reader.js'
import { parseDevicePath } from './device-path.js'
import { latinText, printable } from './printable.js'
import { must, takeSized } from './sized.js'

/** What a device said of itself over SPDM, as the firmware logged it. */
export interface SpdmEvent {
  readonly version: number
  readonly deviceType: 'pci' | 'usb' | 'none' | number
  /** How the firmware authenticated the device; version 2 alone. */
  readonly authentication?: string
  readonly devicePath?: string
  readonly holds: 'measurements' | 'certificate-chain' | 'other'
  /** The measurement blocks or the certificate chain, unread. */
  readonly octets: number
  /** What follows them: the identity of the device. */
  readonly device?: PciIdentity
}

interface PciIdentity {
  readonly vendorId: number
  readonly deviceId: number
  readonly subsystemVendorId: number
  readonly subsystemId: number
}

const SIGNATURE_OCTETS = 16
const DEVICE_TYPES = ['none', 'pci', 'usb'] as const
const PCI = 1
const HOLDS = ['measurements', 'certificate-chain'] as const
const AUTHENTICATION: Readonly<Record<number, string>> = {
  0: 'succeeded',
  1: 'not done',
  2: 'no binding of the measurements',
  3: 'no signature',
  4: 'signature not valid',
  255: 'device without SPDM',
}

/** @throws DecodeError @see TCG PC Client Platform Firmware Profile, clause 10.2.7 (DEVICE_SECURITY_EVENT_DATA) */
export function parseSpdmEvent(data: Uint8Array): SpdmEvent {
  return readSpdmEvent(new ByteReader(data, 'little'))
}

export function readSpdmEvent(reader: ByteReader): SpdmEvent {
  const signature = latinText(reader.take(SIGNATURE_OCTETS))
  if (signature === 'SPDM Device Sec') return readFirstVersion(reader)
  must(signature === 'SPDM Device Sec2', reader, 'the data of a device security event')
  return readSecondVersion(reader)
}

function readFirstVersion(reader: ByteReader): SpdmEvent {
  const version = reader.u16()
  reader.take(6)
  const deviceType = reader.u32()
  // An SPDM measurement block: index, specification, size of the measurement.
  reader.take(2)
  const { length } = reader.take(reader.u16())
  return { version, ...deviceOf(deviceType, reader), holds: 'measurements', octets: length }
}

function readSecondVersion(reader: ByteReader): SpdmEvent {
  const version = reader.u16()
  const state = reader.u8()
  reader.take(5)
  const [deviceType, contentType, contentOctets] = [reader.u32(), reader.u32(), reader.u32()]
  reader.u64()
  const path = takeSized(reader, reader.u64())
  const { length } = reader.take(contentOctets)
  return {
    version,
    authentication: AUTHENTICATION[state] ?? `state ${state}`,
    ...(path.length > 0 ? { devicePath: parseDevicePath(path).text } : {}),
    ...deviceOf(deviceType, reader),
    holds: HOLDS[contentType] ?? 'other',
    octets: length,
  }
}

function deviceOf(type: number, reader: ByteReader): Pick<SpdmEvent, 'deviceType' | 'device'> {
  const deviceType = DEVICE_TYPES[type] ?? type
  if (type !== PCI) return { deviceType }
  // Version and length of the context, then identifiers with revision and class between them.
  reader.take(4)
  const [vendorId, deviceId] = [reader.u16(), reader.u16()]
  reader.take(4)
  const [subsystemVendorId, subsystemId] = [reader.u16(), reader.u16()]
  return { deviceType, device: { vendorId, deviceId, subsystemVendorId, subsystemId } }
}

/** What follows the signature of a nonce or a transcript that is new at each boot. @throws DecodeError */
export function readSpdmDynamic(reader: ByteReader): {
  readonly uid: bigint
  readonly description: string
  readonly data: Uint8Array
} {
  reader.take(8)
  const uid = reader.u64()
  const description = printable(latinText(reader.take(reader.u16())))
  const data = reader.take(reader.u16())
  reader.end('the dynamic event')
  return { uid, description, data }
}
