import { describe, expect, test } from 'vitest'
import {
  complianceOf,
  type VmProtection,
  type Wanted,
} from '../../../src/storage-policies/index.js'

const PLAIN: Wanted = { encrypted: false }
const ENCRYPTED: Wanted = { encrypted: true }
const GOLD: Wanted = { encrypted: true, provider: 'gold' }
const SILVER: Wanted = { encrypted: true, provider: 'silver' }
const vm: VmProtection = {
  ...{ name: 'vm', provider: 'gold', vtpm: false },
  disks: [
    { name: 'root', encrypted: true },
    { name: 'data', encrypted: false },
  ],
}
const assigned = (given: Wanted, now = given) => ({ policy: 'p', given, now })

describe('beside its policy, a part of a VM', () => {
  test.each([
    ['the home that is encrypted with the provider', undefined, assigned(GOLD)],
    ['the home that is encrypted, whoever the provider is', undefined, assigned(ENCRYPTED)],
    ['a disk that is plain', 'data', assigned(PLAIN)],
    ['a disk that is already as a policy which was changed asks', 'data', assigned(GOLD, PLAIN)],
  ])('is compliant: %s', (_, disk, policy) => {
    expect(complianceOf(vm, disk, policy)).toEqual({ state: 'compliant' })
  })

  test('is out of date where the policy was changed since it was given', () => {
    expect(complianceOf(vm, 'root', assigned(GOLD, SILVER))).toEqual({
      state: 'out-of-date',
      reason:
        'policy p was changed: expected encrypted with silver, found encrypted with gold; apply it again',
    })
  })

  test.each([
    ['plain', 'data', GOLD, 'expected encrypted with gold, found plain'],
    ['encrypted', 'root', PLAIN, 'expected plain, found encrypted with gold'],
    [
      'under another provider',
      'root',
      SILVER,
      'expected encrypted with silver, found encrypted with gold',
    ],
    ['not there', 'gone', ENCRYPTED, 'expected encrypted, found plain'],
  ])('is not compliant where it is %s', (_, disk, wanted, reason) => {
    expect(complianceOf(vm, disk, assigned(wanted))).toEqual({ state: 'not-compliant', reason })
  })
})
