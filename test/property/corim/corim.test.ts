import { generateKeyPairSync } from 'node:crypto'
import { decode, Tagged } from 'cborg'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { equalBytes } from '../../../src/core/bytes.js'
import { isPlatformError } from '../../../src/core/errors.js'
import { CborFloat, type CborItem, CborTag, parseCbor } from '../../../src/corim/cbor.js'
import {
  CORIM_LIMITS,
  parseCorim,
  parseReferenceJson,
  pcrReferenceValues,
  readCorimKey,
  verifySignedCorim,
} from '../../../src/corim/index.js'
import {
  cbor,
  corim,
  map,
  measured,
  moduleTag,
  NOW_MS,
  pcr,
  publicPem,
  sha256,
  sha384,
  signedCorim,
  tagged,
  time,
  triple,
  uri,
  uuid,
} from '../../helpers/corim.js'
import {
  chance,
  fastest,
  limitOf,
  MUTANTS,
  MUTANTS_TIMEOUT_MS,
  mutant,
} from '../../helpers/mutants.js'

const MAX_MS_FOR_64_KIB = 5

const KEY = generateKeyPairSync('ed25519')
const KEYS = [readCorimKey(publicPem(KEY.publicKey))]

const RICH = corim(
  [
    moduleTag([
      triple([pcr(0, 'firmware'), pcr(4, 'loader')]),
      triple([
        measured(uuid(3), {
          0: map({ 0: '1.0', 1: 16_384 }),
          1: tagged(552, 3),
          3: map({ 3: false }),
        }),
        measured('registers', {
          14: map({
            7: [
              [1, sha256('a')],
              [7, sha384('a')],
            ],
          }),
          11: 'name',
        }),
      ]),
    ]),
    tagged(505, cbor(map({ 0: 'software' }))),
  ],
  {
    4: map({ 0: time('2026-01-01'), 1: time('2027-01-01') }),
    5: [map({ 0: 'ACME', 1: uri('https://acme.example'), 2: [1] })],
  },
)
const SIGNED = signedCorim({ privateKey: KEY.privateKey, algorithm: -8, payload: RICH })

/** What `read` gives, or nothing where the input is refused in our own words. */
function refusedOr<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (!isPlatformError(error)) throw error
    return undefined
  }
}

function readable(octets: Uint8Array): boolean {
  const manifest = refusedOr(() => parseCorim(octets))
  if (manifest) pcrReferenceValues(manifest, { bank: 'sha256' })
  return manifest !== undefined
}

const accepted = (octets: Uint8Array) =>
  refusedOr(() => verifySignedCorim(octets, { keys: KEYS, nowMs: NOW_MS }))?.manifest !== undefined

test('any octets are a manifest, or are refused in our own words', () => {
  const heads = fc.constantFrom(
    [],
    [0xd9, 1, 0xf5],
    [0xd2, 0x84],
    [0xd9, 1, 0xf4, 0xd9, 1, 0xf5, 0xa2],
  )
  fc.assert(
    fc.property(heads, fc.uint8Array({ maxLength: 2048 }), (head, rest) => {
      const octets = Uint8Array.from([...head, ...rest])
      readable(octets)
      expect(accepted(octets)).toBe(false)
    }),
    { numRuns: 3_000 },
  )
})

test('any text is reference values, or is refused in our own words', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      refusedOr(() => parseReferenceJson(text))
    }),
    { numRuns: 2_000 },
  )
})

const { item } = fc.letrec((tie) => ({
  item: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.maxSafeInteger(),
    fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }),
    fc.bigInt({ min: -(2n ** 64n), max: -(2n ** 53n) }),
    fc.string({ unit: 'grapheme' }),
    fc.boolean(),
    fc.constant(null),
    fc.uint8Array({ maxLength: 300 }),
    fc.double({ noNaN: true, noDefaultInfinity: true }).filter((x) => !Number.isInteger(x)),
    fc.array(tie('item'), { maxLength: 30 }),
    fc
      .array(fc.tuple(fc.oneof(fc.maxSafeInteger(), fc.string()), tie('item')), { maxLength: 30 })
      .map((pairs) => new Map(pairs)),
    fc
      .tuple(fc.integer({ min: 0, max: 2 ** 40 }), tie('item'))
      .map(([tag, value]) => tagged(tag, value)),
  ),
}))

/** Ours, in the form of the other program. */
function plain(read: CborItem): unknown {
  if (read instanceof CborFloat) return read.value
  if (read instanceof CborTag) return tagged(read.tag, plain(read.item))
  if (read instanceof Map) return new Map([...read].map(([key, value]) => [key, plain(value)]))
  return Array.isArray(read) ? read.map(plain) : read
}

const LIMITS = { ...CORIM_LIMITS, maxDepth: 100 }

test('data that another program writes are read as they are', () => {
  fc.assert(
    fc.property(item, (data) => {
      expect(plain(parseCbor(cbor(data), LIMITS))).toEqual(data)
    }),
    { numRuns: 3_000 },
  )
})

const ANY_TAG = new Proxy<Record<number, (decode: () => unknown) => unknown>>(
  {},
  { get: (_, tag) => (content: () => unknown) => new Tagged(Number(tag), content()) },
)

test('octets that are read here are read by another program too, and alike', () => {
  const strict = {
    strict: true,
    allowIndefinite: false,
    allowUndefined: false,
    rejectDuplicateMapKeys: true,
    useMaps: true,
    tags: ANY_TAG,
  }
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 40 }), item.map(cbor)), (octets) => {
      const read = refusedOr(() => ({ item: parseCbor(octets, LIMITS) }))
      if (read) expect(plain(read.item)).toEqual(decode(octets, strict))
    }),
    { numRuns: 5_000 },
  )
})

type Outcome = 'refused' | 'read' | 'accepted'

interface Counts {
  read: number
  slow: number
  accepted: number
}

/** Tries changed copies of the first octets, spliced with the second. */
function tryMutants(
  name: string,
  [whole, other]: readonly [Uint8Array, Uint8Array],
  outcomeOf: (octets: Uint8Array) => Outcome,
): Counts {
  const next = chance(20_261_124)
  const counts: Counts = { read: 0, slow: 0, accepted: 0 }
  for (let count = 0; count < MUTANTS; count += 1) {
    const octets = mutant(whole, other, next)
    if (equalBytes(octets, whole)) continue
    const limit = limitOf(octets)
    const outcomes = new Set<Outcome>()
    const took = fastest(limit, () => outcomes.add(outcomeOf(octets)))
    if (took > limit) counts.slow += 1
    for (const outcome of outcomes) if (outcome !== 'refused') counts[outcome] += 1
  }
  process.stderr.write(
    `mutants of ${name}: ${MUTANTS}, ${counts.read} read, ${counts.accepted} accepted, ${counts.slow} slow\n`,
  )
  return counts
}

test(
  `${MUTANTS} changed manifests are read or refused, each soon`,
  () => {
    const counts = tryMutants('CoRIM', [RICH, SIGNED], (octets) =>
      readable(octets) ? 'read' : 'refused',
    )
    expect(counts).toMatchObject({ slow: 0, accepted: 0 })
    // Both outcomes are tried, again and again
    expect(counts.read).toBeGreaterThan(MUTANTS / 100)
    expect(counts.read).toBeLessThan(MUTANTS)
  },
  MUTANTS_TIMEOUT_MS,
)

test(
  `${MUTANTS} changed signed manifests: none accepted, each refused soon`,
  () => {
    expect(accepted(SIGNED)).toBe(true)
    const counts = tryMutants('signed CoRIM', [SIGNED, RICH], (octets) =>
      accepted(octets) ? 'accepted' : 'refused',
    )
    expect(counts).toMatchObject({ slow: 0, accepted: 0 })
  },
  MUTANTS_TIMEOUT_MS,
)

const of64KiB = (head: readonly number[], filling: readonly number[]) =>
  Uint8Array.from({ length: 65_536 }, (_, index) =>
    index < head.length
      ? (head[index] ?? 0)
      : (filling[(index - head.length) % filling.length] ?? 0),
  )

/** Many states of one machine. */
function manifestOf64KiB(): Uint8Array {
  const state = triple(Array.from({ length: 24 }, (_, index) => pcr(index, String(index))))
  const one = corim([moduleTag([state])]).length
  return corim([moduleTag(Array.from({ length: Math.floor(65_536 / one) }, () => state))])
}

test.each<[string, Uint8Array]>([
  ['a manifest', manifestOf64KiB()],
  ['an array of numbers', of64KiB([0xd9, 1, 0xf5, 0x99, 0xff, 0xfa], [0])],
  ['arrays of nothing', of64KiB([0xd9, 1, 0xf5, 0x99, 0xff, 0xfa], [0x80])],
  ['a map with many keys', of64KiB([0xd9, 1, 0xf5, 0xb9, 0x7f, 0xfd], [0, 0x60, 0x20, 0x61])],
  ['arrays in arrays', of64KiB([0xd9, 1, 0xf5], [0x81])],
  ['tags in tags', of64KiB([], [0xc1])],
  ['long text', of64KiB([0xd9, 1, 0xf5, 0x79, 0xff, 0xfa], [0x61])],
  [
    'text that is not UTF-8 at its end',
    of64KiB([0xd9, 1, 0xf5, 0x79, 0xff, 0xfa], [0xc3, 0xa9, 0xc3]),
  ],
])('64 KiB of %s take less than 5 ms', (_, octets) => {
  for (const read of [readable, accepted]) {
    const times = Array.from({ length: 50 }, () => {
      const started = performance.now()
      read(octets)
      return performance.now() - started
    }).sort((a, b) => a - b)
    // the fastest of them: others share the processors
    expect(times[0]).toBeLessThan(MAX_MS_FOR_64_KIB)
  }
})
