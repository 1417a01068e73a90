import { describe, expect, test } from 'vitest'
import {
  partsToDecrypt,
  partsToEncrypt,
  partsToRecrypt,
} from '../../../../src/host-agent/vm/vm-parts.js'

const disk = (name: string, plain: boolean) => ({
  ...{ name, sizeOctets: 512 },
  ...(plain ? { plain: true as const } : {}),
})
const plainVm = { name: 'vm', vtpm: false, disks: [disk('a', true), disk('b', true)] }
const mixedVm = {
  name: 'vm',
  provider: 'kp',
  vtpm: true,
  disks: [disk('a', true), disk('b', false)],
}
const encryptedVm = {
  ...{ name: 'vm', provider: 'kp', vtpm: false },
  disks: [disk('a', false), disk('b', false)],
}

describe('parts of a VM, in the order in which they are changed:', () => {
  test.each([
    ['all of a plain VM', plainVm, {}, ['home', 'disk-a', 'disk-b']],
    ['what is plain of a mixed one', mixedVm, {}, ['disk-a']],
    ['its home and one disk', plainVm, { disks: ['b'], home: true }, ['home', 'disk-b']],
    ['a disk that was named twice', mixedVm, { disks: ['a', 'a'] }, ['disk-a']],
  ])('encrypts %s', (_, vm, parts, expected) => {
    expect(partsToEncrypt(vm, parts, 'kp')).toEqual(expected)
  })

  test.each([
    ['all of an encrypted VM', encryptedVm, {}, ['disk-a', 'disk-b', 'home']],
    [
      'the home last, however it is asked',
      encryptedVm,
      { home: true, disks: ['b', 'a'] },
      ['disk-b', 'disk-a', 'home'],
    ],
    ['one disk of a VM with a virtual TPM', mixedVm, { disks: ['b'] }, ['disk-b']],
  ])('decrypts %s', (_, vm, parts, expected) => {
    expect(partsToDecrypt(vm, parts)).toEqual(expected)
  })

  test.each([
    ['all that is encrypted', mixedVm, {}, ['home', 'disk-b', 'vtpm']],
    ['the virtual TPM alone', mixedVm, { vtpm: true }, ['vtpm']],
  ])('gives new keys to %s', (_, vm, parts, expected) => {
    expect(partsToRecrypt(vm, parts)).toEqual(expected)
  })
})

describe('refused:', () => {
  test.each([
    ['a disk before the home', plainVm, { disks: ['a'] }, 'kp', 'VM_HOME_PLAIN'],
    ['a home without a provider', plainVm, {}, undefined, 'AGENT_NO_PROVIDER'],
    ['another provider than that of the VM', mixedVm, {}, 'other', 'REQUEST_INVALID'],
    ['what is encrypted already', encryptedVm, {}, undefined, 'VM_ENCRYPTED'],
    ['a disk that is encrypted already', mixedVm, { disks: ['b'] }, undefined, 'VM_ENCRYPTED'],
    ['a virtual TPM', mixedVm, { vtpm: true }, undefined, 'VM_ENCRYPTED'],
    ['a disk that is not there', mixedVm, { disks: ['c'] }, undefined, 'VM_DISK_NOT_FOUND'],
  ])('to encrypt %s', (_, vm, parts, provider, code) => {
    expect(() => partsToEncrypt(vm, parts, provider)).toThrow(expect.objectContaining({ code }))
  })

  test.each([
    ['the home before its disks', encryptedVm, { home: true }, 'VM_HOME_NEEDED'],
    [
      'the home before one of its disks',
      encryptedVm,
      { home: true, disks: ['a'] },
      'VM_HOME_NEEDED',
    ],
    ['a VM with a virtual TPM', mixedVm, {}, 'VM_HOME_NEEDED'],
    ['a virtual TPM', mixedVm, { vtpm: true }, 'REQUEST_INVALID'],
    ['a plain VM', plainVm, {}, 'VM_PLAIN'],
    ['a plain home', plainVm, { home: true }, 'VM_PLAIN'],
    ['a plain disk', mixedVm, { disks: ['a'] }, 'VM_PLAIN'],
  ])('to decrypt %s', (_, vm, parts, code) => {
    expect(() => partsToDecrypt(vm, parts)).toThrow(expect.objectContaining({ code }))
  })

  test.each([
    ['a plain VM', plainVm, {}, 'VM_PLAIN'],
    ['a plain disk', mixedVm, { disks: ['a'] }, 'VM_PLAIN'],
    ['a virtual TPM that is not there', encryptedVm, { vtpm: true }, 'VM_PLAIN'],
  ])('to give new keys to %s', (_, vm, parts, code) => {
    expect(() => partsToRecrypt(vm, parts)).toThrow(expect.objectContaining({ code }))
  })
})
