import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { openTpm, TpmError } from '../../../native/index.js'
import { toHex } from '../../../src/core/bytes.js'
import { startBareTpm } from '../../helpers/bare-swtpm.js'
import { tpm2 } from './tpm2-tools.js'

const EK_CERTIFICATE_INDEX = 0x01c00002
const ALL_PCRS = Array.from({ length: 24 }, (_, pcr) => pcr)

describe('a TPM', () => {
  test('gives as many random octets as asked for, more than it has in one answer too', async () => {
    await using software = await startBareTpm()
    await using tpm = await openTpm(software)
    const one = await tpm.getRandom(16)
    const other = await tpm.getRandom(16)
    expect(one).toHaveLength(16)
    expect(toHex(one)).not.toBe(toHex(other))
    expect(await tpm.getRandom(200)).toHaveLength(200)
    await expect(tpm.getRandom(0)).rejects.toThrow(TypeError)
    await expect(tpm.getRandom(1e9)).rejects.toThrow(TypeError)
  })

  test('tells its manufacturer and its banks', async () => {
    await using software = await startBareTpm()
    await using tpm = await openTpm(software)
    expect(await tpm.properties()).toEqual({
      manufacturer: 'IBM',
      vendorString: 'SWTPM',
      firmwareVersion: expect.stringMatching(/^[0-9a-f]{8}\.[0-9a-f]{8}$/),
      activeBanks: ['sha1', 'sha256', 'sha384', 'sha512'],
    })
  })

  test('reads PCRs beyond the eight of one answer, as tpm2-tools reads them', async () => {
    await using software = await startBareTpm()
    const digest = randomBytes(32)
    const values = new Map<number, Uint8Array>()
    {
      await using tpm = await openTpm(software)
      await tpm.pcrExtend(10, [{ bank: 'sha256', digest }])
      for (const [pcr, value] of await tpm.pcrRead('sha256', [...ALL_PCRS, 10])) {
        values.set(pcr, value)
      }
    }
    expect([...values.keys()]).toEqual(ALL_PCRS)
    const printed = await tpm2('pcrread', ['sha256'], software.tcti)
    const theirs = [...printed.matchAll(/^\s*(\d+)\s*: 0x([0-9A-F]{64})$/gm)]
    expect(theirs).toHaveLength(24)
    for (const [, pcr, hex] of theirs) {
      expect(toHex(values.get(Number(pcr)) ?? new Uint8Array())).toBe(hex?.toLowerCase())
    }
  })

  test('extends one PCR in the banks that a digest is given for, and no other', async () => {
    await using software = await startBareTpm()
    await using tpm = await openTpm(software)
    await tpm.pcrExtend(16, [
      { bank: 'sha256', digest: randomBytes(32) },
      { bank: 'sha384', digest: randomBytes(48) },
    ])
    const isZero = async (bank: 'sha1' | 'sha256' | 'sha384') =>
      (await tpm.pcrRead(bank, [16])).get(16)?.every((octet) => octet === 0)
    expect(await isZero('sha256')).toBe(false)
    expect(await isZero('sha384')).toBe(false)
    expect(await isZero('sha1')).toBe(true)
    const short = tpm.pcrExtend(16, [{ bank: 'sha256', digest: randomBytes(31) }])
    await expect(short).rejects.toThrow(TypeError)
    await expect(tpm.pcrExtend(24, [])).rejects.toThrow(TypeError)
  })

  test('runs commands in the order of the calls', async () => {
    await using software = await startBareTpm()
    await using tpm = await openTpm(software)
    const pcr16 = async () => toHex((await tpm.pcrRead('sha256', [16])).get(16) ?? new Uint8Array())
    const extend = () => tpm.pcrExtend(16, [{ bank: 'sha256', digest: randomBytes(32) }])
    const [before, , after, again] = await Promise.all([pcr16(), extend(), pcr16(), pcr16()])
    expect(before).toBe('00'.repeat(32))
    expect(after).not.toBe(before)
    expect(again).toBe(after)
  })

  test('has nothing at an NV index that is not defined', async () => {
    await using software = await startBareTpm()
    await using tpm = await openTpm(software)
    expect(await tpm.nvRead(EK_CERTIFICATE_INDEX)).toBeUndefined()
  })

  test('reads an NV index that is larger than one answer', async () => {
    await using software = await startBareTpm()
    const contents = randomBytes(1800)
    await defineIndex(software.tcti, EK_CERTIFICATE_INDEX, 'ownerread|ownerwrite', contents)
    await using tpm = await openTpm(software)
    expect(toHex((await tpm.nvRead(EK_CERTIFICATE_INDEX)) ?? new Uint8Array())).toBe(
      toHex(contents),
    )
  })

  test('names the refusal of an NV index that the owner may not read', async () => {
    await using software = await startBareTpm()
    const attributes = 'authread|ownerwrite'
    await defineIndex(software.tcti, EK_CERTIFICATE_INDEX, attributes, randomBytes(8))
    await using tpm = await openTpm(software)
    const error = await tpm.nvRead(EK_CERTIFICATE_INDEX).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(TpmError)
    // TPM_RC_NV_AUTHORIZATION
    expect(error).toMatchObject({ code: 'TPM_RC', rc: 0x149 })
  })
})

async function defineIndex(
  tcti: string,
  index: number,
  attributes: string,
  contents: Uint8Array,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'sgl-'))
  try {
    const file = join(folder, 'contents')
    await writeFile(file, contents)
    const handle = `0x${index.toString(16)}`
    const size = String(contents.length)
    await tpm2('nvdefine', ['-C', 'o', '-s', size, '-a', attributes, handle], tcti)
    await tpm2('nvwrite', ['-C', 'o', '-i', file, handle], tcti)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
