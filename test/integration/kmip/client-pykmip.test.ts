import { createDecipheriv } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { randomOctets } from '../../../src/core/random.js'
import { Secret } from '../../../src/core/secret.js'
import {
  createKmipClient,
  type KmipClient,
  nameAttribute,
} from '../../../src/kmip/client/client.js'
import type { KmipClientEvent } from '../../../src/kmip/client/options.js'
import {
  BLOCK_CIPHER_MODE,
  CRYPTOGRAPHIC_USAGE_MASK,
  OPERATION,
  PADDING_METHOD,
  REVOCATION_REASON_CODE,
  STATE,
} from '../../../src/kmip/enumerations.js'
import { TAG } from '../../../src/kmip/tags.js'
import { type ProtocolVersion, VERSIONS, versionText } from '../../../src/kmip/version.js'
import { TestAuthority } from './client-certificates.js'
import { hasPykmip, PykmipServer } from './client-pykmip.js'

const STATE_NAME = [{ kind: 'standard', tag: TAG.State }] as const
const spoken = VERSIONS.filter(({ major, minor }) => major < 2 || minor === 0)

describe.skipIf(!hasPykmip())('the foreign server PyKMIP', () => {
  let authority: TestAuthority
  let server: PykmipServer
  const events: KmipClientEvent[] = []

  beforeAll(async () => {
    authority = new TestAuthority()
    server = await PykmipServer.start(authority)
  })
  afterAll(async () => {
    await server[Symbol.asyncDispose]()
    authority[Symbol.dispose]()
  })

  function open(versions: readonly ProtocolVersion[] = VERSIONS): KmipClient {
    const { certificate, key } = authority.client()
    return createKmipClient({
      servers: [{ name: 'pykmip', host: 'localhost', port: server.port }],
      tls: { authorities: authority.authority.certificate, certificate, privateKey: key },
      versions,
      events: (event) => events.push(event),
    })
  }

  async function stateOf(client: KmipClient, id: string): Promise<unknown> {
    return (await client.getAttributes(id, STATE_NAME))[0]?.value.value
  }

  test('is spoken to in the best version that it has', async () => {
    await using client = open()
    expect((await client.query()).operations).toContain(OPERATION.Create)
    expect(client.health[0]?.version).toBe('2.0')
    await client.ping()
  })

  test.each(spoken.map((version) => ({ version, name: versionText(version) })))(
    'makes, finds, gives, activates, revokes and destroys a key in KMIP $name',
    async ({ version, name: text }) => {
      await using client = open([version])
      const name = `life-${text}`
      const id = await client.create({ name })
      expect(client.health[0]?.version).toBe(text)
      expect(await client.locate({ attributes: [nameAttribute(name)] })).toEqual([id])
      const key = await client.get(id)
      expect(key).toMatchObject({ id, lengthBits: 256, wrapped: undefined })
      expect(key.material.length).toBe(32)
      key.material.dispose()
      expect(await stateOf(client, id)).toBe(STATE.PreActive)
      await client.activate(id)
      expect(await stateOf(client, id)).toBe(STATE.Active)
      await expect(client.destroy(id)).rejects.toMatchObject({ code: 'KMS_PERMISSION_DENIED' })
      await client.revoke(id, { reason: REVOCATION_REASON_CODE.CessationOfOperation })
      await client.destroy(id)
      await expect(client.get(id)).rejects.toMatchObject({ code: 'KMS_KEY_NOT_FOUND' })
    },
  )

  test('keeps a key that we give it', async () => {
    await using client = open()
    const octets = randomOctets(32)
    const id = await client.register(new Secret(octets), { name: 'ours' })
    const { material } = await client.get(id)
    expect(material.use((given) => Buffer.from(given).equals(octets))).toBe(true)
  })

  test('encrypts and decrypts with a key that stays there', async () => {
    await using client = open()
    const id = await client.create()
    await client.activate(id)
    const parameters = {
      blockCipherMode: BLOCK_CIPHER_MODE.CBC,
      paddingMethod: PADDING_METHOD.PKCS5,
      cryptographicAlgorithm: 3,
    }
    const data = randomOctets(40)
    const iv = randomOctets(16)
    const encrypted = await client.encrypt({ id, parameters, data, iv })
    expect(await client.decrypt({ id, parameters, data: encrypted.data, iv })).toEqual(data)
  })

  test('gives a key wrapped under another, which opens to the same key', async () => {
    await using client = open()
    const { WrapKey, UnwrapKey } = CRYPTOGRAPHIC_USAGE_MASK
    const wrappingKeyId = await client.create({ usageMask: WrapKey | UnwrapKey })
    await client.activate(wrappingKeyId)
    const id = await client.create()
    const wrapped = await client.get(id, {
      wrappingKeyId,
      blockCipherMode: BLOCK_CIPHER_MODE.NISTKeyWrap,
    })
    expect(wrapped).toMatchObject({ wrapped: 'material' })
    const kek = await client.get(wrappingKeyId)
    const plain = await client.get(id)
    const opened = kek.material.use((key) => {
      const decipher = createDecipheriv('id-aes256-wrap', key, Buffer.alloc(8, 0xa6))
      return wrapped.material.use((octets) => decipher.update(octets))
    })
    expect(plain.material.use((octets) => opened.equals(octets))).toBe(true)
  })

  test('refuses custom attributes, and that is an event and no error', async () => {
    await using client = open([{ major: 1, minor: 4 }])
    const keyId = await client.create()
    expect(
      await client.describeKey(keyId, { 'x-Vendor': 'Sigillo', 'x-Name': 'vm-1' }),
    ).toMatchObject({ stored: [], refused: ['x-Vendor', 'x-Name'] })
    expect(events).toContainEqual(
      expect.objectContaining({
        event: 'kmip.attributes.refused',
        keyId,
        attributes: ['x-Vendor', 'x-Name'],
      }),
    )
    expect(client.health[0]?.state).toBe('closed')
  })
})
