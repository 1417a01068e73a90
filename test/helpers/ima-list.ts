import { createHash } from 'node:crypto'
import { concat, utf8 } from '../../src/core/bytes.js'

/** A file that was measured. */
export interface MeasuredFile {
  readonly path: string
  /** What was in it; by default its path. */
  readonly content?: string
  readonly signature?: Uint8Array
  readonly violation?: boolean
}

export function fileDigest({ path, content = path }: MeasuredFile): Buffer {
  return createHash('sha256').update(content).digest()
}

/** What the kernel hashes of an entry of template ima-sig. */
export function templateDataOf(file: MeasuredFile): Uint8Array {
  return concat(
    sized(concat(utf8('sha256:'), Uint8Array.of(0), fileDigest(file))),
    sized(concat(utf8(file.path), Uint8Array.of(0))),
    sized(file.signature ?? new Uint8Array()),
  )
}

/** A binary list as the kernel writes it. */
export function imaListOf(files: readonly MeasuredFile[]): Uint8Array {
  return concat(
    ...files.map((file) => {
      const data = templateDataOf(file)
      const hash = file.violation ? new Uint8Array(20) : createHash('sha1').update(data).digest()
      return concat(u32(10), hash, sized(utf8('ima-sig')), sized(data))
    }),
  )
}

export function sized(octets: Uint8Array): Uint8Array {
  return concat(u32(octets.length), octets)
}

export function u32(value: number): Uint8Array {
  const octets = new Uint8Array(4)
  new DataView(octets.buffer).setUint32(0, value, true)
  return octets
}
