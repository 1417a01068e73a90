import { expect, test } from 'vitest'
import { Recent } from '../../../src/core/recent.js'

test('the values that were used last are kept, and no more than so many', () => {
  const recent = new Recent<string, number>(2)
  recent.set('a', 1)
  recent.set('b', 2)
  expect(recent.get('a')).toBe(1)
  recent.set('c', 3)
  expect(['a', 'b', 'c'].map((key) => recent.get(key))).toEqual([1, undefined, 3])
  recent.set('a', 4)
  expect(recent.get('a')).toBe(4)
  recent.clear()
  expect(recent.get('a')).toBeUndefined()
})
