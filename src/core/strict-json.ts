import { DecodeError } from './errors.js'

/** Bounds of JSON text, checked before it becomes a value. */
export interface JsonLimits {
  /** Objects and arrays inside one another; a bare scalar has depth 0. */
  readonly maxDepth: number
  /** Members and elements in the whole text. */
  readonly maxItems: number
}

/** Names that change the prototype of a careless copy. No structure of ours has them. */
const REFUSED_NAMES: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype'])

/** Longest number text: a safe integer with its sign has 17 characters; the rest is room for a fraction. */
const MAX_NUMBER_CHARACTERS = 24

const NUMBER = /[-+0-9.eE]+/y
const NAME_FOLLOWS = /[ \t\n\r]*:/y
const ILL_FORMED = /\p{Cs}|\0/u

/**
 * The value of JSON text, where the text has one meaning for every reader.
 *
 * Refuses, beyond what is not JSON: nesting or items above the limits, two members of one name, the names
 * `__proto__`, `constructor` and `prototype`, numbers beyond ±(2^53 − 1), lone surrogates, and U+0000. Takes linear
 * time. Does not check the size of the text: the caller does, before.
 *
 * @throws DecodeError `DECODE_VALUE`, or `DECODE_TOO_LARGE` above a limit; `offset` counts UTF-16 code units
 * @see RFC 8259; RFC 7493 (I-JSON), section 2
 */
export function parseStrictJson(text: string, limits: JsonLimits): unknown {
  checkStructure(text, limits)
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new DecodeError('DECODE_VALUE', 0, 'expected JSON text', { cause })
  }
}

/** Walks strings, numbers and brackets; the grammar between them is left to `JSON.parse`. */
function checkStructure(text: string, limits: JsonLimits): void {
  const open: Set<string>[] = []
  let items = 0
  let offset = 0
  while (offset < text.length) {
    const character = text.charAt(offset)
    if (character === '"') {
      const end = endOfString(text, offset)
      checkString(text, offset, end, open.at(-1))
      offset = end
      continue
    }
    if (character === '-' || (character >= '0' && character <= '9')) {
      offset = checkNumber(text, offset)
      continue
    }
    if (character === '{' || character === '[') {
      open.push(new Set())
      if (open.length > limits.maxDepth) throw tooLarge(offset, 'depth', limits.maxDepth)
    } else if (character === '}' || character === ']') {
      open.pop()
    }
    if (character === ',' || character === '{' || character === '[') {
      items += 1
      if (items > limits.maxItems) throw tooLarge(offset, 'items', limits.maxItems)
    }
    offset += 1
  }
}

/** Offset after the closing quote. */
function endOfString(text: string, start: number): number {
  for (
    let quote = text.indexOf('"', start + 1);
    quote !== -1;
    quote = text.indexOf('"', quote + 1)
  ) {
    let backslashes = 0
    while (text.charAt(quote - 1 - backslashes) === '\\') backslashes += 1
    if (backslashes % 2 === 0) return quote + 1
  }
  throw new DecodeError('DECODE_VALUE', start, `expected the end of the string at ${start}`)
}

function checkString(
  text: string,
  start: number,
  end: number,
  names: Set<string> | undefined,
): void {
  NAME_FOLLOWS.lastIndex = end
  const isMemberName = NAME_FOLLOWS.test(text)
  const literal = text.slice(start, end)
  const escaped = literal.includes('\\')
  if (!isMemberName && !escaped) return
  const value = escaped ? parseString(literal, start) : literal.slice(1, -1)
  if (ILL_FORMED.test(value)) {
    throw new DecodeError('DECODE_VALUE', start, 'expected well-formed text without U+0000')
  }
  if (!isMemberName) return
  if (REFUSED_NAMES.has(value)) {
    throw new DecodeError('DECODE_VALUE', start, `the member name ${value} is not allowed`)
  }
  if (names?.has(value)) {
    throw new DecodeError(
      'DECODE_VALUE',
      start,
      `expected one member of each name, found two at ${start}`,
    )
  }
  names?.add(value)
}

function parseString(literal: string, start: number): string {
  try {
    return String(JSON.parse(literal))
  } catch (cause) {
    throw new DecodeError('DECODE_VALUE', start, `expected a JSON string at ${start}`, { cause })
  }
}

function checkNumber(text: string, start: number): number {
  NUMBER.lastIndex = start
  const literal = NUMBER.exec(text)?.[0] ?? ''
  const isLong = literal.length > MAX_NUMBER_CHARACTERS
  if (isLong || !(Math.abs(Number(literal)) <= Number.MAX_SAFE_INTEGER)) {
    throw new DecodeError('DECODE_VALUE', start, `expected a number below 2^53 at ${start}`)
  }
  return start + literal.length
}

function tooLarge(offset: number, what: string, limit: number): DecodeError {
  return new DecodeError('DECODE_TOO_LARGE', offset, `expected at most ${limit} ${what} of JSON`)
}
