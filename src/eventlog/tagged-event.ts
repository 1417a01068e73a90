import { ByteReader } from '../core/reader.js'
import { latinText, printable, utf16Text } from './printable.js'

/** A tagged event of a Linux system. */
export interface TaggedEvent {
  readonly id: number
  /** Who writes this tag for what; nothing where Sigillo does not know it. */
  readonly name?: string
  readonly text: string
  /** Octets of the data behind the header of the tag. */
  readonly data: Uint8Array
}

/**
 * @see Linux, drivers/firmware/efi/libstub/efistub.h
 * @see systemd, TPM2 PCR Measurements Made by systemd
 */
const NAMES: ReadonlyMap<number, string> = new Map([
  [0x8f3b_22ec, 'Linux: initrd'],
  [0x8f3b_22ed, 'Linux: load options'],
  [0xf5bc_582a, 'systemd-boot: loader.conf'],
  [0x6c46_f751, 'systemd-stub: device tree add-on'],
  [0x49df_fe0f, 'systemd-stub: initrd add-on'],
  [0xdac0_8e1a, 'systemd-stub: microcode add-on'],
  [0x13ae_d6db, 'systemd-stub: profile of the unified kernel image'],
  [0xd5cb_7cbc, 'systemd: SMBIOS type 1'],
  [0xe0d4_7bc8, 'systemd: SMBIOS type 2'],
  [0xc0b3_bd23, 'systemd: SMBIOS type 11'],
  [0x4141_454c, 'Confidential Containers: attestation agent'],
])

/**
 * Reads TCG_PCClientTaggedEvent, to the last octet.
 *
 * @throws DecodeError
 * @see TCG PC Client Platform Firmware Profile, clause 10.4.2 (TCG_PCClientTaggedEvent)
 */
export function parseTaggedEvent(octets: Uint8Array): TaggedEvent {
  const reader = new ByteReader(octets, 'little')
  const id = reader.u32()
  const data = reader.take(reader.u32())
  reader.end('a tagged event')
  const name = NAMES.get(id)
  return { id, ...(name ? { name } : {}), text: printable(loaderText(data)), data }
}

/** Text of a boot loader: GRUB, shim and Linux write Latin letters, systemd UTF-16. */
export function loaderText(data: Uint8Array): string {
  return isWide(data) ? utf16Text(data) : latinText(data)
}

export function isWide(data: Uint8Array): boolean {
  return data.length >= 4 && data[1] === 0 && data[3] === 0
}
