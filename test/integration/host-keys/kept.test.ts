import { copyFileSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { attestNow, probeKeys } from '../../../src/api/host-agent.js'
import {
  backupNativeProvider,
  confirmBackup,
  createNativeProvider,
  deleteHostKeyProvider,
  rotateNativeProvider,
} from '../../../src/api/host-keys.js'
import { revokeHost } from '../../../src/api/hosts.js'
import { utf8 } from '../../../src/core/bytes.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import type { TestSite } from '../../helpers/site.js'
import {
  CLUSTER,
  openKeySite,
  startAgent,
  type TestAgent,
  trustAgent,
  until,
  untilDelivery,
} from './fixture.js'

interface Kept {
  readonly keys: readonly { readonly version: number; readonly wrapped: string }[]
}

const WORDS = 'ledger of the harbour'

let lab: Lab
let site: TestSite
let a: TestAgent
let b: TestAgent

beforeAll(async () => {
  lab = await createLab()
  site = await openKeySite(lab)
  a = await startAgent(lab, site, 'a')
  b = await startAgent(lab, site, 'b')
  await trustAgent(site, a)
  await b.socket.call(attestNow, { body: {} })
  await create('silver', true)
  await site.admin.call(rotateNativeProvider, { params: { provider: 'silver' }, body: {} })
  await backUp('silver')
  await create('plain', false)
  await backUp('plain')
  for (const hostId of ['a', 'b']) {
    await confirmed('silver', hostId, 2)
    await confirmed('plain', hostId)
  }
})
afterAll(async () => {
  for (const agent of [a, b]) await agent?.[Symbol.asyncDispose]()
  await site?.[Symbol.asyncDispose]()
  await lab?.[Symbol.asyncDispose]()
})

const create = (name: string, tpmRequired: boolean) =>
  site.admin.call(createNativeProvider, { body: { name, clusters: [CLUSTER], tpmRequired } })

async function backUp(provider: string): Promise<void> {
  const params = { provider }
  const body = { passphrase: 'nine old locks and a key' }
  const { digest } = await site.admin.call(backupNativeProvider, { params, body })
  await site.admin.call(confirmBackup, { params, body: { digest } })
}

const confirmed = (provider: string, hostId: string, version = 1) =>
  untilDelivery(site, provider, { hostId, version, state: 'confirmed' })

const probe = (agent: TestAgent, provider: string) =>
  agent.socket.call(probeKeys, { body: { provider, assurance: 'tpm' } })

const fileOf = (agent: TestAgent) => join(agent.stateDirectory, 'host-keys.json')

async function restart(agent: TestAgent, between = () => {}): Promise<void> {
  await agent.stop()
  between()
  await agent.start()
}

test('keys of a provider that demands the TPM are on the disk, sealed; those of others are not', async () => {
  const { providers } = await a.held()
  expect(providers.map(({ name, kept }) => [name, kept]).sort()).toEqual([
    ['plain', []],
    ['silver', [1, 2]],
  ])
  expect(statSync(fileOf(a)).mode & 0o777).toBe(0o600)
  const content = JSON.parse(readFileSync(fileOf(a), 'utf8'))
  expect(content.providers.map(({ name }: { name: string }) => name)).toEqual(['silver'])
})

test('an agent that is restarted without the authority wraps, and opens the VMs of the provider', async () => {
  await a.makeVm('web1', 'silver', WORDS)
  await site.stop()
  await restart(a)
  expect(await a.readVm('web1', WORDS.length)).toBe(WORDS)
  await expect(probe(a, 'silver')).resolves.toBeDefined()
  const held = await a.held()
  expect(held).toMatchObject({ providers: [{ name: 'silver', current: 2, versions: [1, 2] }] })
  expect(held.notRestored).toBeUndefined()
  await expect(probe(a, 'plain')).rejects.toMatchObject({ code: 'AUTHORITY_UNREACHABLE' })
})

test('keys that were renamed, or belong to another TPM, are refused', async () => {
  const before = readFileSync(fileOf(a), 'utf8')
  const change = (edit: (provider: Kept) => object) => () => {
    const content = JSON.parse(before)
    content.providers = [edit(content.providers[0])]
    writeFileSync(fileOf(a), JSON.stringify(content))
  }
  const renamed = (provider: Kept) => ({
    ...provider,
    keys: provider.keys.map(({ version, wrapped }) => ({ version: 3 - version, wrapped })),
  })
  const edits = [
    renamed,
    (provider: Kept) => ({ ...provider, name: 'gold' }),
    (provider: Kept) => ({ ...provider, current: 1 }),
    (provider: Kept) => ({ ...provider, more: true }),
  ]
  for (const edit of edits) {
    await restart(a, change(edit))
    expect(await a.held()).toMatchObject({
      providers: [],
      notRestored: { code: 'HOST_KEY_ALTERED' },
    })
  }
  await expect(a.readVm('web1', 4)).rejects.toMatchObject({ code: 'AUTHORITY_UNREACHABLE' })

  await restart(a, () => copyFileSync(fileOf(b), fileOf(a)))
  expect(await a.held()).toMatchObject({
    providers: [],
    notRestored: { code: 'TPM_OBJECT_FOREIGN' },
  })
  await restart(a, () => writeFileSync(fileOf(a), before))
  expect(await a.readVm('web1', WORDS.length)).toBe(WORDS)
})

test('once the authority is back it says again what the host holds, and that is kept anew', async () => {
  const before = readFileSync(fileOf(a), 'utf8')
  await site.start()
  await a.socket.call(attestNow, { body: {} })
  await until('new keys on the disk', async () => readFileSync(fileOf(a), 'utf8') !== before)
  await until('the other provider', async () => (await a.held()).providers.length === 2)
  await confirmed('silver', 'a', 2)
  await restart(a)
  expect(await a.readVm('web1', WORDS.length)).toBe(WORDS)
})

test('deletion of the provider erases the file', async () => {
  await create('tin', true)
  await backUp('tin')
  await confirmed('tin', 'b')
  const body = { reason: 'a test', force: true }
  await site.admin.call(deleteHostKeyProvider, { params: { provider: 'silver' }, body })
  await until('erasure', async () => !readFileSync(fileOf(b), 'utf8').includes('silver'))
  await site.admin.call(deleteHostKeyProvider, { params: { provider: 'tin' }, body })
  for (const agent of [a, b]) await until('erasure', async () => !existsSync(fileOf(agent)))
})

test('a PCR that changed opens nothing, and a host that is revoked erases the file', async () => {
  await create('lead', true)
  await backUp('lead')
  for (const hostId of ['a', 'b']) await confirmed('lead', hostId)
  await site.admin.call(revokeHost, { params: { hostId: 'b' }, body: { reason: 'stolen' } })
  expect(existsSync(fileOf(b))).toBe(true)
  await b.socket.call(attestNow, { body: {} })
  expect(existsSync(fileOf(b))).toBe(false)

  await site.stop()
  await a.stop()
  await a.tpm.extend(7, utf8('another boot'))
  await a.start()
  expect(await a.held()).toMatchObject({ providers: [], notRestored: { code: 'HOST_KEY_PCRS' } })
  await expect(probe(a, 'lead')).rejects.toMatchObject({ code: 'AUTHORITY_UNREACHABLE' })
  // the boot is not one that the policy allows
  await site.start()
  await a.socket.call(attestNow, { body: {} })
  expect(existsSync(fileOf(a))).toBe(false)
  expect((await a.held()).notRestored).toBeUndefined()
})
