import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { fromHex } from '../../../src/core/bytes.js'
import { customAttribute } from '../../../src/kmip/attributes.js'
import * as calls from '../../../src/kmip/client/calls.js'
import { nameAttribute } from '../../../src/kmip/client/client.js'
import { type Call, DISCOVER_VERSIONS } from '../../../src/kmip/client/server.js'
import { decodeTtlv } from '../../../src/kmip/decode.js'
import { encodeTtlv } from '../../../src/kmip/encode.js'
import {
  BLOCK_CIPHER_MODE,
  CRYPTOGRAPHIC_ALGORITHM,
  CRYPTOGRAPHIC_USAGE_MASK,
  RESULT_REASON,
  RESULT_STATUS,
} from '../../../src/kmip/enumerations.js'
import { requestToTtlv, responseFromTtlv } from '../../../src/kmip/message.js'
import { type HandlerOptions, handleMessage } from '../../../src/kmip/server/handler.js'
import { KMIP_SERVER_LIMITS } from '../../../src/kmip/server/listener.js'
import type { ManagedObject } from '../../../src/kmip/server/object.js'
import { OPERATIONS } from '../../../src/kmip/server/operations.js'
import { ObjectStore } from '../../../src/kmip/server/store.js'
import { TAG } from '../../../src/kmip/tags.js'
import { structure, type Ttlv } from '../../../src/kmip/ttlv.js'
import { type ProtocolVersion, VERSIONS } from '../../../src/kmip/version.js'
import { type Chance, chance, MUTANTS, MUTANTS_TIMEOUT_MS, mutant } from '../../helpers/mutants.js'
import { saySkipped, sharedVectors } from '../../helpers/vectors.js'

const NOW_MS = Date.UTC(2026, 0, 1)
const VICTIM_KEY = Buffer.from('5a'.repeat(32), 'hex')
const VICTIM_NAME = 'the name of the victim'
const MUTANTS_PER_WORLD = 500
/** What one answer may take; the machine may be busy, so it is much more than any needs. */
const MAX_MS = 2_000

/** A server with the objects of a client that is attacked, and of one that attacks. */
class World {
  readonly faults: unknown[] = []
  readonly store = new ObjectStore(1_000)
  readonly victim: readonly ManagedObject[]
  readonly victimIds: readonly string[]
  readonly #options: HandlerOptions

  constructor() {
    this.#options = {
      store: this.store,
      server: {
        versions: VERSIONS,
        operations: OPERATIONS,
        maxObjectOctets: KMIP_SERVER_LIMITS.maxObjectOctets,
        maxAttributes: KMIP_SERVER_LIMITS.maxAttributes,
      },
      limits: KMIP_SERVER_LIMITS,
      maxBatchItems: 16,
      users: undefined,
      clock: { nowMs: () => NOW_MS, monotonicMs: () => 0 },
      fault: (error) => this.faults.push(error),
    }
    this.victimIds = this.#objectsOf('victim')
    this.victim = [...this.store.ownedBy('victim')]
  }

  handle(octets: Uint8Array, client = 'attacker') {
    return handleMessage(octets, client, this.#options)
  }

  /** An active key, a key that wraps, and one that is only made. */
  objectsOfAttacker(): readonly string[] {
    return this.#objectsOf('attacker')
  }

  #objectsOf(client: string): readonly string[] {
    const version = { major: 2, minor: 1 }
    const { AES } = CRYPTOGRAPHIC_ALGORITHM
    const { WrapKey, Encrypt, Decrypt } = CRYPTOGRAPHIC_USAGE_MASK
    const key = client === 'victim' ? VICTIM_KEY : Buffer.alloc(32, 1)
    return [Encrypt | Decrypt, WrapKey, Encrypt | Decrypt].map((mask, index) => {
      const attributes = [
        nameAttribute(client === 'victim' ? `${VICTIM_NAME} ${index}` : `mine ${index}`),
        customAttribute('x-Component', client),
        { kind: 'standard', tag: TAG.CryptographicUsageMask, value: usageMask(mask) } as const,
      ]
      const id = this.#ask(calls.registerCall(key, AES, attributes), version, client)
      if (index < 2) this.#ask(calls.activateCall(id), version, client)
      return id
    })
  }

  #ask<T>(call: Call<T>, version: ProtocolVersion, client: string): T {
    const { response } = this.handle(encodeTtlv(requestOf(call, version)), client)
    const [item] = responseFromTtlv(decodeTtlv(response)).items
    if (item?.status !== RESULT_STATUS.Success) throw new Error(`refused: ${item?.message}`)
    return call.read(item.payload ?? structure(TAG.ResponsePayload, []), version)
  }
}

test('a hundred thousand changed requests are answered, and change and show nothing of another client', {
  timeout: MUTANTS_TIMEOUT_MS,
}, () => {
  const next = chance(0x6b6d6970)
  const counts = { succeeded: 0, refused: 0, unread: 0 }
  let world = new World()
  let requests: readonly Ttlv[] = []
  for (let count = 0; count < MUTANTS; count += 1) {
    if (count % MUTANTS_PER_WORLD === 0) {
      checkUnchanged(world)
      world = new World()
      requests = requestsOf(world)
    }
    const octets = changed(requests, next)
    const copy = Buffer.from(octets)
    const begin = performance.now()
    const { response } = world.handle(octets)
    const where = (): string => `request ${copy.toString('hex')}`
    expect(performance.now() - begin, where()).toBeLessThan(MAX_MS)
    const { items } = responseFromTtlv(decodeTtlv(response))
    const [first] = items
    if (first?.operation === undefined) counts.unread += 1
    else if (first.status === RESULT_STATUS.Success) counts.succeeded += 1
    else counts.refused += 1
    const text = Buffer.from(response)
    if (text.includes(VICTIM_KEY) || text.includes(VICTIM_NAME)) expect.fail(where())
    if (world.faults.length > 0) expect.fail(`${String(world.faults[0])} at ${where()}`)
    if (octets.some((octet) => octet !== 0)) expect.fail(`not wiped: ${where()}`)
  }
  checkUnchanged(world)
  // Many changes reach the operations, and do not end at the codec.
  expect(counts.succeeded).toBeGreaterThan(MUTANTS / 50)
  expect(counts.refused).toBeGreaterThan(MUTANTS / 20)
  expect(counts.unread).toBeGreaterThan(MUTANTS / 20)
})

test('answers every malformed item of other projects with Invalid Message', () => {
  const folder = sharedVectors('kmip')
  if (folder === undefined) return saySkipped('kmip', 92)
  const read = (path: string): unknown => JSON.parse(readFileSync(join(folder, path), 'utf8'))
  const arsenal = read('scality-Arsenal/ttlv-vectors.json') as {
    badTtlv: readonly { hex: string }[]
  }
  const pykmip = read('OpenKMIP-PyKMIP/ttlv-hex-vectors.json') as readonly {
    hex: string
    wellFormed: boolean
  }[]
  const all = [...arsenal.badTtlv, ...pykmip.filter(({ wellFormed }) => !wellFormed)]
  expect(all).toHaveLength(92)
  const world = new World()
  for (const { hex } of all) {
    const { response } = world.handle(fromHex(hex))
    expect(responseFromTtlv(decodeTtlv(response)).items, hex).toMatchObject([
      { status: RESULT_STATUS.OperationFailed, reason: RESULT_REASON.InvalidMessage },
    ])
  }
  expect(world.faults).toEqual([])
  checkUnchanged(world)
})

/** Objects are never changed in place: the same object is the object unchanged. */
function checkUnchanged(world: World): void {
  const now = [...world.store.ownedBy('victim')]
  expect(now).toHaveLength(world.victim.length)
  for (const [index, object] of now.entries()) expect(object).toBe(world.victim[index])
  expect(world.store.size).toBeLessThanOrEqual(1_000)
}

/** One request for every operation in four versions, of objects of the attacker and of the victim. */
function requestsOf(world: World): readonly Ttlv[] {
  const own = world.objectsOfAttacker()
  const versions = VERSIONS.filter(({ minor }) => minor !== 3 && minor !== 0)
  return [own, world.victimIds].flatMap(([active = '', wrapping = '', made = '']) =>
    callsOn(active, wrapping, made).flatMap((call) =>
      versions.flatMap((version) => {
        try {
          return [requestOf(call, version)]
        } catch {
          // The version does not have it.
          return []
        }
      }),
    ),
  )
}

function callsOn(active: string, wrappingKeyId: string, made: string): readonly Call<unknown>[] {
  const { NISTKeyWrap, GCM, CBC } = BLOCK_CIPHER_MODE
  const custom = customAttribute('x-Component', 'changed')
  const algorithm = CRYPTOGRAPHIC_ALGORITHM.AES
  const gcm = { blockCipherMode: GCM, tagLength: 16, randomIv: true }
  const data = new Uint8Array(32)
  const iv = new Uint8Array(16)
  return [
    ...[DISCOVER_VERSIONS, calls.queryCall([1, 2, 3, 4, 5, 6, 7, 8]), calls.pingCall()],
    calls.createCall([
      ...[
        [TAG.CryptographicAlgorithm, 'Enumeration', algorithm],
        [TAG.CryptographicLength, 'Integer', 256],
        [TAG.CryptographicUsageMask, 'Integer', 12],
      ].map(([tag, type, value]) => {
        const item = { tag, type, value } as Ttlv
        return { kind: 'standard', tag: item.tag, value: item } as const
      }),
      custom,
    ]),
    calls.registerCall(data, algorithm, [custom]),
    ...[calls.reKeyCall(active, 60), calls.getCall(made, undefined)],
    calls.getCall(active, { wrappingKeyId, blockCipherMode: NISTKeyWrap }),
    calls.locateCall({ attributes: [custom], maximumItems: 10 }),
    ...[calls.getAttributesCall(active, []), calls.getAttributeListCall(active)],
    ...[
      calls.addAttributeCall(made, nameAttribute('new')),
      calls.modifyAttributeCall(made, custom),
    ],
    ...[calls.setAttributeCall(made, custom), calls.deleteAttributeCall(made, custom)],
    ...[calls.activateCall(made), calls.revokeCall(active, { reason: 1 }), calls.destroyCall(made)],
    calls.encryptCall({ id: active, parameters: gcm, data, additionalData: iv }),
    calls.encryptCall({ id: active, parameters: { blockCipherMode: CBC }, data, iv }),
    calls.decryptCall({ id: active, parameters: { blockCipherMode: CBC }, data, iv }),
  ]
}

function requestOf(call: Call<unknown>, version: ProtocolVersion): Ttlv {
  return requestToTtlv({
    version,
    items: [
      {
        operation: call.operation,
        batchItemId: new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]),
        payload: structure(TAG.RequestPayload, call.payload(version)),
      },
    ],
  })
}

/** Half are changed in their octets, where the codec refuses most, and half in their items. */
function changed(requests: readonly Ttlv[], next: Chance): Uint8Array {
  const one = requests[next(requests.length)]
  const other = requests[next(requests.length)]
  if (one === undefined || other === undefined) throw new Error('expected requests')
  if (next(2) === 0) return mutant(encodeTtlv(one), encodeTtlv(other), next)
  let item = one
  for (let changes = 1 + next(2); changes > 0; changes -= 1) {
    item = next(4) === 0 ? changedItem(item, other, next) : withChangedPayload(item, other, next)
  }
  return encodeTtlv(item)
}

function withChangedPayload(item: Ttlv, other: Ttlv, next: Chance): Ttlv {
  if (item.tag === TAG.RequestPayload) return changedItem(item, other, next)
  if (item.type !== 'Structure') return item
  return { ...item, value: item.value.map((one) => withChangedPayload(one, other, next)) }
}

const TAGS = Object.values(TAG)
const LONG = 'x'.repeat(5_000)

/** The item with one change somewhere within it. */
function changedItem(item: Ttlv, other: Ttlv, next: Chance): Ttlv {
  if (item.type !== 'Structure' || item.value.length === 0) return changedValue(item, next)
  const at = next(item.value.length)
  const child = item.value[at]
  if (child === undefined) return item
  const put = (...items: readonly Ttlv[]): Ttlv => ({
    ...item,
    value: [...item.value.slice(0, at), ...items, ...item.value.slice(at + 1)],
  })
  switch (next(12)) {
    case 0:
      return put()
    case 1:
      return put(child, child)
    case 2:
      return put(pick(other, next), child)
    case 3:
      return put({ ...child, tag: TAGS[next(TAGS.length)] ?? child.tag })
    case 4:
      return put(structure(child.tag, [child]))
    case 5:
      return { ...item, value: [...item.value].reverse() }
    default:
      return put(changedItem(child, other, next))
  }
}

function changedValue(item: Ttlv, next: Chance): Ttlv {
  const { tag } = item
  switch (next(10)) {
    case 0:
      return { tag, type: 'Integer', value: [0, -1, 1, 0x7fff_ffff, -0x8000_0000][next(5)] ?? 0 }
    case 1:
      return {
        tag,
        type: 'Enumeration',
        value: [0, 1, 2, 9, 0x8000_0001, 0xffff_ffff][next(6)] ?? 0,
      }
    case 2:
      return {
        tag,
        type: 'TextString',
        value: ['', 'y-own', 'State', LONG, '\u0000'][next(5)] ?? '',
      }
    case 3:
      return { tag, type: 'ByteString', value: new Uint8Array(next(70)) }
    case 4:
      return { tag, type: 'DateTime', value: [0n, -1n, 1n << 62n, -(1n << 63n)][next(4)] ?? 0n }
    case 5:
      return { tag, type: 'Interval', value: [0, 1, 0xffff_ffff][next(3)] ?? 0 }
    case 6:
      return { tag, type: 'BigInteger', value: -1n }
    case 7:
      return { tag, type: 'Boolean', value: next(2) === 0 }
    case 8:
      return structure(tag, [])
    default:
      return { tag, type: 'LongInteger', value: [0n, -1n, (1n << 63n) - 1n][next(3)] ?? 0n }
  }
}

function pick(item: Ttlv, next: Chance): Ttlv {
  if (item.type !== 'Structure' || item.value.length === 0 || next(4) === 0) return item
  return pick(item.value[next(item.value.length)] ?? item, next)
}

function usageMask(value: number): Ttlv {
  return { tag: TAG.CryptographicUsageMask, type: 'Integer', value }
}

test('a key of the victim is where the victim looks for it', () => {
  const world = new World()
  const [id = ''] = world.victimIds
  const request = encodeTtlv(requestOf(calls.getCall(id, undefined), { major: 2, minor: 1 }))
  const { response } = world.handle(Uint8Array.from(request), 'victim')
  expect(Buffer.from(response).includes(VICTIM_KEY)).toBe(true)
  const refused = responseFromTtlv(decodeTtlv(world.handle(request).response)).items
  expect(refused).toMatchObject([{ reason: RESULT_REASON.ObjectNotFound }])
})
