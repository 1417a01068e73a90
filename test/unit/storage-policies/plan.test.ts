import { describe, expect, test } from 'vitest'
import {
  describeStep,
  type Obstacles,
  type PolicyStep,
  partsToOpen,
  planPolicyChange,
  requireNoObstacle,
  type VmProtection,
  type Wanted,
} from '../../../src/storage-policies/index.js'

const PLAIN: Wanted = { encrypted: false }
const ENCRYPTED: Wanted = { encrypted: true }
const SILVER: Wanted = { encrypted: true, provider: 'silver' }

const vm = (provider: string | undefined, disks: string, vtpm = false): VmProtection => ({
  ...{ name: 'vm', vtpm },
  ...(provider === undefined ? {} : { provider }),
  // `a` is plain, `A` is encrypted
  disks: [...disks].map((letter) => ({
    ...{ name: letter.toLowerCase(), encrypted: letter !== letter.toLowerCase() },
  })),
})
const ask = (home: Wanted | undefined, disks: Readonly<Record<string, Wanted>> = {}) => ({
  home,
  disks: new Map(Object.entries(disks)),
})
const words = (steps: readonly PolicyStep[]) => steps.map(describeStep)

describe('a change of storage policies', () => {
  test.each([
    [
      'encrypts the home before its disks',
      vm(undefined, 'ab'),
      ask(SILVER, { a: SILVER, b: ENCRYPTED }),
      ['encrypt the home with silver', 'encrypt disk a with silver', 'encrypt disk b with silver'],
    ],
    [
      'decrypts the disks before the home, which is last',
      vm('gold', 'AB'),
      ask(PLAIN, { a: PLAIN, b: PLAIN }),
      ['decrypt disk a', 'decrypt disk b', 'decrypt the home'],
    ],
    [
      'decrypts what is still encrypted, where it was interrupted before',
      vm('gold', 'aB'),
      ask(PLAIN, { a: PLAIN, b: PLAIN }),
      ['decrypt disk b', 'decrypt the home'],
    ],
    [
      'leaves disks that it does not name',
      vm('gold', 'Ab'),
      ask(undefined, { b: ENCRYPTED }),
      ['encrypt disk b with gold'],
    ],
    [
      'makes room before it fills it',
      vm('gold', 'aB'),
      ask(undefined, { a: ENCRYPTED, b: PLAIN }),
      ['decrypt disk b', 'encrypt disk a with gold'],
    ],
    [
      'wraps all keys of the VM with the provider of another policy, first',
      vm('gold', 'ABc'),
      ask(SILVER, { b: PLAIN, c: SILVER }),
      ['wrap all keys with silver', 'decrypt disk b', 'encrypt disk c with silver'],
    ],
    ['does nothing where all is as wanted', vm('gold', 'aB'), ask(ENCRYPTED, { b: ENCRYPTED }), []],
    [
      'takes the default where nobody names a provider',
      vm(undefined, ''),
      ask(ENCRYPTED),
      ['encrypt the home with default'],
    ],
    [
      'takes the provider that only a disk names, for a VM that has none',
      vm(undefined, 'a'),
      ask(ENCRYPTED, { a: SILVER }),
      ['encrypt the home with silver', 'encrypt disk a with silver'],
    ],
    [
      'encrypts a home and leaves its disks plain',
      vm(undefined, 'ab'),
      ask(SILVER),
      ['encrypt the home with silver'],
    ],
  ])('%s', (_, from, wanted, expected) => {
    expect(words(planPolicyChange(from, wanted, 'default'))).toEqual(expected)
  })

  test.each([
    [
      'an encrypted disk of a plain home',
      vm(undefined, 'a'),
      ask(undefined, { a: SILVER }),
      'VM_HOME_PLAIN',
    ],
    [
      'a disk that is to be encrypted while the home becomes plain',
      vm('gold', 'A'),
      ask(PLAIN, { a: ENCRYPTED }),
      'VM_HOME_PLAIN',
    ],
    ['a plain home while a disk stays encrypted', vm('gold', 'Ab'), ask(PLAIN), 'VM_HOME_NEEDED'],
    ['a plain home with a virtual TPM', vm('gold', 'a', true), ask(PLAIN), 'VM_VTPM_NEEDS_HOME'],
    [
      'a disk that is not there',
      vm('gold', 'a'),
      ask(undefined, { z: PLAIN }),
      'VM_DISK_NOT_FOUND',
    ],
    [
      'a second key provider in a VM',
      vm('gold', 'Ab'),
      ask(undefined, { b: SILVER }),
      'POLICY_PROVIDERS',
    ],
    [
      'a disk whose policy names another provider than that of the home',
      vm(undefined, 'a'),
      ask({ encrypted: true, provider: 'gold' }, { a: SILVER }),
      'POLICY_PROVIDERS',
    ],
  ])('refuses %s', (_, from, wanted, code) => {
    expect(() => planPolicyChange(from, wanted, 'default')).toThrow(
      expect.objectContaining({ code }),
    )
  })

  test('refuses to encrypt without a key provider', () => {
    expect(() => planPolicyChange(vm(undefined, ''), ask(ENCRYPTED))).toThrow(
      expect.objectContaining({ code: 'POLICY_NO_PROVIDER' }),
    )
  })

  test.each<[string, Obstacles, string]>([
    ['a VM that runs', { isRunning: true, snapshots: 0 }, 'VM_RUNNING'],
    ['a VM with snapshots', { isRunning: false, snapshots: 2 }, 'VM_SNAPSHOTS'],
  ])('refuses %s, unless there is nothing to do', (_, obstacles, code) => {
    const steps = planPolicyChange(vm('gold', 'a'), ask(PLAIN))
    expect(() => requireNoObstacle(vm('gold', 'a'), steps, obstacles)).toThrow(
      expect.objectContaining({ code }),
    )
    expect(() => requireNoObstacle(vm('gold', 'a'), [], obstacles)).not.toThrow()
  })

  test('opens a disk that it decrypts with both keys, and all of them for another provider', () => {
    const from = vm('gold', 'Ab')
    expect(partsToOpen(from, { do: 'decrypt', part: 'disk-a' })).toEqual(['home', 'disk-a'])
    const change = { do: 'change-provider', part: 'home', provider: 'silver' } as const
    expect(partsToOpen(from, change)).toEqual(['home', 'disk-a'])
    expect(partsToOpen(from, { do: 'decrypt', part: 'home' })).toEqual(['home'])
    expect(partsToOpen(from, { do: 'encrypt', part: 'disk-b', provider: 'gold' })).toEqual(['home'])
  })
})
