import { toHex } from '../core/bytes.js'
import { isPlatformError } from '../core/errors.js'
import { ByteReader } from '../core/reader.js'
import { NODE_TEXTS } from './device-path-nodes.js'

export interface DevicePath {
  /** `PciRoot(0x0)/Pci(0x1,0x0)/HD(1,GPT,…)/\EFI\BOOT\BOOTX64.EFI`. Escaped and bounded. */
  readonly text: string
  /** Name of the last file in the path, without its folders. */
  readonly fileName?: string
}

const HEADER_OCTETS = 4
/** Paths of real machines have fewer than twenty nodes. */
const MAX_NODES = 64
const MAX_TEXT = 4096
const MAX_GENERIC_OCTETS = 32
const END = 0x7f
const END_OF_INSTANCE = 0x01
const FILE_PATH = 0x0404

/**
 * Reads a device path to its end node, as text in the manner of the UEFI Specification.
 *
 * It ends early at a node whose length leaves no place for its own header. Nodes of unknown types, and nodes too short
 * for their type, are written as `Path(type,subtype,data)`.
 *
 * @throws DecodeError where a node is longer than the path
 * @see UEFI Specification, clause 10.3.1 (generic node structure) and 10.6.1 (text)
 */
export function parseDevicePath(octets: Uint8Array): DevicePath {
  const reader = new ByteReader(octets, 'little')
  let text = ''
  let joint = ''
  let fileName: string | undefined
  for (let nodes = 0; reader.remaining >= HEADER_OCTETS; nodes += 1) {
    const [type, subtype, length] = [reader.u8(), reader.u8(), reader.u16()]
    if (length < HEADER_OCTETS) break
    const body = reader.take(length - HEADER_OCTETS)
    if (type === END && subtype !== END_OF_INSTANCE) break
    if (nodes >= MAX_NODES || text.length > MAX_TEXT)
      return { text: `${text}…`, ...(fileName ? { fileName } : {}) }
    if (type === END) {
      joint = ','
      continue
    }
    const node = nodeText(type, subtype, body)
    if (((type << 8) | subtype) === FILE_PATH) fileName = node.split('\\').at(-1)
    text += joint + node
    joint = '/'
  }
  return { text, ...(fileName ? { fileName } : {}) }
}

function nodeText(type: number, subtype: number, body: Uint8Array): string {
  try {
    const text = NODE_TEXTS.get((type << 8) | subtype)?.(new ByteReader(body, 'little'))
    if (text !== undefined) return text
  } catch (error) {
    if (!isPlatformError(error)) throw error
  }
  const cut = body.length > MAX_GENERIC_OCTETS ? '…' : ''
  return `Path(${type},${subtype},${toHex(body.subarray(0, MAX_GENERIC_OCTETS))}${cut})`
}
