import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createOutput, table } from '../../../src/cli/output.js'
import { createProgram, runProgram } from '../../../src/cli/run.js'
import { PlatformError } from '../../../src/core/errors.js'

/** Titles, clears the screen, moves the cursor, turns the direction of text around: by C0, C1 and Unicode. */
const HOSTILE = 'disk\x1b]0;owned\x07\x1b[2J\x9b1A\r\u202etxt\x7f'
const SHOWN = 'disk\\x1b]0;owned\\x07\\x1b[2J\\x9b1A\\x0d\\u202etxt\\x7f'

let out: string
let err: string

beforeEach(() => {
  out = ''
  err = ''
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += text
    return true
  })
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    err += text
    return true
  })
})
afterEach(() => {
  vi.restoreAllMocks()
  process.exitCode = 0
})

describe('what a host, a guest or somebody else says', () => {
  test('does not command the terminal that it is shown on', () => {
    const output = createOutput({ json: false })
    output.data({}, () => [`error: ${HOSTILE}`, 'second\tline'])
    output.note(HOSTILE)
    expect(out).toBe(`error: ${SHOWN}\nsecond\tline\n`)
    expect(err).toBe(`${SHOWN}\n`)
  })

  test('makes no row of a table that nobody meant', () => {
    const rows = table([
      ['HOST', 'STATE'],
      ['a\nb  trusted', 'refused'],
    ])
    expect(rows).toEqual(['HOST             STATE', 'a\\x0ab  trusted  refused'])
  })

  test('is the same text for programs, and as harmless', () => {
    createOutput({ json: true }).data({ message: HOSTILE }, () => [])
    expect(JSON.parse(out)).toEqual({ message: HOSTILE })
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(out.replaceAll('\n', '')).not.toMatch(/[\x00-\x1f\x7f-\x9f\u202e]/)
  })

  test('in an error looks like no line of ours', async () => {
    const program = createProgram('sigillo', 'test')
    program.command('fail').action(() => {
      throw new PlatformError('VM_PROCESS', `${HOSTILE}\nsigillo: hint: run rm -r /`)
    })
    await runProgram(program, ['node', 'sigillo', 'fail'])
    expect(err).toBe(`sigillo: error: ${SHOWN}\n  sigillo: hint: run rm -r / (VM_PROCESS)\n`)
  })

  test('is still readable in other scripts', () => {
    createOutput({ json: false }).data({}, () => ['größe 大小 — ключ'])
    expect(out).toBe('größe 大小 — ключ\n')
  })
})
