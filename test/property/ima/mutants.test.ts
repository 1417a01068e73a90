import { expect, test } from 'vitest'
import { toHex } from '../../../src/core/bytes.js'
import { isPlatformError } from '../../../src/core/errors.js'
import { failures } from '../../../src/core/finding.js'
import {
  type ImaEntry,
  type ImaPolicy,
  judgeImaEntries,
  type QuotedPcrs,
  readImaList,
  startOfIma,
  verifyImaList,
} from '../../../src/ima/index.js'
import {
  chance,
  fastest,
  limitOf,
  MUTANTS,
  MUTANTS_TIMEOUT_MS,
  mutant,
} from '../../helpers/mutants.js'
import { measuredBoot, measuredPcrs } from '../../helpers/vectors.js'
import { BINARY, POLICY, progressAfter, TEXT } from './samples.js'

/** Changed lists by the hundred thousand: nothing but refusals of ours, none slow, and none accepted as another list. */

const VARIANT = '04-shim-grub-sb-on-mskeys'
const FROM = startOfIma('sha256')

/** A list, the quote that proves it, and rules that accept it and no more. */
interface Target {
  readonly list: Uint8Array
  readonly quote: QuotedPcrs
  readonly policy: ImaPolicy
}

function targetOf(list: Uint8Array): Target {
  const pcrValues = new Map([[10, progressAfter(list).value]])
  return { list, quote: { bank: 'sha256', pcrValues }, policy: POLICY }
}

function realTarget(list: Uint8Array): Target {
  const files = [...readImaList(list)].filter(({ path }) => path !== 'boot_aggregate')
  const allow = files.map(({ path, digest }) => ({
    path,
    digests: new Set([toHex(digest.digest)]),
  }))
  const quote = { bank: 'sha256', pcrValues: measuredPcrs(VARIANT) } as const
  return { list, quote, policy: { allow, exclude: [], allowViolations: false, signers: [] } }
}

const TARGETS = [
  targetOf(BINARY),
  targetOf(TEXT),
  realTarget(measuredBoot(VARIANT, 'binary_runtime_measurements')),
  realTarget(measuredBoot(VARIANT, 'ascii_runtime_measurements')),
]

/** The entries that are proved and allowed; nothing where a list is refused. */
async function accepted(
  octets: Uint8Array,
  target: Target,
): Promise<readonly ImaEntry[] | undefined> {
  const quoted = target.quote.pcrValues.get(10) ?? new Uint8Array()
  const { proved, findings } = await verifyImaList(octets, { from: FROM, quoted })
  const judged = await judgeImaEntries(proved, target.policy, target.quote)
  return failures([...findings, ...judged]).length === 0 ? proved : undefined
}

/** What a quote proves of entries: data in their order, and of violations that they were there. */
const provedOf = (entries: readonly ImaEntry[]) =>
  entries.map(({ violation, templateData }) => (violation ? 'violation' : toHex(templateData)))

test('the lists are accepted as they are', async () => {
  for (const target of TARGETS) {
    expect(provedOf((await accepted(target.list, target)) ?? [])).toEqual(
      provedOf([...readImaList(target.list)]),
    )
  }
})

/** Whether octets are a list that can be read, and whether they were read in time. */
function reading(octets: Uint8Array): { readonly read: boolean; readonly slow: boolean } {
  let read = false
  const limit = limitOf(octets)
  const took = fastest(limit, () => {
    read = false
    try {
      for (const _ of readImaList(octets));
      read = true
    } catch (error) {
      if (!isPlatformError(error)) throw error
    }
  })
  return { read, slow: took > limit }
}

test(
  `${MUTANTS} changed lists are read or refused in time, and none is accepted as another list`,
  async () => {
    const next = chance(1)
    const expected = TARGETS.map(({ list }) => provedOf([...readImaList(list)]))
    let read = 0
    let slow = 0
    let same = 0
    for (let count = 0; count < MUTANTS; count += 1) {
      const target = TARGETS[count % TARGETS.length]
      if (!target) throw new TypeError('a target')
      const octets = mutant(target.list, target.list, next)
      const result = reading(octets)
      if (result.slow) slow += 1
      if (!result.read) continue
      read += 1
      const entries = await accepted(octets, target)
      if (!entries) continue
      expect(provedOf(entries)).toEqual(expected[count % TARGETS.length])
      same += 1
    }
    process.stderr.write(
      `mutants of IMA lists: ${MUTANTS}, ${read} read, 0 accepted as another list, ${same} as the same, ${slow} slow\n`,
    )
    expect(slow).toBe(0)
    // Both outcomes are tried, again and again
    expect(read).toBeGreaterThan(MUTANTS / 20)
    expect(read).toBeLessThan((MUTANTS * 19) / 20)
    // Changes of what bears no trust: template hashes, what a violation says, what follows the quoted value
    expect(same).toBeLessThan(read / 2)
  },
  MUTANTS_TIMEOUT_MS,
)

/** Bits that bear no trust: the number of the PCR apart, those of template hashes, of names, and of violations. */
test('every flipped bit of a list is refused, or changes nothing that was proved', async () => {
  const { value: quoted } = progressAfter(BINARY)
  const expected = provedOf([...readImaList(BINARY)])
  const whole = [...readImaList(BINARY)]
  let tolerated = 0
  for (let bit = 0; bit < BINARY.length * 8; bit += 1) {
    const octets = Uint8Array.from(BINARY)
    octets[bit >> 3] = (octets[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    try {
      const { proved, progress } = await verifyImaList(octets, { from: FROM, quoted })
      if (!progress) continue
      expect(provedOf(proved)).toEqual(expected)
      for (const [index, entry] of proved.entries()) {
        if (entry.violation) continue
        expect([entry.path, toHex(entry.digest.digest)]).toEqual([
          whole[index]?.path,
          toHex(whole[index]?.digest.digest ?? new Uint8Array()),
        ])
      }
      tolerated += 1
    } catch (error) {
      if (!isPlatformError(error)) throw error
    }
  }
  const violation = whole.find((entry) => entry.violation)
  const untrusted = whole.length * 20 + (violation?.templateData.length ?? 0)
  expect(tolerated).toBeLessThan(untrusted * 8)
})
