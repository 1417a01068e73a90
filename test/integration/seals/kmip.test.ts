import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createProvider, listProviders } from '../../../src/api/key-provider.js'
import { TestAuthority } from '../kmip/client-certificates.js'
import { hasPykmip, PykmipServer } from '../kmip/client-pykmip.js'
import { openSealSite, operationsOf, type SealSite, trustedProvider } from './support.js'

const SERVICE = 'key-provider'
const { status, unseal, addSeal } = operationsOf(SERVICE)

describe.skipIf(!hasPykmip())('a root key sealed by a key server (PyKMIP)', () => {
  let authority: TestAuthority
  let server: PykmipServer
  let site: SealSite
  let settings: Readonly<Record<string, string>>

  beforeAll(async () => {
    authority = new TestAuthority()
    server = await PykmipServer.start(authority)
    const client = authority.client()
    settings = {
      SIGILLO_SEAL_KMIP_SERVERS: `127.0.0.1:${server.port}`,
      SIGILLO_SEAL_KMIP_CA_FILE: authority.authority.certificatePath,
      SIGILLO_SEAL_KMIP_CERTIFICATE_FILE: client.certificatePath,
      SIGILLO_SEAL_KMIP_KEY_FILE: client.keyPath,
      SIGILLO_SEAL_AUTOMATIC: 'kmip',
    }
    // a new site whose root key never had another seal
    site = await openSealSite([SERVICE], settings)
    await site.admin.call(createProvider, trustedProvider('primary'))
  })
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]()
    await server?.[Symbol.asyncDispose]()
    authority?.[Symbol.dispose]()
  })

  const state = () => site.admin.call(status, {})

  test('opens at start by the key that stays there', async () => {
    await site.stop()
    await site.start()
    expect(await state()).toMatchObject({
      state: 'ok',
      seals: [{ kind: 'kmip', detail: expect.stringMatching(/^key ./) }],
    })
    expect((await site.admin.call(listProviders, {})).providers).toHaveLength(1)
  })

  test('cannot be given a seal where the settings name no server', async () => {
    await site.stop()
    await site.start({ SIGILLO_SEAL_KMIP_SERVERS: '' })
    expect(await state()).toMatchObject({ reason: { code: 'SEAL_SETTINGS' } })
    await site.stop()
    await site.start()
    expect(await state()).toMatchObject({ state: 'ok' })
    await site.admin.call(addSeal, { body: { kind: 'passphrase', passphrase: site.passphrase } })
  })

  test('stays sealed while the server is down, says so, and opens by the passphrase', async () => {
    await server.stop()
    await site.stop()
    await site.start()
    expect(await state()).toMatchObject({
      state: 'sealed',
      reason: { code: expect.stringMatching(/^KMS_/) },
      nextTryAt: expect.any(String),
    })
    await expect(site.admin.call(unseal, { body: {} })).rejects.toMatchObject({
      code: expect.stringMatching(/^KMS_/),
      status: 503,
    })
    const body = { passphrase: site.passphrase }
    expect(await site.admin.call(unseal, { body })).toMatchObject({ state: 'ok' })
  })

  test('does not open by a server that has another database', async () => {
    const other = await PykmipServer.start(authority)
    try {
      await site.stop()
      await site.start({ SIGILLO_SEAL_KMIP_SERVERS: `127.0.0.1:${other.port}` })
      expect(await state()).toMatchObject({
        state: 'sealed',
        reason: { code: expect.stringMatching(/^(KMS_KEY_NOT_FOUND|KMS_PERMISSION_DENIED)$/) },
      })
    } finally {
      await other[Symbol.asyncDispose]()
    }
  })
})
