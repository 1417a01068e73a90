import { DecodeError } from '../core/errors.js'

/** One element of DER. `children` is read for constructed elements. @see ITU-T X.690, clause 8 */
export interface DerNode {
  readonly tag: number
  /** Tag, length and content: what a signature is over. */
  readonly whole: Uint8Array
  readonly content: Uint8Array
  readonly children: readonly DerNode[]
}

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  objectIdentifier: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
  context: (number: number) => 0xa0 | number,
} as const

const CONSTRUCTED = 0x20
const MAX_DEPTH = 16
const MAX_NODES = 10_000

/**
 * Reads one DER element and everything in it, to its end.
 *
 * Only definite lengths of at most three octets in their shortest form, and tags of one octet, as certificates have them.
 * The order of a SET is **not** checked: several makers of TPMs have it wrong, and nothing here is encoded again.
 *
 * @throws DecodeError `CERT_UNREADABLE`
 */
export function parseDer(octets: Uint8Array): DerNode {
  const { node, end } = parseNode(octets, 0, 0, { nodes: MAX_NODES })
  if (end !== octets.length) throw unreadable(end, 'the end')
  return node
}

/** One element without what is in it, and where the next one begins. For lists that are too long to be kept as nodes. */
export function readElement(
  octets: Uint8Array,
  start: number,
): { readonly tag: number; readonly content: Uint8Array; readonly end: number } {
  const tag = octets[start]
  const first = octets[start + 1]
  if (tag === undefined || first === undefined) throw unreadable(start, 'an element')
  let length = first
  let offset = start + 2
  if (first >= 0x80) {
    const size = first & 0x7f
    if (size === 0 || size > 3) throw unreadable(start, 'a definite length')
    length = 0
    for (let index = 0; index < size; index += 1) {
      length = length * 256 + (octets[offset + index] ?? 0)
    }
    if (length < 0x80 || length < 256 ** (size - 1)) throw unreadable(start, 'the shortest length')
    offset += size
  }
  const end = offset + length
  if (end > octets.length) throw unreadable(start, `${length} octets`)
  return { tag, content: octets.subarray(offset, end), end }
}

function parseNode(
  octets: Uint8Array,
  start: number,
  depth: number,
  budget: { nodes: number },
): { readonly node: DerNode; readonly end: number } {
  budget.nodes -= 1
  if (depth > MAX_DEPTH || budget.nodes < 0) throw unreadable(start, 'a shallower structure')
  const { tag, content, end } = readElement(octets, start)
  const children: DerNode[] = []
  if ((tag & CONSTRUCTED) !== 0) {
    let at = 0
    while (at < content.length) {
      const child = parseNode(content, at, depth + 1, budget)
      children.push(child.node)
      at = child.end
    }
  }
  return { node: { tag, whole: octets.subarray(start, end), content, children }, end }
}

/** `2.5.29.19` */
export function objectIdentifier(node: DerNode): string {
  if (node.tag !== TAG.objectIdentifier) throw unreadable(0, 'an object identifier')
  const arcs: number[] = []
  let value = 0
  for (const octet of node.content) {
    value = value * 128 + (octet & 0x7f)
    if (value > Number.MAX_SAFE_INTEGER / 256) throw unreadable(0, 'a smaller arc')
    if ((octet & 0x80) === 0) {
      arcs.push(value)
      value = 0
    }
  }
  const [head = 0, ...rest] = arcs
  const top = Math.min(2, Math.floor(head / 40))
  return [top, head - 40 * top, ...rest].join('.')
}

/** A small non-negative integer. */
export function derInteger(node: DerNode): number {
  const { tag, content } = node
  if (tag !== TAG.integer || content.length === 0 || content.length > 4 || (content[0] ?? 0) > 127)
    throw unreadable(0, 'a small integer')
  return content.reduce((value, octet) => value * 256 + octet, 0)
}

/** `TRUE` is 0xff and nothing else, so that nothing that is critical is taken for something that is not. */
export function derBoolean(node: DerNode): boolean {
  const [octet, ...rest] = node.content
  if (node.tag !== TAG.boolean || rest.length > 0 || (octet !== 0 && octet !== 0xff))
    throw unreadable(0, 'a boolean')
  return octet === 0xff
}

/** Octets of a BIT STRING of whole octets, as keys and signatures are. */
export function bitStringOctets(node: DerNode): Uint8Array {
  if (node.tag !== TAG.bitString || node.content[0] !== 0) throw unreadable(0, 'whole octets')
  return node.content.subarray(1)
}

/** UTCTime or GeneralizedTime in the one form that certificates and lists have, in milliseconds. @see RFC 5280, section 4.1.2.5 */
export function derTime(node: DerNode): number {
  const text = Buffer.from(node.content).toString('latin1')
  const match = /^(\d\d|\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text)
  const [, year = '', month, day, hour, minute, second] = match ?? []
  const digits = node.tag === TAG.utcTime ? 2 : node.tag === TAG.generalizedTime ? 4 : 0
  const century = digits === 4 ? '' : Number(year) < 50 ? '20' : '19'
  const iso = `${century}${year}-${month}-${day}T${hour}:${minute}:${second}Z`
  const time = Date.parse(iso)
  // A day that the month does not have is not carried into the next one
  if (year.length !== digits || Number.isNaN(time) || !isoOf(time).startsWith(iso.slice(0, 19)))
    throw unreadable(0, 'a time')
  return time
}

const isoOf = (time: number) => new Date(time).toISOString()

const BMP_STRING = 0x1e

/** Text of any of the string types of names. */
export function derText(node: DerNode): string {
  if (node.tag !== BMP_STRING) return Buffer.from(node.content).toString('utf8')
  return Buffer.from(node.content.subarray(0, node.content.length & ~1))
    .swap16()
    .toString('utf16le')
}

function unreadable(offset: number, expected: string): DecodeError {
  return new DecodeError('CERT_UNREADABLE', offset, `expected ${expected} in DER`)
}
