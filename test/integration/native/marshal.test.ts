import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { MU_TYPES, muRoundTrip } from '../../../native/index.js'
import { STRUCT_OCTETS } from '../../../native/marshal.js'
import { concat, toHex } from '../../../src/core/bytes.js'
import { measuredBoot } from '../../helpers/vectors.js'

const COMPILER = '/usr/bin/cc'
const HEADER = '/usr/include/tss2/tss2_tpm2_types.h'
const canCompile = [COMPILER, HEADER].every((path) => existsSync(path))
if (!canCompile) process.stderr.write('skipped: sizes of C structures, which need libtss2-dev\n')

const attest = measuredBoot('01-uki-sb-off', 'quote.msg')

describe('structures of C', () => {
  test.runIf(canCompile)('have room in the memory that they are read into', () => {
    const sizes = sizesOf(MU_TYPES)
    expect(sizes).toHaveLength(MU_TYPES.length)
    for (const size of sizes) expect(size).toBeLessThanOrEqual(STRUCT_OCTETS)
  })

  test('are read to their ends, or refused', () => {
    const refused = expect.objectContaining({ code: 'DECODE_VALUE' })
    expect(() => muRoundTrip('TPMS_ATTEST', attest.subarray(0, -1))).toThrow(refused)
    expect(() => muRoundTrip('TPMS_ATTEST', concat(attest, Uint8Array.of(0)))).toThrow(refused)
    expect(() => muRoundTrip('TPMS_ATTEST', new Uint8Array())).toThrow(refused)
    expect(() => muRoundTrip('TPM2B_DIGEST', Uint8Array.of(0xff, 0xff, 1))).toThrow(refused)
  })

  test('larger than any of their kind are refused before they are copied', () => {
    expect(() => muRoundTrip('TPMS_ATTEST', new Uint8Array(STRUCT_OCTETS + 1))).toThrow(
      expect.objectContaining({ code: 'DECODE_TOO_LARGE' }),
    )
  })

  test('stay where they are while C reads them, however much is collected meanwhile', () => {
    const expected = toHex(attest)
    for (let turn = 0; turn < 20_000; turn += 1) {
      expect(toHex(muRoundTrip('TPMS_ATTEST', attest))).toBe(expected)
      if (turn % 7 === 0) Buffer.alloc(3_000 + (turn % 4_000)).fill(turn)
    }
  })
})

/** What the C compiler says of the headers that are installed. */
function sizesOf(types: readonly string[]): readonly number[] {
  const folder = mkdtempSync(join(tmpdir(), 'sgl-'))
  try {
    const program = join(folder, 'sizes')
    const lines = types.map((type) => `printf("%zu\\n", sizeof(${type}));`).join('\n')
    const source = `#include <stdio.h>\n#include "${HEADER}"\nint main(void) { ${lines} }\n`
    execFileSync(COMPILER, ['-x', 'c', '-', '-o', program], { input: source })
    return execFileSync(program, { encoding: 'utf8' }).trim().split('\n').map(Number)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
