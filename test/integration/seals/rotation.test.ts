import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createWebhook } from '../../../src/api/attestation-events.js'
import { createCluster, getVtpmAuthority } from '../../../src/api/control-plane.js'
import {
  backupNativeProvider,
  createNativeProvider,
  createStandardProvider,
  testStandardProvider,
} from '../../../src/api/host-keys.js'
import { createProvider, listProviders } from '../../../src/api/key-provider.js'
import type { SealedService } from '../../../src/api/seal.js'
import { listSigningKeys, rotateSigningKey } from '../../../src/api/tokens.js'
import { isPlatformError } from '../../../src/core/errors.js'
import { inputFor } from '../key-servers/support.js'
import { TestAuthority } from '../kmip/client-certificates.js'
import { openSealSite, operationsOf, type SealSite, trustedProvider } from './support.js'

const SERVICES = ['attestation', 'key-provider', 'control-plane'] as const

let authority: TestAuthority
let site: SealSite
beforeAll(async () => {
  authority = new TestAuthority()
  site = await openSealSite(SERVICES)
})
afterAll(async () => {
  await site[Symbol.asyncDispose]()
  authority[Symbol.dispose]()
})

const rotate = (service: SealedService) =>
  site.admin.call(operationsOf(service).rotateRoot, { body: {} })
const restart = async () => {
  await site.stop()
  await site.start()
}

describe('after the root key was replaced', () => {
  test('the attestation service has its signing keys, nonce key and webhooks', async () => {
    await site.admin.call(createWebhook, { body: { url: 'https://127.0.0.1:1/' } })
    await site.admin.call(rotateSigningKey, { body: {} })
    const before = await site.admin.call(listSigningKeys, {})
    const { resealed } = await rotate('attestation')
    // the first signing key twice (as a service key too), the second, the nonce key, the webhook
    expect(resealed).toBeGreaterThanOrEqual(5)
    await restart()
    expect(await site.admin.call(listSigningKeys, {})).toEqual(before)
  })

  test('the control plane has its authority, native keys and connections to key servers', async () => {
    await site.admin.call(createCluster, { body: { name: 'c' } })
    const clusters = ['c']
    await site.admin.call(createNativeProvider, {
      body: { name: 'native', clusters, tpmRequired: false },
    })
    const keyServers = inputFor(authority, [1])
    await site.admin.call(createStandardProvider, {
      body: { name: 'standard', clusters, tpmRequired: false, keyServers, force: true },
    })
    const before = await site.admin.call(getVtpmAuthority, {})
    expect((await rotate('control-plane')).resealed).toBeGreaterThanOrEqual(3)
    await restart()
    expect(await site.admin.call(getVtpmAuthority, {})).toEqual(before)
    const params = { provider: 'native' }
    const body = { passphrase: 'correct horse battery staple' }
    await site.admin.call(backupNativeProvider, { params, body })
    const tested = await site.admin.call(testStandardProvider, {
      params: { provider: 'standard' },
      body: {},
    })
    expect(JSON.stringify(tested)).not.toContain('ROOT_KEY_OPEN')
  })

  test('an answer that is asked for again is the same', async () => {
    const again = { 'idempotency-key': 'the-same-request' }
    const first = await site.admin.call(createProvider, trustedProvider('once'), again)
    await rotate('key-provider')
    expect(await site.admin.call(createProvider, trustedProvider('once'), again)).toEqual(first)
  })

  test('all that was answered under load is there, and nothing else was answered than done or sealed', async () => {
    const done: string[] = []
    const codes = new Set<string>()
    let rotating = true
    const load = async (worker: number) => {
      for (let n = 0; rotating; n += 1) {
        const name = `load-${worker}-${n}`
        try {
          await site.admin.call(createProvider, trustedProvider(name))
          done.push(name)
        } catch (error) {
          if (!isPlatformError(error)) throw error
          codes.add(error.code)
        }
      }
    }
    const workers = [1, 2, 3].map(load)
    await rotate('key-provider')
    await rotate('key-provider')
    rotating = false
    await Promise.all(workers)
    expect([...codes].filter((code) => code !== 'SEALED')).toEqual([])
    expect(done.length).toBeGreaterThan(0)
    await restart()
    const { providers } = await site.admin.call(listProviders, {})
    expect(providers.map(({ name }) => name)).toEqual(expect.arrayContaining(done))
    // each of them opens: a record that did not would end the next change
    const { resealed, status } = await rotate('key-provider')
    expect(resealed).toBeGreaterThanOrEqual(providers.length)
    expect(status).toMatchObject({ state: 'ok', generation: 5 })
  })
})
