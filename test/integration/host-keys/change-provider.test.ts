import { afterAll, beforeAll, expect, test } from 'vitest'
import { listKeys, recryptVm, startVm, stopVm } from '../../../src/api/host-agent.js'
import {
  backupNativeProvider,
  confirmBackup,
  createNativeProvider,
} from '../../../src/api/host-keys.js'
import { createProvider, getProvider } from '../../../src/api/key-provider.js'
import { rewrapVm } from '../../../src/api/vm-rewrap.js'
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

const WORDS = 'tides of the estuary'

let lab: Lab
let site: TestSite
let agent: TestAgent

beforeAll(async () => {
  lab = await createLab()
  site = await openKeySite(lab)
  agent = await startAgent(lab, site, 'a')
  await trustAgent(site, agent)
  const settings = {
    ...{ clusters: [CLUSTER], minimumAssurance: 'session' as const, maxTokenAgeSeconds: 300 },
  }
  await site.admin.call(createProvider, { body: { name: 'gold', kind: 'trusted', settings } })
  const body = { name: 'silver', clusters: [CLUSTER], tpmRequired: false }
  await site.admin.call(createNativeProvider, { body })
  const params = { provider: 'silver' }
  const { digest } = await site.admin.call(backupNativeProvider, {
    params,
    body: { passphrase: 'nine old locks and a key' },
  })
  await site.admin.call(confirmBackup, { params, body: { digest } })
  await untilDelivery(site, 'silver', { hostId: 'a', version: 1, state: 'confirmed' })
})
afterAll(async () => {
  await agent[Symbol.asyncDispose]()
  await site[Symbol.asyncDispose]()
  await lab[Symbol.asyncDispose]()
})

/** How many wrapped keys the provider says that it opens. */
async function referencesOf(provider: string): Promise<number> {
  const { versions } = await site.admin.call(getProvider, { params: { provider } })
  return versions.reduce((sum, { references }) => sum + references, 0)
}

test('a VM goes from a trusted provider to a native one while it runs, and back with new data keys', async () => {
  const { vmId } = await agent.makeVm('web', 'gold', WORDS)
  const vm = { vm: 'web' }
  expect(await referencesOf('gold')).toBe(2)
  await agent.finish(await agent.socket.call(startVm, { params: vm, body: {} }))
  const moved = await agent.finish(
    await agent.socket.call(rewrapVm, { params: vm, body: { provider: 'silver' } }),
  )
  expect(moved).toMatchObject({ vmId, provider: 'silver', state: 'running' })
  await until('no references', async () => (await referencesOf('gold')) === 0)
  await agent.finish(await agent.socket.call(stopVm, { params: vm, body: { graceSeconds: 0 } }))
  expect(await agent.readVm('web', WORDS.length)).toBe(WORDS)

  const body = { provider: 'gold' }
  await agent.finish(await agent.socket.call(recryptVm, { params: vm, body }))
  const { keys } = await agent.socket.call(listKeys, {})
  expect(keys.map(({ provider, version }) => [provider, version])).toEqual([
    ['gold', 2],
    ['gold', 2],
  ])
  expect(await agent.readVm('web', WORDS.length)).toBe(WORDS)
  // those of the old data keys, which the provider wrapped on the way, are released
  await until('two references', async () => (await referencesOf('gold')) === 2)
})
