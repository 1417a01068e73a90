import { existsSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { decodeResponseCode } from '../../../src/tpm/index.js'

/** Definitions such as `TPM2_RC_VALUE ((TPM2_RC) (TPM2_RC_FMT1 + 0x004))` of the installed tpm2-tss. */
const HEADER = '/usr/include/tss2/tss2_tpm2_types.h'
const DEFINITION =
  /^#define TPM2_RC_(\w+)\s+\(\(TPM2_RC\)\s+(?:\(TPM2_RC_(VER1|FMT1|WARN) \+ )?0x([0-9A-F]+)\)/gm
const BASES: Readonly<Record<string, number>> = { VER1: 0x100, FMT1: 0x080, WARN: 0x900 }
/** Parts of codes and limits, which are not codes themselves. */
const NO_CODES = /^(VER1|FMT1|WARN|MAX_FM0|H|P|S|[0-9A-F]|N_MASK)$/

const installed = existsSync(HEADER)
if (!installed) process.stderr.write('skipped: response codes, which need libtss2-dev\n')
const definitions = installed ? readFileSync(HEADER, 'utf8') : ''

const codes = [...definitions.matchAll(DEFINITION)].flatMap(
  ([, name = '', base = '', digits = '']) => {
    const rc = (BASES[base] ?? 0) + Number.parseInt(digits, 16)
    return NO_CODES.test(name) ? [] : [{ name: `TPM_RC_${name}`, rc }]
  },
)

test.runIf(installed)('has the name of every response code that tpm2-tss has', () => {
  expect(codes.length).toBeGreaterThan(90)
  for (const { name, rc } of codes) expect(decodeResponseCode(rc).name, name).toBe(name)
})

test.runIf(installed)('has no other names', () => {
  const known = new Set(codes.map(({ rc }) => rc))
  for (let rc = 0; rc < 0x1000; rc += 1) {
    const base = (rc & 0x080) === 0 ? rc : rc & 0x0bf
    expect(decodeResponseCode(rc).name !== undefined, rc.toString(16)).toBe(known.has(base))
  }
})
