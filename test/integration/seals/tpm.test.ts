import { randomBytes } from 'node:crypto'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openTpm } from '../../../native/index.js'
import { createProvider, listProviders } from '../../../src/api/key-provider.js'
import { type BareTpm, startBareTpm } from '../../helpers/bare-swtpm.js'
import { openSealSite, operationsOf, type SealSite, trustedProvider } from './support.js'

const SERVICE = 'key-provider'
const { status, unseal, rotateRoot, addSeal, removeSeal } = operationsOf(SERVICE)
/** PCR 16 is one that anybody may extend. */
const PCRS = { SIGILLO_SEAL_TPM_PCRS: '0,7,16' }

let tpm: BareTpm
let site: SealSite
let settings: Readonly<Record<string, string>>

beforeAll(async () => {
  tpm = await startBareTpm()
  settings = { ...PCRS, SIGILLO_SEAL_TPM_TCTI: tpm.tcti, SIGILLO_SEAL_AUTOMATIC: 'tpm' }
  site = await openSealSite(['attestation', SERVICE], {
    ...settings,
    SIGILLO_SEAL_AUTOMATIC: 'passphrase',
  })
  await site.admin.call(createProvider, trustedProvider('primary'))
})
afterAll(async () => {
  await site[Symbol.asyncDispose]()
  await tpm[Symbol.asyncDispose]()
})

const restart = async (changes: Readonly<Record<string, string>> = {}) => {
  await site.stop()
  await site.start({ ...settings, ...changes })
}
const extend = async () => {
  await using opened = await openTpm(tpm)
  await opened.pcrExtend(16, [{ bank: 'sha256', digest: randomBytes(32) }])
}
const state = () => site.admin.call(status, {})

describe('a root key sealed by the TPM of the authority', () => {
  test('opens at start without anybody and without a passphrase on the machine', async () => {
    for (const service of ['attestation', SERVICE] as const) {
      const { addSeal: add } = operationsOf(service)
      const { status: after } = await site.admin.call(add, { body: { kind: 'tpm' } })
      expect(after.seals).toMatchObject([
        { kind: 'passphrase' },
        { kind: 'tpm', detail: 'PCRs 0,7,16 (sha256)' },
      ])
    }
    site.hidePassphrase(true)
    await restart()
    expect(await site.health('/health')).toEqual([200, { status: 'ok' }])
    expect((await site.admin.call(listProviders, {})).providers).toHaveLength(1)
  })

  test('opens after a restart of the TPM too', async () => {
    await site.stop()
    await tpm.restart()
    await site.start(settings)
    expect(await state()).toMatchObject({ state: 'ok' })
  })

  test('stays sealed once a PCR changed, and says which', async () => {
    await extend()
    await restart()
    expect(await state()).toMatchObject({
      state: 'sealed',
      reason: { code: 'SEAL_TPM_PCRS', message: expect.stringMatching(/others: 16$/) },
    })
    await expect(site.admin.call(unseal, { body: {} })).rejects.toMatchObject({
      code: 'SEAL_TPM_PCRS',
      status: 403,
    })
    expect(await site.audit(SERVICE)).toContainEqual(
      expect.objectContaining({ outcome: 'refused', detail: { code: 'SEAL_TPM_PCRS' } }),
    )
  })

  test('comes back by the passphrase, and is bound to the PCRs of now by a command', async () => {
    const body = { passphrase: site.passphrase }
    expect(await site.admin.call(unseal, { body })).toMatchObject({ state: 'ok' })
    const bound = await site.admin.call(addSeal, { body: { kind: 'tpm' } })
    expect(bound.status.seals.map(({ kind }) => kind)).toEqual(['passphrase', 'tpm'])
    await restart()
    expect(await state()).toMatchObject({ state: 'ok' })
  })

  test('is replaced together with its seals', async () => {
    site.hidePassphrase(false)
    expect(await site.admin.call(rotateRoot, { body: {} })).toMatchObject({
      status: { generation: 2, seals: [{ kind: 'passphrase' }, { kind: 'tpm' }] },
    })
    await restart()
    expect(await state()).toMatchObject({ state: 'ok', generation: 2 })
  })

  test('does not open by another TPM', async () => {
    await using other = await startBareTpm()
    await restart({ SIGILLO_SEAL_TPM_TCTI: other.tcti })
    expect(await state()).toMatchObject({ reason: { code: 'SEAL_TPM_OTHER' } })
  })

  test('is waited for while the TPM does not answer', async () => {
    await restart({ SIGILLO_SEAL_TPM_TCTI: 'swtpm:path=/nonexistent/sock' })
    expect(await state()).toMatchObject({
      state: 'sealed',
      reason: { code: 'TPM_UNREACHABLE' },
      nextTryAt: expect.any(String),
    })
  })

  test('does not open where the seal of another service was put in its place', async () => {
    await site.stop()
    const undo = takeSealFrom('attestation')
    await site.start(settings)
    expect(await state()).toMatchObject({ reason: { code: 'SEAL_FOREIGN' } })
    await site.stop()
    undo()
    await site.start(settings)
    expect(await state()).toMatchObject({ state: 'ok' })
  })

  test('needs no passphrase any more once that seal was removed', async () => {
    const [first] = (await state()).seals
    await site.admin.call(removeSeal, { params: { sealId: first?.sealId ?? '' } })
    await restart()
    expect(await state()).toMatchObject({ state: 'ok', seals: [{ kind: 'tpm' }] })
    const body = { passphrase: site.passphrase }
    await site.admin.call(operationsOf(SERVICE).seal, { body: {} })
    await expect(site.admin.call(unseal, { body })).rejects.toMatchObject({ code: 'SEAL_NONE' })
  })
})

/** Puts parameters and sealed octets of another service's seal into ours; returns how to undo it. */
function takeSealFrom(service: string): () => void {
  const db = new Database(site.file)
  const read = db.prepare(
    "select parameters, sealed from root_key_seals where kind = 'tpm' and root_key = ?",
  )
  const write = db.prepare(
    "update root_key_seals set parameters = ?, sealed = ? where kind = 'tpm' and root_key = ?",
  )
  type Row = { readonly parameters: string; readonly sealed: Uint8Array }
  const own = read.get(SERVICE) as Row
  const other = read.get(service) as Row
  write.run(other.parameters, other.sealed, SERVICE)
  return () => {
    write.run(own.parameters, own.sealed, SERVICE)
    db.close()
  }
}
