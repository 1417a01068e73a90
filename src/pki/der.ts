import { DecodeError } from '../core/errors.js'

/** One element of DER. `children` is read for constructed elements. @see ITU-T X.690, clause 8 */
export interface DerNode {
  readonly tag: number
  readonly content: Uint8Array
  readonly children: readonly DerNode[]
}

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
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
 * Only definite lengths of at most three octets and tags of one octet, as certificates have them.
 *
 * @throws DecodeError `CERT_UNREADABLE`
 */
export function parseDer(octets: Uint8Array): DerNode {
  const budget = { nodes: MAX_NODES }
  const { node, end } = parseNode(octets, 0, 0, budget)
  if (end !== octets.length) throw unreadable(end, 'the end')
  return node
}

function parseNode(
  octets: Uint8Array,
  start: number,
  depth: number,
  budget: { nodes: number },
): { readonly node: DerNode; readonly end: number } {
  budget.nodes -= 1
  if (depth > MAX_DEPTH || budget.nodes < 0) throw unreadable(start, 'a shallower structure')
  const tag = octets[start]
  const first = octets[start + 1]
  if (tag === undefined || first === undefined) throw unreadable(start, 'an element')
  let length = first
  let offset = start + 2
  if (first >= 0x80) {
    const size = first & 0x7f
    if (size === 0 || size > 3) throw unreadable(start, 'a definite length')
    length = 0
    for (let index = 0; index < size; index += 1)
      length = length * 256 + (octets[offset + index] ?? 0)
    offset += size
  }
  const end = offset + length
  if (end > octets.length) throw unreadable(start, `${length} octets`)
  const content = octets.subarray(offset, end)
  const children: DerNode[] = []
  if ((tag & CONSTRUCTED) !== 0) {
    let at = 0
    while (at < content.length) {
      const child = parseNode(content, at, depth + 1, budget)
      children.push(child.node)
      at = child.end
    }
  }
  return { node: { tag, content, children }, end }
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
  if (node.content.length === 0 || node.content.length > 4) throw unreadable(0, 'a small integer')
  return node.content.reduce((value, octet) => value * 256 + octet, 0)
}

/** Text of any of the string types of names. */
export function derText(node: DerNode): string {
  return Buffer.from(node.content).toString('utf8')
}

function unreadable(offset: number, expected: string): DecodeError {
  return new DecodeError('CERT_UNREADABLE', offset, `expected ${expected} in DER`)
}
