import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { openTpm } from '../../../native/index.js'
import { toHex } from '../../../src/core/bytes.js'
import {
  MAX_SEALED_OCTETS,
  pcrDigest,
  policyPcrDigest,
  STORAGE_PRIMARY_TEMPLATE,
  sealedObjectTemplate,
  type Tpm,
} from '../../../src/tpm/index.js'
import { startBareTpm } from '../../helpers/bare-swtpm.js'
import { handlesLeft } from './tpm2-tools.js'

const POLICY = { bank: 'sha256', pcrs: [0, 7, 16] } as const

async function seal(tpm: Tpm, data: Uint8Array) {
  const primary = await tpm.createPrimary('owner', STORAGE_PRIMARY_TEMPLATE)
  const values = [...(await tpm.pcrRead('sha256', POLICY.pcrs)).values()]
  const template = sealedObjectTemplate(policyPcrDigest(POLICY, pcrDigest('sha256', values)))
  return { primary, blob: await tpm.seal(primary, template, data) }
}

test.each([1, 32, MAX_SEALED_OCTETS])(
  '%i octets come back after a restart of the TPM',
  async (n) => {
    await using software = await startBareTpm()
    const data = randomBytes(n)
    let blob: Awaited<ReturnType<typeof seal>>['blob']
    {
      await using tpm = await openTpm(software)
      ;({ blob } = await seal(tpm, data))
    }
    await software.restart()
    await using tpm = await openTpm(software)
    const primary = await tpm.createPrimary('owner', STORAGE_PRIMARY_TEMPLATE)
    expect(toHex(await tpm.unsealWithPcrPolicy(primary, blob, POLICY))).toBe(toHex(data))
  },
)

test('data is not given back once a PCR changed, and sessions and objects are not left behind', async () => {
  await using software = await startBareTpm()
  {
    await using tpm = await openTpm(software)
    const { primary, blob } = await seal(tpm, randomBytes(32))
    await tpm.pcrExtend(16, [{ bank: 'sha256', digest: randomBytes(32) }])
    for (let round = 0; round < 5; round += 1) {
      await expect(tpm.unsealWithPcrPolicy(primary, blob, POLICY)).rejects.toMatchObject({
        code: 'TPM_POLICY_FAIL',
      })
    }
    await expect(
      tpm.unsealWithPcrPolicy(primary, blob, { bank: 'sha256', pcrs: [0] }),
    ).rejects.toMatchObject({ code: 'TPM_POLICY_FAIL' })
  }
  expect(await handlesLeft(software.tcti)).toEqual([])
})

test('data is not given back by another TPM, nor where the object was altered', async () => {
  await using software = await startBareTpm()
  await using other = await startBareTpm()
  await using tpm = await openTpm(software)
  await using otherTpm = await openTpm(other)
  const { primary, blob } = await seal(tpm, randomBytes(32))
  const foreign = await otherTpm.createPrimary('owner', STORAGE_PRIMARY_TEMPLATE)
  const refused = { code: 'TPM_OBJECT_FOREIGN' }
  await expect(otherTpm.unsealWithPcrPolicy(foreign, blob, POLICY)).rejects.toMatchObject(refused)
  const altered = {
    ...blob,
    privateBlob: blob.privateBlob.with(-1, (blob.privateBlob.at(-1) ?? 0) ^ 1),
  }
  await expect(tpm.unsealWithPcrPolicy(primary, altered, POLICY)).rejects.toMatchObject(refused)
  const template = blob.publicBlob.with(12, (blob.publicBlob[12] ?? 0) ^ 1)
  await expect(
    tpm.unsealWithPcrPolicy(primary, { ...blob, publicBlob: template }, POLICY),
  ).rejects.toMatchObject(refused)
})

test('more than the TPM holds is refused', async () => {
  await using software = await startBareTpm()
  await using tpm = await openTpm(software)
  await expect(seal(tpm, randomBytes(MAX_SEALED_OCTETS + 200))).rejects.toThrow()
  // and the next command is answered confidentially again
  expect(await tpm.getRandom(16)).toHaveLength(16)
})
