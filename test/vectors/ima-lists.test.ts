import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { fromHex, toHex } from '../../src/core/bytes.js'
import {
  extendIma,
  hasOwnHash,
  type ImaPolicy,
  type ImaProgress,
  judgeImaEntries,
  readImaList,
  startOfIma,
  verifyImaList,
} from '../../src/ima/index.js'
import type { HashName } from '../../src/tpm/index.js'
import {
  MEASURED_BOOT_VARIANTS,
  measuredBoot,
  measuredPcrs,
  saySkipped,
  sharedVectors,
} from '../helpers/vectors.js'

const withList = MEASURED_BOOT_VARIANTS.filter((variant) => {
  try {
    return measuredBoot(variant, 'binary_runtime_measurements').length > 0
  } catch {
    return false
  }
})

function replay(
  list: Uint8Array,
  bank: 'sha1' | 'sha256',
  extension: 'own-digest' | 'padded-sha1' = 'own-digest',
): ImaProgress {
  let progress = startOfIma(bank)
  for (const entry of readImaList(list)) progress = extendIma(progress, entry, extension)
  return progress
}

describe('the lists of our own machines', () => {
  test('are there', () => {
    expect(withList.length).toBeGreaterThan(3)
  })

  test.each(withList)(
    'replay to PCR 10, and begin with the aggregate of the boot (%s)',
    async (variant) => {
      const list = measuredBoot(variant, 'binary_runtime_measurements')
      const pcrValues = measuredPcrs(variant)
      const quoted = pcrValues.get(10) ?? new Uint8Array()
      const verdict = await verifyImaList(list, { from: startOfIma('sha256'), quoted })
      expect(verdict.findings).toMatchObject([{ check: 'ima.replay', ok: true }])
      const [aggregate, ...files] = verdict.proved
      expect(aggregate?.path).toBe('boot_aggregate')
      expect(verdict.proved.every(hasOwnHash)).toBe(true)
      const allow = files.map(({ path, digest }) => ({
        path,
        digests: new Set([toHex(digest.digest)]),
      }))
      const judge = (values: typeof pcrValues, rules: ImaPolicy['allow']) => {
        const policy = { allow: rules, exclude: [], allowViolations: false, signers: [] }
        return judgeImaEntries(verdict.proved, policy, { bank: 'sha256', pcrValues: values })
      }
      expect(await judge(pcrValues, allow)).toMatchObject([{ ok: true }])
      expect(await judge(pcrValues, allow.slice(1))).toMatchObject([
        { code: 'IMA_NOT_ALLOWED', event: 1 },
      ])
      const other = new Map(pcrValues).set(4, new Uint8Array(32))
      expect(await judge(other, allow)).toMatchObject([{ code: 'IMA_BOOT_AGGREGATE', event: 0 }])
    },
  )

  test.each(withList)('are the same as text and as octets (%s)', (variant) => {
    const [text, octets] = (['ascii', 'binary'] as const).map((form) => [
      ...readImaList(measuredBoot(variant, `${form}_runtime_measurements`)),
    ])
    expect(text).toEqual(octets)
    expect(text?.length).toBeGreaterThan(3)
  })

  // Their kernels had no SHA-384 when they began to measure: they extended that bank by SHA-1 with zeros.
  test.each(['05-uki-sb-on-multibank-tis', '08-shim-grub-sb-off-no-event-log'])(
    'replay in each bank as the kernel extended it (%s)',
    async (variant) => {
      const { pcrs } = JSON.parse(
        Buffer.from(measuredBoot(variant, 'expected.json')).toString(),
      ) as { readonly pcrs: Readonly<Record<HashName, Readonly<Record<string, string>>>> }
      const list = measuredBoot(variant, 'binary_runtime_measurements')
      const found = async (bank: HashName) => {
        const quoted = fromHex(pcrs[bank]['10'] ?? '')
        const { findings } = await verifyImaList(list, { from: startOfIma(bank), quoted })
        return findings
      }
      const whole = { ok: true, found: '5 entries, 5 of them new' }
      expect(await found('sha1')).toMatchObject([whole])
      expect(await found('sha256')).toMatchObject([whole])
      expect(await found('sha384')).toMatchObject([
        { ok: true, found: '5 entries, 5 of them new, SHA-1 with zeros' },
      ])
    },
  )
})

const shared = sharedVectors('attestation')
if (!shared) saySkipped('attestation (IMA)', 11)

describe.runIf(shared)('the lists of others', () => {
  const file = (...path: readonly string[]) =>
    new Uint8Array(readFileSync(join(shared ?? '', ...path)))
  const agent = [
    'keylime_rust-keylime',
    'keylime-agent',
    'test-data',
    'ima',
    'ascii_runtime_measurements',
  ]

  test('a real machine with 826 entries replays to the values of the manifest', () => {
    const list = file(...agent)
    const entries = [...readImaList(list)]
    expect(entries).toHaveLength(826)
    expect(entries.every(hasOwnHash)).toBe(true)
    expect(toHex(replay(list, 'sha1').value)).toBe('82231c67a69da98dc5b3aa10f6343d33109225fc')
    expect(toHex(replay(list, 'sha256').value)).toBe(
      'c4a065637fc6a7c55f2811dd06cb45dd037133be2b3dc5c3e6fbe6bf061db724',
    )
  })

  test.each(['sha1', 'sha256', 'sha384', 'sha512', 'sm3_256'])(
    'digests of files with %s are read with their name',
    (algorithm) => {
      const list = file(
        'keylime_keylime',
        'test',
        'data',
        'create-runtime-policy',
        `ima-log-${algorithm}`,
      )
      const entries = [...readImaList(list)]
      expect(entries.length).toBeGreaterThan(0)
      // sm3_256 and unknown were made by hand: their template hashes are not those of their data
      if (!['sm3_256', 'unknown'].includes(algorithm)) expect(entries.every(hasOwnHash)).toBe(true)
      for (const { digest } of entries.slice(1)) expect(digest.algorithm).toBe(algorithm)
    },
  )

  test('a digest of an unknown algorithm is refused by its name', () => {
    const list = file('keylime_keylime', 'test', 'data', 'create-runtime-policy', 'ima-log-unknown')
    expect(() => [...readImaList(list)]).toThrow(expect.objectContaining({ code: 'IMALOG_ENTRY' }))
  })

  test.each([
    ['ima_log.txt', 1],
    ['empty_ima_log.txt', 0],
  ])('%s has %d entries', (name, count) => {
    const list = file('keylime_rust-keylime', 'keylime', 'test-data', name)
    expect([...readImaList(list)]).toHaveLength(count)
  })

  test('invalid_ima_log.txt cannot be read', () => {
    const list = file('keylime_rust-keylime', 'keylime', 'test-data', 'invalid_ima_log.txt')
    expect(() => [...readImaList(list)]).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^IMALOG_|^DECODE_/) }),
    )
  })
})
