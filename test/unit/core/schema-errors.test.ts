import { type TSchema, Type } from 'typebox'
import { describe, expect, test } from 'vitest'
import { Name } from '../../../src/api/common.js'
import { createVmTask } from '../../../src/api/tasks.js'
import { NAME_PATTERN } from '../../../src/core/names.js'
import { newUuid } from '../../../src/core/random.js'
import { misfitOf } from '../../../src/core/schema-errors.js'

const ofTask = (value: unknown) => misfitOf(createVmTask.body as TSchema, value)

describe('a value that does not fit its schema', () => {
  test('is told of by the member that is wrong', () => {
    const schema = Type.Object({ a: Type.Integer(), b: Type.Optional(Type.Literal('x')) })
    expect(misfitOf(schema, { a: 1 })).toBeUndefined()
    expect(misfitOf(schema, { a: 'text' })).toBe('/a must be integer')
    expect(misfitOf(schema, { a: 1, b: 'y' })).toBe('/b must be x')
    expect(misfitOf(schema, {})).toBe(' must have required properties a')
  })

  test('is told in words what a pattern stands for', () => {
    const schema = Type.Object({ items: Type.Array(Type.Object({ name: Name })) })
    expect(misfitOf(schema, { items: [{ name: 'a' }, { name: 'A b' }] })).toBe(
      `/items/1/name must match pattern "${NAME_PATTERN}" (lower-case name: letters, digits, dot, hyphen and underscore)`,
    )
  })

  test('has its own names quoted and cut', () => {
    const schema = Type.Object({}, { additionalProperties: false })
    expect(misfitOf(schema, { ['"\n'.repeat(200)]: 1 })).toMatch(/^\/[\\"n]{1,100} is not allowed$/)
  })
})

describe('a task that does not fit is told of by the kind that was asked for', () => {
  const vmId = newUuid()
  test.each([
    [{ kind: 'vm.stop', vmId, request: { graceSeconds: 3 } }, undefined],
    [
      { kind: 'vm.stop', vmId, request: { graceSeconds: -1 } },
      ' of kind vm.stop: /request/graceSeconds must be >= 0',
    ],
    [{ kind: 'vm.stop', request: {} }, ' of kind vm.stop: must have required properties vmId'],
    [
      { kind: 'vm.start', vmId, request: { force: true } },
      ' of kind vm.start: /request/force is not allowed',
    ],
    [
      { kind: 'keys.rewrap', hostId: 'a', vmId, request: {} },
      ' of kind keys.rewrap: /vmId is not allowed',
    ],
    [{ request: {} }, ' must have required properties kind'],
    [{ kind: 3, request: {} }, '/kind must be string'],
    [
      { kind: 'vm.fly' },
      expect.stringMatching(/^\/kind must be vm\.create or .* or keys\.rewrap$/),
    ],
    ['text', ' must be object'],
  ])('%j', (value, misfit) => {
    expect(ofTask(value)).toEqual(misfit)
  })
})
