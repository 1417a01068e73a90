import { createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newUuid } from '../../../src/core/random.js'
import { Secret } from '../../../src/core/secret.js'
import { MemoryWriter, openMemory } from '../../../src/host-agent/vm/memory-file.js'

const MIB = 1024 * 1024
const HEADER = 4 + 1 + 32
const SEALED = MIB + 16
const key = randomBytes(32)
const owner = { homeKey: new Secret(key), vmId: newUuid(), snapshotId: newUuid() }

let folder: string
let files = 0

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sigillo-memory-file-'))
})

afterAll(() => rm(folder, { recursive: true }))

/** Writes in pieces of a size that fits nothing. */
async function write(content: Buffer): Promise<{ readonly path: string; readonly octets: number }> {
  files += 1
  const path = join(folder, `${files}`)
  await using writer = await MemoryWriter.create(path, owner)
  for (let offset = 0; offset < content.length; offset += 300_007) {
    await writer.write(content.subarray(offset, offset + 300_007))
  }
  return { path, octets: await writer.finish() }
}

async function read(path: string, octets: number, of = owner): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of openMemory(path, octets, of)) pieces.push(Buffer.from(piece))
  return Buffer.concat(pieces)
}

/** The format as the documents say it, read by other code. */
function readByHand(file: Buffer): Buffer {
  expect(file.subarray(0, 5).toString('latin1')).toBe('SGVM\x01')
  const info = `sigillo snapshot memory v1 ${owner.vmId} ${owner.snapshotId}`
  const derived = hkdfSync('sha256', key, file.subarray(5, HEADER), info, 32)
  const chunks: Buffer[] = []
  for (let offset = HEADER, count = 0; offset < file.length; offset += SEALED, count += 1) {
    const chunk = file.subarray(offset, offset + SEALED)
    const iv = Buffer.alloc(12)
    iv.writeUInt32BE(count, 7)
    iv[11] = offset + chunk.length === file.length ? 1 : 0
    const decipher = createDecipheriv('aes-256-gcm', Buffer.from(derived), iv)
    decipher.setAuthTag(chunk.subarray(-16))
    chunks.push(decipher.update(chunk.subarray(0, -16)))
    decipher.final()
  }
  return Buffer.concat(chunks)
}

describe('the memory of a VM in a snapshot', () => {
  for (const octets of [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB]) {
    test(`of ${octets} octets lies on the disk as the documents say, and is read back`, async () => {
      const content = randomBytes(octets)
      const written = await write(content)
      const file = await readFile(written.path)
      expect(file.length).toBe(written.octets)
      expect(readByHand(file).equals(content)).toBe(true)
      expect((await read(written.path, written.octets)).equals(content)).toBe(true)
    })
  }

  test('is another each time that it is sealed', async () => {
    const content = Buffer.alloc(100)
    const [one, other] = [await write(content), await write(content)]
    const salts = [await readFile(one.path), await readFile(other.path)]
    expect(salts[0]?.subarray(HEADER).equals(salts[1]?.subarray(HEADER) ?? key)).toBe(false)
  })

  const part = (file: Buffer, index: number) =>
    file.subarray(HEADER + index * SEALED, HEADER + (index + 1) * SEALED)
  const head = (file: Buffer) => file.subarray(0, HEADER)
  const changes: Readonly<Record<string, (file: Buffer) => Buffer>> = {
    'without its last chunk': (file) => file.subarray(0, HEADER + 2 * SEALED),
    'without its first chunk': (file) => Buffer.concat([head(file), part(file, 1), part(file, 2)]),
    'with two chunks in another order': (file) =>
      Buffer.concat([head(file), part(file, 1), part(file, 0), part(file, 2)]),
    'with its last chunk twice': (file) => Buffer.concat([file, part(file, 2)]),
    'with an octet more': (file) => Buffer.concat([file, Buffer.of(0)]),
    'without chunks': head,
    'without a header': () => Buffer.alloc(0),
    'of another version': (file) => Buffer.concat([Buffer.from('SGVM\x02'), file.subarray(5)]),
    'with another salt': (file) =>
      Buffer.concat([file.subarray(0, 5), randomBytes(32), file.subarray(HEADER)]),
  }
  for (const [what, change] of Object.entries(changes)) {
    test(`is refused ${what}`, async () => {
      const { path } = await write(randomBytes(2 * MIB + 5))
      const changed = change(await readFile(path))
      await writeFile(path, changed)
      await expect(read(path, changed.length)).rejects.toThrow(RangeError)
    })
  }

  test('is refused for another VM, snapshot or key', async () => {
    const { path, octets } = await write(randomBytes(100))
    for (const change of [
      { vmId: newUuid() },
      { snapshotId: newUuid() },
      { homeKey: new Secret(randomBytes(32)) },
    ]) {
      await expect(read(path, octets, { ...owner, ...change })).rejects.toThrow(RangeError)
    }
  })
})
