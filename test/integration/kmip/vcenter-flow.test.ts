import { afterAll, beforeAll, expect, test } from 'vitest'
import { randomOctets } from '../../../src/core/random.js'
import {
  attributesToTtlv,
  attributeToTtlv,
  customAttribute,
  standardAttribute,
} from '../../../src/kmip/attributes.js'
import { decodeTtlv } from '../../../src/kmip/decode.js'
import { encodeTtlv } from '../../../src/kmip/encode.js'
import {
  CRYPTOGRAPHIC_ALGORITHM,
  OBJECT_TYPE,
  OPERATION,
  QUERY_FUNCTION,
  RESULT_STATUS,
  STATE,
} from '../../../src/kmip/enumerations.js'
import { type RunningKmipServer, startKmipServer } from '../../../src/kmip/index.js'
import {
  type KmipResponseItem,
  requestToTtlv,
  responseFromTtlv,
} from '../../../src/kmip/message.js'
import { TAG } from '../../../src/kmip/tags.js'
import {
  children,
  enumeration,
  integer,
  requiredChild,
  structure,
  type Ttlv,
  textString,
  valueAt,
} from '../../../src/kmip/ttlv.js'
import { versionFromTtlv, versionToTtlv } from '../../../src/kmip/version.js'
import { type Certificate, TestAuthority } from './client-certificates.js'
import { RawConnection } from './raw-connection.js'

/** What vCenter 7.0.3 puts into every header. */
const V1_1 = { major: 1, minor: 1 }
const AT_CREATION = {
  'x-Product_Version': '7.0.3 build-19480866',
  'x-Vendor': 'VMware, Inc.',
  'x-Product': 'VMware vSphere',
}
const AT_FIRST_USE = {
  'x-Identifier': '50112f5a-2f4c-7d7f-9a3f-5a1e6f0a1b2c',
  'x-Component': 'Virtual machine',
  'x-Name': 'vm-1',
}

let authority: TestAuthority
let server: RunningKmipServer
let client: Certificate

beforeAll(async () => {
  authority = new TestAuthority()
  client = authority.client()
  const { certificate, key } = authority.server()
  server = await startKmipServer({
    tls: { authorities: authority.authority.certificate, certificate, privateKey: key },
  })
})
afterAll(async () => {
  await server[Symbol.asyncDispose]()
  authority[Symbol.dispose]()
})

test('serves vCenter as it asks: versions, trust, a key with its attributes, its first use', async () => {
  using first = await session()
  const described = await first.ask(OPERATION.Query, [
    enumeration(TAG.QueryFunction, QUERY_FUNCTION.QueryServerInformation),
  ])
  expect(valueAt(described, TAG.VendorIdentification, 'TextString')).not.toBe('')

  const id = await first.create()
  for (const name of Object.keys(AT_CREATION))
    expect(await first.attribute(id, name)).toBe(undefined)
  await first.addAttributes(id, AT_CREATION)

  // The key is fetched over another connection than it was made over.
  using second = await session()
  const got = await second.ask(OPERATION.Get, [uid(id)])
  const block = requiredChild(requiredChild(got, TAG.SymmetricKey), TAG.KeyBlock)
  const material = requiredChild(requiredChild(block, TAG.KeyValue), TAG.KeyMaterial)
  expect(material.type === 'ByteString' && material.value.length).toBe(32)
  expect(await second.attribute(id, 'State')).toBe(STATE.PreActive)
  await second.ask(OPERATION.Activate, [uid(id)])
  expect(await second.attribute(id, 'State')).toBe(STATE.Active)

  using third = await session()
  for (const name of Object.keys(AT_FIRST_USE))
    expect(await third.attribute(id, name)).toBe(undefined)
  await third.addAttributes(id, AT_FIRST_USE)
  for (const [name, text] of Object.entries({ ...AT_CREATION, ...AT_FIRST_USE })) {
    expect(await third.attribute(id, name)).toBe(text)
  }
})

test('refuses what vCenter asks for of a key that is not there, and goes on', async () => {
  using one = await session()
  const items = await one.batch([
    { operation: OPERATION.Get, payload: [uid('00000000-0000-0000-0000-000000000000')] },
  ])
  expect(items).toMatchObject([{ status: RESULT_STATUS.OperationFailed, reason: 1 }])
  expect(await one.create()).not.toBe('')
})

/** A new TLS session of vCenter, which begins with two questions for versions. */
async function session(): Promise<VcenterSession> {
  const connection = await RawConnection.open(server.port, authority, client)
  const begun = new VcenterSession(connection)
  for (const withId of [false, true]) {
    const [item] = await begun.batch(
      [{ operation: OPERATION.DiscoverVersions, payload: [] }],
      withId,
    )
    const payload = item?.payload
    if (payload === undefined) throw new Error('expected versions')
    expect(children(payload, TAG.ProtocolVersion).map(versionFromTtlv)).toContainEqual(V1_1)
  }
  return begun
}

class VcenterSession implements Disposable {
  readonly #connection: RawConnection

  constructor(connection: RawConnection) {
    this.#connection = connection
  }

  /** A batch, with an id for each item even where there is one alone. */
  async batch(
    items: readonly { readonly operation: number; readonly payload: readonly Ttlv[] }[],
    withId = true,
  ): Promise<readonly KmipResponseItem[]> {
    const request = requestToTtlv({
      version: V1_1,
      items: items.map(({ operation, payload }) => ({
        operation,
        batchItemId: withId ? randomOctets(8) : undefined,
        payload: structure(TAG.RequestPayload, payload),
      })),
    })
    const frame = await this.#connection.exchange(encodeTtlv(request))
    if (frame === undefined) throw new Error('the server closed the connection')
    const response = responseFromTtlv(decodeTtlv(frame))
    expect(versionToTtlv(response.version)).toEqual(versionToTtlv(V1_1))
    return response.items
  }

  async ask(operation: number, payload: readonly Ttlv[]): Promise<Ttlv> {
    const [item] = await this.batch([{ operation, payload }])
    expect(item).toMatchObject({ operation, status: RESULT_STATUS.Success })
    return item?.payload ?? structure(TAG.ResponsePayload, [])
  }

  async create(): Promise<string> {
    const attributes = [
      enumeration(TAG.CryptographicAlgorithm, CRYPTOGRAPHIC_ALGORITHM.AES),
      integer(TAG.CryptographicUsageMask, 12),
      integer(TAG.CryptographicLength, 256),
    ]
    const payload = await this.ask(OPERATION.Create, [
      enumeration(TAG.ObjectType, OBJECT_TYPE.SymmetricKey),
      attributesToTtlv(attributes.map(standardAttribute), V1_1),
    ])
    return valueAt(payload, TAG.UniqueIdentifier, 'TextString')
  }

  /** The value; nothing when the object does not have it, which is no error. */
  async attribute(id: string, name: string): Promise<unknown> {
    const payload = await this.ask(OPERATION.GetAttributes, [
      uid(id),
      textString(TAG.AttributeName, name),
    ])
    const [attribute] = children(payload, TAG.Attribute)
    return attribute && requiredChild(attribute, TAG.AttributeValue).value
  }

  /** All in one batch. */
  async addAttributes(id: string, attributes: Readonly<Record<string, string>>): Promise<void> {
    const items = await this.batch(
      Object.entries(attributes).map(([name, text]) => ({
        operation: OPERATION.AddAttribute,
        payload: [uid(id), attributeToTtlv(customAttribute(name, text), V1_1)],
      })),
    )
    expect(items.map(({ status }) => status)).toEqual([0, 0, 0])
  }

  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]()
  }
}

function uid(id: string): Ttlv {
  return textString(TAG.UniqueIdentifier, id)
}
