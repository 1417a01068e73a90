import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isPlatformError } from '../../../src/core/errors.js'
import {
  afterStep,
  isAllowed,
  isAsWanted,
  planPolicyChange,
  type VmProtection,
  type Wanted,
  type WantedParts,
} from '../../../src/storage-policies/index.js'

const provider = fc.constantFrom('gold', 'silver')
const wanted: fc.Arbitrary<Wanted> = fc.oneof(
  fc.constant({ encrypted: false }),
  fc.record({ encrypted: fc.constant(true), provider: fc.option(provider, { nil: undefined }) }),
)
/** Every state that VMs may be in, with up to four disks. */
const vm: fc.Arbitrary<VmProtection> = fc
  .record({
    provider: fc.option(provider, { nil: undefined }),
    vtpm: fc.boolean(),
    disks: fc.array(fc.boolean(), { maxLength: 4 }),
  })
  .map((made) => ({
    name: 'vm',
    provider: made.provider,
    vtpm: made.provider !== undefined && made.vtpm,
    disks: made.disks.map((encrypted, index) => ({
      name: `d${index}`,
      encrypted: encrypted && made.provider !== undefined,
    })),
  }))
const policies = (from: VmProtection): fc.Arbitrary<WantedParts> =>
  fc.record({
    home: fc.option(wanted, { nil: undefined }),
    disks: fc
      .tuple(...from.disks.map(() => fc.option(wanted, { nil: undefined })))
      .map(
        (ofDisks) =>
          new Map(
            ofDisks.flatMap((one, index): [string, Wanted][] =>
              one === undefined ? [] : [[`d${index}`, one]],
            ),
          ),
      ),
  })
const cases = vm.chain((from) => fc.tuple(fc.constant(from), policies(from)))

/** The plan, or undefined where it is refused for a reason that has a code. */
function planOf(from: VmProtection, to: WantedParts) {
  try {
    return planPolicyChange(from, to, 'default')
  } catch (error) {
    if (isPlatformError(error)) return undefined
    throw error
  }
}

test('every plan ends in the wanted state, by states that are allowed, and needs nothing more then', () => {
  fc.assert(
    fc.property(cases, ([from, to]) => {
      const steps = planOf(from, to)
      if (!steps) return
      let now = from
      for (const step of steps) {
        now = afterStep(now, step)
        expect(isAllowed(now)).toBe(true)
      }
      if (to.home) expect(isAsWanted(now.provider !== undefined, now.provider, to.home)).toBe(true)
      for (const disk of now.disks) {
        const asked = to.disks.get(disk.name)
        const before = from.disks.find(({ name }) => name === disk.name)
        if (asked) expect(isAsWanted(disk.encrypted, now.provider, asked)).toBe(true)
        else expect(disk.encrypted).toBe(before?.encrypted)
      }
      expect(planPolicyChange(now, to, 'default')).toEqual([])
    }),
    { numRuns: 2000 },
  )
})

test('a plan that is interrupted after any step is gone on with', () => {
  fc.assert(
    fc.property(cases, ([from, to]) => {
      const steps = planOf(from, to) ?? []
      let now = from
      steps.forEach((step, index) => {
        now = afterStep(now, step)
        expect(planPolicyChange(now, to, 'default')).toEqual(steps.slice(index + 1))
      })
    }),
    { numRuns: 2000 },
  )
})

test('disks are decrypted before the home, and encrypted after it', () => {
  fc.assert(
    fc.property(cases, ([from, to]) => {
      const parts = (planOf(from, to) ?? []).map((step) => `${step.do} ${step.part}`)
      const encrypts = parts.indexOf('encrypt home')
      const decrypts = parts.indexOf('decrypt home')
      if (encrypts >= 0) expect(encrypts).toBe(0)
      if (decrypts >= 0) expect(decrypts).toBe(parts.length - 1)
    }),
  )
})
