import { existsSync, readdirSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { saySkipped, sharedVectors } from '../helpers/vectors.js'
import { ATTESTATION_VECTORS, MEASURED_BOOT_VECTORS, type VectorRule } from './index-of-vectors.js'

const here = dirname(fileURLToPath(import.meta.url))
const shared = sharedVectors('attestation')
if (!shared) saySkipped('attestation (index)', 3)

function filesBelow(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
}

function say(name: string, files: readonly string[], rules: readonly VectorRule[]): void {
  const tested = files.filter((file) => rules.find(({ files }) => files.test(file))?.test)
  process.stderr.write(
    `vectors of ${name}: ${tested.length} of ${files.length} files in tests, ${files.length - tested.length} with a reason why not\n`,
  )
}

describe.each([
  ['attestation', shared, ATTESTATION_VECTORS],
  ['measured-boot', join(here, 'measured-boot'), MEASURED_BOOT_VECTORS],
] as const)('every file of %s', (name, folder, rules) => {
  test.runIf(folder)('has a test or a reason why not, and every rule has a file', () => {
    const files = filesBelow(folder ?? '')
    say(name, files, rules)
    expect(files.length).toBeGreaterThan(50)
    const ruleOf = (file: string) => rules.findIndex((rule) => rule.files.test(file))
    expect(files.filter((file) => ruleOf(file) < 0)).toEqual([])
    const used = new Set(files.map(ruleOf))
    expect(rules.filter((_, index) => !used.has(index)).map(({ files }) => files)).toEqual([])
  })

  test('names a test that is there, or a reason', () => {
    for (const { files, test: file, reason } of rules) {
      expect((file === undefined) !== (reason === undefined), String(files)).toBe(true)
      if (file !== undefined) expect(existsSync(join(here, '..', file)), file).toBe(true)
    }
  })
})
