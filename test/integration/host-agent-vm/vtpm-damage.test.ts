import { createHash, randomInt } from 'node:crypto'
import { copyFile, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Secret } from '../../../src/core/secret.js'
import { pathsOf } from '../../../src/host-agent/vm/layout.js'
import { openVtpmState } from '../../../src/host-agent/vm/vtpm-record.js'
import { decryptVtpmState, parseVtpmState } from '../../../src/host-agent/vm/vtpm-state.js'
import { createTestHost, processesNaming, type TestHost } from './support.js'

const FLIPS = 1000
const HEADER_OCTETS = 10
const ELEMENT_HEADER_OCTETS = 6

let host: TestHost
let folder: string
let state: string
let dek: Secret
let content: Buffer

beforeAll(async () => {
  host = await createTestHost()
  const request = { provider: 'kp', memoryMib: 128, disks: [] }
  const { vmId } = await host.vms.create({ name: 'vm', ...request })
  // keys are made in their order: the home, the state, what leaves the host
  dek = new Secret(new Uint8Array(host.keys.seen[1] ?? Buffer.alloc(32)))
  await host.vms.create({ name: 'other', ...request })
  folder = `${host.directory}/${vmId}`
  state = `${folder}/vtpm/tpm2-00.permall`
  content = await readFile(state)
})

afterAll(() => host[Symbol.asyncDispose]())

const open = () => openVtpmState(pathsOf(folder), dek)

async function startedWith(octets: Uint8Array): Promise<unknown> {
  await writeFile(state, octets)
  try {
    const error: unknown = await host.vms.start('vm').then(
      () => undefined,
      (reason: unknown) => reason,
    )
    expect(processesNaming(folder)).toEqual([])
    expect(await readFile(state)).toEqual(Buffer.from(octets))
    return error
  } finally {
    await writeFile(state, content)
  }
}

describe('swtpm never sees', () => {
  test('a state that is cut off, wherever that is', async () => {
    for (let length = 0; length < content.length; length += 1) {
      await writeFile(state, content.subarray(0, length))
      await expect(open(), `${length} octets`).rejects.toMatchObject({
        code: 'VTPM_STATE_TRUNCATED',
      })
    }
    await writeFile(state, content)
    await expect(open()).resolves.toMatchObject({ standing: 'recorded' })
  })

  test('a state of which the header was made to fit where it was cut', async () => {
    const parsed = parseVtpmState(content)
    const ciphertextEnd = HEADER_OCTETS + ELEMENT_HEADER_OCTETS + parsed.ciphertext.length
    const hmacEnd = ciphertextEnd + ELEMENT_HEADER_OCTETS + parsed.hmac.length
    for (const length of [HEADER_OCTETS, ciphertextEnd - 16, ciphertextEnd, hmacEnd]) {
      const cut = Buffer.from(content.subarray(0, length))
      cut.writeUInt32BE(length, 6)
      await writeFile(state, cut)
      await expect(open(), `${length} octets`).rejects.toMatchObject({
        code: expect.stringMatching(/^VTPM_STATE_(CORRUPT|TRUNCATED)$/),
      })
    }
    await writeFile(state, content)
  })

  test(`a state with one other bit, in ${FLIPS} places`, async () => {
    for (let flip = 0; flip < FLIPS; flip += 1) {
      const bit = randomInt(content.length * 8)
      const altered = Buffer.from(content)
      altered.writeUInt8(altered.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
      await writeFile(state, altered)
      await expect(open(), `bit ${bit}`).rejects.toMatchObject({
        code: expect.stringMatching(/^VTPM_STATE_(CORRUPT|TRUNCATED)$/),
      })
    }
    await writeFile(state, content)
  })

  test('an empty state', async () => {
    expect(await startedWith(new Uint8Array())).toMatchObject({ code: 'VTPM_STATE_TRUNCATED' })
  })

  test('a state that is not encrypted, which would show the seeds of the TPM', async () => {
    const plain = decryptVtpmState(parseVtpmState(content), dek).use((octets) => octets.slice())
    const header = Buffer.from([2, 1, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0])
    header.writeUInt32BE(header.length + plain.length, 6)
    header.writeUInt32BE(plain.length, 12)
    const octets = Buffer.concat([header, plain])
    expect(await startedWith(octets)).toMatchObject({ code: 'VTPM_STATE_PLAIN' })
  })

  test('the state of another VM, which is named', async () => {
    const { vmId } = await host.vms.show('other')
    const foreign = await readFile(`${host.directory}/${vmId}/vtpm/tpm2-00.permall`)
    expect(await startedWith(foreign)).toMatchObject({
      ...{ code: 'VTPM_STATE_FOREIGN', message: expect.stringContaining('VM other') },
    })
  })

  test('its own state with the key of another VM', async () => {
    host.keys.wrongFor = 'vtpm'
    expect(await startedWith(content)).toMatchObject({ code: 'VM_KEY_WRONG' })
    host.keys.wrongFor = undefined
  })

  test('no state: it would make a new TPM', async () => {
    await rm(state)
    await expect(host.vms.start('vm')).rejects.toMatchObject({ code: 'VTPM_STATE_MISSING' })
    expect(await readdir(`${folder}/vtpm`)).not.toContain('tpm2-00.permall')
    await writeFile(state, content, { mode: 0o600 })
  })
})

describe('the copy of the last recorded state', () => {
  test('is what the VM stopped with', async () => {
    await host.vms.start('vm')
    await host.vms.stop('vm', { graceSeconds: 0 })
    content = await readFile(state)
    const { digest } = JSON.parse(await readFile(`${folder}/vtpm.json`, 'utf8'))
    expect(await readFile(`${folder}/vtpm-backup.permall`)).toEqual(content)
    expect(createHash('sha256').update(content).digest('hex')).toBe(digest)
  })

  test('does not take the place of a state that is good', async () => {
    await expect(host.vms.restoreVtpmState('vm')).rejects.toMatchObject({
      code: 'VTPM_STATE_INTACT',
    })
  })

  test.each([
    ['empty, as a power failure leaves it', () => writeFile(state, '')],
    ['missing', () => rm(state)],
    ['altered', () => writeFile(state, Buffer.concat([content.subarray(0, -1), Buffer.of(0)]))],
  ])('takes the place of one that is %s, when it is asked for', async (_, damage) => {
    await damage()
    await expect(host.vms.start('vm')).rejects.toMatchObject({
      code: expect.stringMatching(/^VTPM_STATE_/),
    })
    await host.vms.restoreVtpmState('vm')
    expect(await readFile(state)).toEqual(content)
    await host.vms.start('vm')
    await host.vms.stop('vm', { graceSeconds: 0 })
    content = await readFile(state)
  })

  test('is refused when it does not verify either', async () => {
    const backup = `${folder}/vtpm-backup.permall`
    await copyFile(backup, `${backup}.kept`)
    await writeFile(state, '')
    await writeFile(backup, content.subarray(0, -1))
    await expect(host.vms.restoreVtpmState('vm')).rejects.toMatchObject({
      code: 'VTPM_STATE_TRUNCATED',
    })
    const altered = Buffer.from(content)
    altered.writeUInt8(altered.readUInt8(100) ^ 1, 100)
    await writeFile(backup, altered)
    await expect(host.vms.restoreVtpmState('vm')).rejects.toMatchObject({
      code: 'VTPM_STATE_CORRUPT',
    })
    await copyFile(`${backup}.kept`, backup)
    await rm(`${backup}.kept`)
    await host.vms.restoreVtpmState('vm')
  })
})

test('a file that swtpm did not finish writing when its host lost power is of no account', async () => {
  const half = `${folder}/vtpm/TMP2-00.permall`
  await writeFile(half, content.subarray(0, 100), { mode: 0o600 })
  await host.vms.start('vm')
  await host.vms.stop('vm', { graceSeconds: 0 })
  await expect(readFile(half)).rejects.toMatchObject({ code: 'ENOENT' })
})
