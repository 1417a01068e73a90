import { createDecipheriv } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { randomOctets } from '../../../src/core/random.js'
import { Secret } from '../../../src/core/secret.js'
import {
  BLOCK_CIPHER_MODE,
  CRYPTOGRAPHIC_USAGE_MASK,
  createKmipClient,
  customAttribute,
  type KmipClient,
  type KmipServerEvent,
  nameAttribute,
  ObjectStore,
  OPERATION,
  type ProtocolVersion,
  parseAttributeName,
  REVOCATION_REASON_CODE,
  type RunningKmipServer,
  STATE,
  startKmipServer,
  TAG,
  VERSIONS,
  versionText,
} from '../../../src/kmip/index.js'
import { compareVersions } from '../../../src/kmip/version.js'
import { type Certificate, TestAuthority } from './client-certificates.js'

const STATE_NAME = [{ kind: 'standard', tag: TAG.State }] as const
const versions = VERSIONS.map((version) => ({ version, name: versionText(version) }))

describe('the reference server', () => {
  let authority: TestAuthority
  let server: RunningKmipServer
  let client: Certificate
  const events: KmipServerEvent[] = []

  beforeAll(async () => {
    authority = new TestAuthority()
    client = authority.client()
    server = await start()
  })
  afterAll(async () => {
    await server[Symbol.asyncDispose]()
    authority[Symbol.dispose]()
    expect(events.filter(({ event }) => event === 'kmip.fault')).toEqual([])
  })

  function start(more: Partial<Parameters<typeof startKmipServer>[0]> = {}) {
    const { certificate, key } = authority.server()
    return startKmipServer({
      tls: { authorities: authority.authority.certificate, certificate, privateKey: key },
      events: (event) => events.push(event),
      ...more,
    })
  }

  function open(
    spoken: readonly ProtocolVersion[] = VERSIONS,
    to = [server],
    { certificate, key } = client,
  ): KmipClient {
    return createKmipClient({
      servers: to.map(({ port }) => ({ name: `reference-${port}`, host: 'localhost', port })),
      tls: { authorities: authority.authority.certificate, certificate, privateKey: key },
      versions: spoken,
    })
  }

  async function stateOf(kmip: KmipClient, id: string): Promise<unknown> {
    return (await kmip.getAttributes(id, STATE_NAME))[0]?.value.value
  }

  test.each(versions)(
    'makes, finds, gives, activates, revokes and destroys a key in KMIP $name',
    async ({ version, name: text }) => {
      await using kmip = open([version])
      const name = `life-${text}`
      const id = await kmip.create({ name })
      expect(kmip.health[0]?.version).toBe(text)
      expect(await kmip.locate({ attributes: [nameAttribute(name)] })).toEqual([id])
      const key = await kmip.get(id)
      expect(key).toMatchObject({ id, lengthBits: 256, wrapped: undefined })
      expect(key.material.length).toBe(32)
      expect(await stateOf(kmip, id)).toBe(STATE.PreActive)
      await kmip.activate(id)
      expect(await stateOf(kmip, id)).toBe(STATE.Active)
      const wrongState = version.major < 2 ? 'KMS_PERMISSION_DENIED' : 'KMS_KEY_STATE'
      await expect(kmip.activate(id)).rejects.toMatchObject({ code: wrongState })
      await expect(kmip.destroy(id)).rejects.toMatchObject({ code: wrongState })
      await kmip.revoke(id, { reason: REVOCATION_REASON_CODE.CessationOfOperation })
      await kmip.destroy(id)
      expect(await stateOf(kmip, id)).toBe(STATE.Destroyed)
      const gone = version.major < 2 ? 'KMS_KEY_NOT_FOUND' : 'KMS_KEY_DESTROYED'
      await expect(kmip.get(id)).rejects.toMatchObject({ code: gone })
    },
  )

  test.each(versions)(
    'keeps custom attributes, and shows them to clients of the other style, in KMIP $name',
    async ({ version, name }) => {
      await using kmip = open([version])
      const id = await kmip.create({
        name: `custom-${name}`,
        attributes: [customAttribute('x-Vendor', 'Sigillo'), customAttribute('x-Product', 'KVM')],
      })
      const described = { 'x-Component': 'virtual machine', 'x-Name': 'vm-1', 'x-Vendor': 'other' }
      expect(await kmip.describeKey(id, described)).toMatchObject({
        stored: Object.keys(described),
        refused: [],
      })
      await kmip.deleteAttribute(id, parseAttributeName('x-Product'))
      const otherStyle = version.major < 2 ? { major: 2, minor: 1 } : { major: 1, minor: 1 }
      await using reader = open([otherStyle])
      for (const [text, value] of Object.entries(described)) {
        const found = await reader.getAttributes(id, [parseAttributeName(text)])
        expect(found).toMatchObject([{ ...parseAttributeName(text), value: { value } }])
      }
      expect(await reader.getAttributes(id, [parseAttributeName('x-Product')])).toEqual([])
      const list = await reader.getAttributeList(id)
      expect(list).toContainEqual(parseAttributeName('x-Component'))
      const found = await reader.locate({ attributes: [customAttribute('x-Vendor', 'other')] })
      expect(found).toContain(id)
    },
  )

  test('says what it can do, in each version what that version has', async () => {
    await using kmip = open()
    const { operations, vendor } = await kmip.query()
    expect(operations).toContain(OPERATION.SetAttribute)
    expect(operations).toContain(OPERATION.Ping)
    expect(vendor).toContain('reference')
    await kmip.ping()
    expect(await kmip.discoverVersions()).toEqual(VERSIONS)
    await using old = open([{ major: 1, minor: 0 }])
    const of1_0 = (await old.query()).operations
    expect(of1_0).not.toContain(OPERATION.Encrypt)
    expect(of1_0).not.toContain(OPERATION.DiscoverVersions)
  })

  test('keeps a key that it is given, and replaces a key by another of the same name', async () => {
    await using kmip = open()
    const octets = randomOctets(32)
    const id = await kmip.register(new Secret(Uint8Array.from(octets)), { name: 'ours' })
    const { material } = await kmip.get(id)
    expect(material.use((given) => Buffer.from(given).equals(octets))).toBe(true)
    const replacement = await kmip.rekey(id)
    expect(replacement).not.toBe(id)
    expect(await kmip.locate({ attributes: [nameAttribute('ours')] })).toEqual([replacement])
    await expect(kmip.create({ name: 'ours' })).rejects.toMatchObject({ code: 'KMS_PROTOCOL' })
  })

  test.each(
    versions.filter(({ version }) => compareVersions(version, { major: 1, minor: 4 }) >= 0),
  )('encrypts and decrypts with a key that stays there, in KMIP $name', async ({ version }) => {
    await using kmip = open([version])
    const id = await kmip.create()
    const request = {
      id,
      parameters: { blockCipherMode: BLOCK_CIPHER_MODE.GCM, tagLength: 16, randomIv: true },
      data: randomOctets(32),
      additionalData: randomOctets(20),
    }
    const unready = version.major < 2 ? 'KMS_PERMISSION_DENIED' : 'KMS_KEY_STATE'
    await expect(kmip.encrypt(request)).rejects.toMatchObject({ code: unready })
    await kmip.activate(id)
    const { data, iv, tag } = await kmip.encrypt(request)
    if (iv === undefined || tag === undefined) throw new Error('expected a vector and a tag')
    expect(await kmip.decrypt({ ...request, data, iv, tag })).toEqual(request.data)
    await expect(
      kmip.decrypt({ ...request, data, iv, tag, additionalData: randomOctets(20) }),
    ).rejects.toMatchObject({ code: 'KMS_CRYPTO' })
  })

  test.each(versions)('wraps a key under another in KMIP $name', async ({ version }) => {
    await using kmip = open([version])
    const { WrapKey } = CRYPTOGRAPHIC_USAGE_MASK
    const wrappingKeyId = await kmip.create({ usageMask: WrapKey })
    const id = await kmip.create()
    const wrapping = { wrappingKeyId, blockCipherMode: BLOCK_CIPHER_MODE.NISTKeyWrap }
    const unready = version.major < 2 ? 'KMS_PERMISSION_DENIED' : 'KMS_KEY_STATE'
    await expect(kmip.get(id, wrapping)).rejects.toMatchObject({ code: unready })
    await kmip.activate(wrappingKeyId)
    const wrapped = await kmip.get(id, wrapping)
    const kek = await kmip.get(wrappingKeyId)
    const plain = await kmip.get(id)
    const opened = kek.material.use((key) => {
      const decipher = createDecipheriv('id-aes256-wrap', key, Buffer.alloc(8, 0xa6))
      return wrapped.material.use((octets) => decipher.update(octets))
    })
    // 1.0 cannot ask for the key alone: the TTLV of the Key Value is wrapped, and the key is its end.
    expect(plain.material.use((octets) => opened.subarray(-octets.length).equals(octets))).toBe(
      true,
    )
  })

  test('shows the objects of one client to no other', async () => {
    await using mine = open()
    const id = await mine.create({ name: 'mine' })
    await using stranger = open(VERSIONS, [server], authority.client())
    await expect(stranger.get(id)).rejects.toMatchObject({ code: 'KMS_KEY_NOT_FOUND' })
    await expect(stranger.destroy(id)).rejects.toMatchObject({ code: 'KMS_KEY_NOT_FOUND' })
    expect(await stranger.locate({ attributes: [nameAttribute('mine')] })).toEqual([])
    expect(await stranger.create({ name: 'mine' })).not.toBe(id)
  })

  test('is one of several servers of a cluster, when they have their objects in common', async () => {
    const objects = new ObjectStore(100)
    const first = await start({ objects })
    await using second = await start({ objects })
    await using kmip = open(VERSIONS, [first, second])
    const id = await kmip.create()
    await first[Symbol.asyncDispose]()
    expect((await kmip.get(id)).id).toBe(id)
  })

  test('wants the password of a user beside the certificate, where it has users', async () => {
    const password = (text: string): Secret => new Secret(Buffer.from(text))
    await using guarded = await start({
      users: [{ username: 'vcenter', password: password('right') }],
    })
    const { certificate, key } = client
    const as = (text: string): KmipClient =>
      createKmipClient({
        servers: [{ name: 'guarded', host: 'localhost', port: guarded.port }],
        tls: { authorities: authority.authority.certificate, certificate, privateKey: key },
        credentials: { username: 'vcenter', password: password(text) },
      })
    await using known = as('right')
    await known.create()
    await using unknown = as('wrong')
    await expect(unknown.create()).rejects.toMatchObject({ code: 'KMS_AUTH_FAILED' })
  })

  test('says why when it cannot be started', async () => {
    const taken = { code: 'KMIP_LISTEN' }
    await expect(start({ port: server.port })).rejects.toMatchObject(taken)
    const tls = { authorities: 'no', certificate: 'no', privateKey: 'no' }
    await expect(start({ tls })).rejects.toMatchObject(taken)
  })
})
