import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { Secret } from '../../../src/core/secret.js'
import {
  contentKeyOf,
  makeDumpKey,
  openDump,
  parseDumpHeader,
  sealDump,
} from '../../../src/host-agent/core-dumps/sealed-dump.js'

const CHUNK = 64 * 1024
const SEALED_CHUNK = CHUNK + 16
const { publicKey, privateKey } = makeDumpKey()

async function* inPieces(octets: Uint8Array, size = 10_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < octets.length; at += size) yield octets.subarray(at, at + size)
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = []
  for await (const chunk of chunks) all.push(chunk)
  return Buffer.concat(all)
}

const seal = (plain: Uint8Array, info = '4711 11 sleep') =>
  collect(sealDump(publicKey, info, inPieces(plain)))

async function open(sealed: Uint8Array, key = privateKey): Promise<Buffer> {
  const header = parseDumpHeader(sealed)
  const contentKey = contentKeyOf(new Secret(Uint8Array.from(key)), header)
  return collect(openDump(contentKey, header, inPieces(sealed.subarray(header.octets.length))))
}

describe('a sealed core dump', () => {
  test.each([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])(
    'of %i octets opens as it was, with the private key alone',
    async (length) => {
      const plain = randomBytes(length)
      const sealed = await seal(plain)
      expect((await open(sealed)).equals(plain)).toBe(true)
      expect(parseDumpHeader(sealed).info).toBe('4711 11 sleep')
      await expect(open(sealed, makeDumpKey().privateKey)).rejects.toMatchObject({
        code: 'CORE_DUMP',
      })
    },
  )

  test('is another one each time', async () => {
    const plain = randomBytes(100)
    expect((await seal(plain)).equals(await seal(plain))).toBe(false)
  })

  test('does not open when a bit is another, wherever it is', async () => {
    const sealed = await seal(randomBytes(2 * CHUNK + 5))
    for (const at of [0, 4, 5, 21, 60, 80, CHUNK, SEALED_CHUNK + 100, sealed.length - 1]) {
      const altered = Buffer.from(sealed)
      altered.writeUInt8(altered.readUInt8(at) ^ 1, at)
      await expect(open(altered)).rejects.toMatchObject({ code: 'CORE_DUMP' })
    }
  })

  test('does not open when its end is missing, or something follows', async () => {
    const sealed = await seal(randomBytes(2 * CHUNK))
    const { length } = parseDumpHeader(sealed).octets
    const cuts = [length, length + 10, length + SEALED_CHUNK, sealed.length - 1]
    for (const end of cuts) {
      await expect(open(sealed.subarray(0, end))).rejects.toMatchObject({ code: 'CORE_DUMP' })
    }
    const longer = Buffer.concat([sealed, Buffer.alloc(1)])
    await expect(open(longer)).rejects.toMatchObject({ code: 'CORE_DUMP' })
  })

  test('does not open with chunks in another order, or with those of another dump', async () => {
    const sealed = await seal(randomBytes(3 * CHUNK))
    const { length } = parseDumpHeader(sealed).octets
    const chunk = (of: Buffer, index: number) =>
      of.subarray(length + index * SEALED_CHUNK, length + (index + 1) * SEALED_CHUNK)
    const head = sealed.subarray(0, length)
    const swapped = [head, chunk(sealed, 1), chunk(sealed, 0), chunk(sealed, 2)]
    await expect(open(Buffer.concat(swapped))).rejects.toMatchObject({ code: 'CORE_DUMP' })
    const other = await seal(randomBytes(3 * CHUNK))
    const mixed = [head, chunk(sealed, 0), chunk(other, 1), chunk(sealed, 2)]
    await expect(open(Buffer.concat(mixed))).rejects.toMatchObject({ code: 'CORE_DUMP' })
  })

  test('is told from other files', () => {
    for (const text of ['', 'SGCD', '\x7fELF', `SGCD\x02${'x'.repeat(100)}`]) {
      expect(() => parseDumpHeader(Buffer.from(text, 'latin1'))).toThrow(/core dump/)
    }
  })
})
