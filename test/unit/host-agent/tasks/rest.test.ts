import { describe, expect, test } from 'vitest'
import { TASK_HANDLERS } from '../../../../src/host-agent/tasks/handlers.js'
import type { VmFacts } from '../../../../src/host-agent/vm/index.js'

const ROOT = { name: 'root', sizeOctets: 1024, isEncrypted: true }
const DATA = { name: 'data', sizeOctets: 2048, isEncrypted: true }
const ENCRYPTED: VmFacts = {
  ...{ vmId: '6f1c1d9e-5c52-4f0b-9a7e-0d6d1f0f7a11', name: 'web1' },
  ...{ isRunning: false, isHomeEncrypted: true, vtpm: false, disks: [ROOT, DATA] },
  generations: { home: 1, 'disk-root': 1, 'disk-data': 1 },
  snapshots: [],
}
const PLAIN: VmFacts = {
  ...ENCRYPTED,
  isHomeEncrypted: false,
  disks: [ROOT, DATA].map((disk) => ({ ...disk, isEncrypted: false })),
  generations: {},
}
const rest = (kind: keyof typeof TASK_HANDLERS, request: object, before?: VmFacts, now?: VmFacts) =>
  TASK_HANDLERS[kind].rest(request as never, before, now)

describe('of a task that was interrupted, what is left', () => {
  test('is nothing where the VM that it makes is there, and all where it is not', () => {
    const request = { name: 'web1', disks: [] }
    for (const kind of ['vm.create', 'vm.clone'] as const) {
      expect(rest(kind, request, undefined, ENCRYPTED)).toBeUndefined()
      expect(rest(kind, request, undefined, undefined)).toBe(request)
    }
  })

  test('of a start, stop or deletion is seen from the VM', () => {
    const running = { ...ENCRYPTED, isRunning: true }
    expect(rest('vm.start', {}, ENCRYPTED, running)).toBeUndefined()
    expect(rest('vm.start', {}, ENCRYPTED, ENCRYPTED)).toEqual({})
    expect(rest('vm.stop', {}, running, ENCRYPTED)).toBeUndefined()
    expect(rest('vm.stop', {}, running, running)).toEqual({})
    expect(rest('vm.stop', {}, ENCRYPTED, ENCRYPTED)).toEqual({})
    expect(rest('vm.delete', {}, ENCRYPTED, undefined)).toBeUndefined()
    expect(rest('vm.delete', {}, undefined, undefined)).toEqual({})
  })

  test('of a return to a snapshot with memory is nothing once the guest goes on from it', () => {
    const request = { snapshot: 'live' }
    const running = { ...ENCRYPTED, isRunning: true }
    const resumed = { ...running, resumedFrom: ['live'] }
    expect(rest('vm.revert-snapshot', request, ENCRYPTED, resumed)).toBeUndefined()
    expect(rest('vm.revert-snapshot', request, ENCRYPTED, running)).toBe(request)
    expect(rest('vm.revert-snapshot', request, resumed, resumed)).toBe(request)
    expect(rest('vm.revert-snapshot', request, ENCRYPTED, ENCRYPTED)).toBe(request)
  })

  test('of an encryption is what is plain still', () => {
    const half = { ...ENCRYPTED, disks: [ROOT, { ...DATA, isEncrypted: false }] }
    const wanted = { provider: 'gold', compare: 'all' }
    expect(rest('vm.encrypt', wanted, PLAIN, ENCRYPTED)).toBeUndefined()
    expect(rest('vm.encrypt', wanted, PLAIN, PLAIN)).toBe(wanted)
    const left = { ...wanted, home: false, vtpm: false, disks: ['data'] }
    expect(rest('vm.encrypt', wanted, PLAIN, half)).toEqual(left)
    expect(rest('vm.encrypt', { disks: ['root'] }, PLAIN, half)).toBeUndefined()
  })

  test('of an encryption of what was encrypted before is the same, so that it is refused again', () => {
    const wanted = { disks: ['root'] }
    expect(rest('vm.encrypt', wanted, ENCRYPTED, ENCRYPTED)).toBe(wanted)
    expect(rest('vm.decrypt', wanted, PLAIN, PLAIN)).toBe(wanted)
  })

  test('of new keys is what has no higher generation', () => {
    const half = { ...ENCRYPTED, generations: { home: 2, 'disk-root': 2, 'disk-data': 1 } }
    const all = { ...half, generations: { ...half.generations, 'disk-data': 2 } }
    expect(rest('vm.recrypt', {}, ENCRYPTED, half)).toEqual({
      ...{ home: false, vtpm: false, disks: ['data'] },
    })
    expect(rest('vm.recrypt', {}, ENCRYPTED, all)).toBeUndefined()
    expect(rest('vm.recrypt', { home: true }, ENCRYPTED, half)).toBeUndefined()
  })

  test('of a disk is seen from the disks, before and now', () => {
    const without = { ...ENCRYPTED, disks: [ROOT] }
    const add = { name: 'data', sizeOctets: 2048 }
    expect(rest('vm.add-disk', add, without, ENCRYPTED)).toBeUndefined()
    expect(rest('vm.add-disk', add, ENCRYPTED, ENCRYPTED)).toBe(add)
    const remove = { disk: 'data' }
    expect(rest('vm.remove-disk', remove, ENCRYPTED, without)).toBeUndefined()
    expect(rest('vm.remove-disk', remove, without, without)).toBe(remove)
    const grow = { disk: 'data', sizeOctets: 4096 }
    const grown = { ...ENCRYPTED, disks: [ROOT, { ...DATA, sizeOctets: 4096 }] }
    expect(rest('vm.grow-disk', grow, ENCRYPTED, grown)).toBeUndefined()
    expect(rest('vm.grow-disk', grow, grown, grown)).toBe(grow)
    expect(rest('vm.grow-disk', grow, ENCRYPTED, ENCRYPTED)).toBe(grow)
  })

  test('of a virtual TPM too', () => {
    const withTpm = { ...ENCRYPTED, vtpm: true }
    expect(rest('vm.add-vtpm', {}, ENCRYPTED, withTpm)).toBeUndefined()
    expect(rest('vm.add-vtpm', {}, withTpm, withTpm)).toEqual({})
    expect(rest('vm.remove-vtpm', {}, withTpm, ENCRYPTED)).toBeUndefined()
    expect(rest('vm.remove-vtpm', {}, ENCRYPTED, ENCRYPTED)).toEqual({})
  })
})
