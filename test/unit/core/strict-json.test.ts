import { expect, test } from 'vitest'
import { parseStrictJson } from '../../../src/core/strict-json.js'
import { processorMsOf } from '../../helpers/processor-time.js'

const limits = { maxDepth: 4, maxItems: 20 }
const parse = (text: string) => parseStrictJson(text, limits)

test('ordinary JSON is read as JSON.parse reads it', () => {
  for (const text of [
    '{"a":[1,-2.5,"x",true,null],"b":{"c":"\\u00e9\\"\\\\"}}',
    ' [ ] ',
    '"text"',
    '0',
    '{"a":{"b":1},"b":{"b":1}}',
    '["same","same"]',
    '{"a":"b","b":"a"}',
    '"\\ud83d\\ude00"',
    '9007199254740991',
  ]) {
    expect(parse(text)).toEqual(JSON.parse(text))
  }
})

const refused: readonly (readonly [claim: string, text: string, code: string])[] = [
  ['text that is not JSON', '{a:1}', 'DECODE_VALUE'],
  ['empty text', '', 'DECODE_VALUE'],
  ['a string without an end', '{"a":"b', 'DECODE_VALUE'],
  ['an escaped quote at the end', '"a\\"', 'DECODE_VALUE'],
  ['an unknown escape', '{"\\x":1}', 'DECODE_VALUE'],
  ['a closing bracket too many', '[]]', 'DECODE_VALUE'],
  ['a second value', '{} {}', 'DECODE_VALUE'],
  ['a member twice', '{"a":1,"a":2}', 'DECODE_VALUE'],
  ['a member twice, once escaped', '{"a":1,"\\u0061":2}', 'DECODE_VALUE'],
  ['a member twice with white space', '{"a" :1,"a"\n:2}', 'DECODE_VALUE'],
  ['a member twice around an object', '{"a":{"x":1},"a":{}}', 'DECODE_VALUE'],
  ['__proto__', '{"__proto__":{"admin":true}}', 'DECODE_VALUE'],
  ['an escaped __proto__', '{"\\u005f_proto__":{}}', 'DECODE_VALUE'],
  ['constructor', '{"a":{"constructor":{}}}', 'DECODE_VALUE'],
  ['prototype', '{"prototype":1}', 'DECODE_VALUE'],
  ['a number beyond the safe integers', '9007199254740993', 'DECODE_VALUE'],
  ['a number that overflows', '[1e400]', 'DECODE_VALUE'],
  ['a number of many digits', `[0.${'1'.repeat(100)}]`, 'DECODE_VALUE'],
  ['a lone surrogate', '"\\ud800"', 'DECODE_VALUE'],
  ['U+0000', '"\\u0000"', 'DECODE_VALUE'],
  ['deep arrays', '[[[[[]]]]]', 'DECODE_TOO_LARGE'],
  ['deep objects', '{"a":{"a":{"a":{"a":{}}}}}', 'DECODE_TOO_LARGE'],
  ['a megabyte of opening brackets', '['.repeat(1_000_000), 'DECODE_TOO_LARGE'],
  ['many elements', `[${'1,'.repeat(30)}1]`, 'DECODE_TOO_LARGE'],
]

test.each(refused)('refuses %s', (_, text, code) => {
  expect(() => parse(text)).toThrow(expect.objectContaining({ code }))
})

test('time is linear in a string of escapes', async () => {
  const text = JSON.stringify('\\"'.repeat(500_000))
  const took = await processorMsOf(() => {
    expect(parse(text)).toBe('\\"'.repeat(500_000))
  })
  expect(took).toBeLessThan(2000)
})
