import { createHash } from 'node:crypto'
import { concat, toHex, utf8 } from '../../../src/core/bytes.js'
import { sized, u32 } from '../../helpers/ima-list.js'

/** A measurement with any template and fields, as the kernel has them. */
export interface Measurement {
  readonly pcr?: number
  readonly template: string
  readonly fields: readonly Uint8Array[]
  readonly violation?: boolean
}

/** `sha256:`, NUL, digest. */
export function digestField(algorithm: string, digest: Uint8Array): Uint8Array {
  return concat(utf8(`${algorithm}:`), Uint8Array.of(0), digest)
}

export function pathField(path: string): Uint8Array {
  return concat(utf8(path), Uint8Array.of(0))
}

export function numberField(value: number, octets: 2 | 4): Uint8Array {
  return u32(value).subarray(0, octets)
}

const dataOf = ({ fields }: Measurement) => concat(...fields.map(sized))

function hashOf(entry: Measurement, bank: string, size: number): Uint8Array {
  return entry.violation ? new Uint8Array(size) : createHash(bank).update(dataOf(entry)).digest()
}

/** As `binary_runtime_measurements`, or as `binary_runtime_measurements_sha256` with that bank. */
export function binaryList(
  entries: readonly Measurement[],
  bank: 'sha1' | 'sha256' = 'sha1',
): Uint8Array {
  const size = bank === 'sha1' ? 20 : 32
  return concat(
    ...entries.map((entry) =>
      concat(
        u32(entry.pcr ?? 10),
        hashOf(entry, bank, size),
        sized(utf8(entry.template)),
        sized(dataOf(entry)),
      ),
    ),
  )
}

/** As `ascii_runtime_measurements`; `texts` are the fields behind digest and path. */
export function textLine(
  entry: Measurement,
  digest: string,
  path: string,
  ...texts: readonly string[]
): string {
  const hash = toHex(hashOf(entry, 'sha1', 20))
  return `${[entry.pcr ?? 10, hash, entry.template, digest, path, ...texts].join(' ')}\n`
}
