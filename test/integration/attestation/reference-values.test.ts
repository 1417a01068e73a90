import { generateKeyPairSync } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { listBaseImages, removeBaseImage } from '../../../src/api/base-images.js'
import { addAnchors } from '../../../src/api/endorsement.js'
import { getHost } from '../../../src/api/hosts.js'
import {
  addReferenceSigner,
  importBaseImages,
  listReferenceSigners,
  removeReferenceSigner,
} from '../../../src/api/reference-values.js'
import { toBase64url } from '../../../src/core/bytes.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import {
  cbor,
  corim,
  map,
  measured,
  moduleTag,
  signedCorim,
  tagged,
  triple,
} from '../../helpers/corim.js'
import { bootHost, CLUSTER, type TestHost, ticketFor } from '../../helpers/host.js'
import { imported } from '../../helpers/key-pair.js'
import { openTestSite, type TestSite } from '../../helpers/site.js'

const maker = imported(generateKeyPairSync('ec', { namedCurve: 'P-256' }))
const pemOf = (pair: typeof maker) =>
  pair.publicKey.export({ type: 'spki', format: 'pem' }).toString()

let site: TestSite
let lab: Lab
let host: TestHost
let values: ReadonlyMap<number, Uint8Array>

beforeAll(async () => {
  lab = await createLab()
  site = await openTestSite()
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  host = await bootHost(lab, 'host')
  await host.enrol(site.anybody, await ticketFor(site))
  values = await host.identity.tpm.pcrRead('sha256', [0, 2, 3, 4, 6, 7, 8, 9, 11, 14])
  await site.admin.call(addReferenceSigner, { body: { pem: pemOf(maker), note: 'ACME' } })
})
afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await site[Symbol.asyncDispose]()
  await lab[Symbol.asyncDispose]()
})

type Change = (pcr: number, digest: Uint8Array) => Uint8Array
const asBooted: Change = (_, digest) => digest
const wrongIn =
  (wrong: number): Change =>
  (pcr, digest) =>
    pcr === wrong ? new Uint8Array(digest.length).fill(1) : digest

/** SHA-256 has the identifier 1 in manifests. */
const state = (change: Change = asBooted) =>
  triple([...values].map(([pcr, digest]) => measured(pcr, { 2: [[1, change(pcr, digest)]] })))

function signed(states: readonly unknown[] = [state()], members = {}, by = maker): Uint8Array {
  return signedCorim({
    privateKey: by.privateKey,
    payload: corim([moduleTag(states)], members),
  })
}

const load = (
  octets: Uint8Array,
  options: {
    readonly name?: string
    readonly unsigned?: boolean
    readonly format?: 'json' | 'corim'
  } = {},
) =>
  site.admin.call(importBaseImages, {
    body: {
      cluster: CLUSTER,
      format: 'corim',
      content: toBase64url(octets),
      name: 'acme',
      ...options,
    },
  })

const json = (change: Change = asBooted, members = {}) =>
  Buffer.from(
    JSON.stringify({
      name: 'by-hand',
      bank: 'sha256',
      pcrs: Object.fromEntries(
        [...values].map(([pcr, digest]) => [
          String(pcr),
          [Buffer.from(change(pcr, digest)).toString('hex')],
        ]),
      ),
      source: 'the lab',
      ...members,
    }),
  )

async function attested(): Promise<string> {
  await host.attest(site.anybody).catch(() => undefined)
  return (await site.admin.call(getHost, { params: { hostId: 'host' } })).state
}

async function removeAll(): Promise<void> {
  const { baseImages } = await site.admin.call(listBaseImages, { query: {} })
  for (const { cluster, name } of baseImages) {
    await site.admin.call(removeBaseImage, { params: { cluster, name } })
  }
}
afterEach(removeAll)

describe('reference values that a maker signed', () => {
  test('trust a host that boots as they say, and it alone', async () => {
    const { baseImages, unused } = await load(signed())
    expect(baseImages).toMatchObject([
      {
        name: 'acme',
        source: { kind: 'corim', id: 'manifest 1', signer: 'ACME Ltd.' },
        notAfter: '2027-01-01T00:00:00.000Z',
      },
    ])
    expect(unused).toEqual([])
    expect(await attested()).toBe('trusted')
    await removeAll()
    await load(signed([state(wrongIn(4))]))
    expect(await attested()).toBe('refused')
    const { lastVerdict } = await site.admin.call(getHost, { params: { hostId: 'host' } })
    expect(lastVerdict?.findings).toContainEqual(
      expect.objectContaining({ code: 'BASE_IMAGE_PCR', pcr: 4 }),
    )
  })

  test('make one image of each state: what is of two states adds up to none', async () => {
    const { baseImages } = await load(signed([state(wrongIn(4)), state(wrongIn(7))]))
    expect(baseImages.map(({ name }) => name)).toEqual(['acme-1', 'acme-2'])
    expect(await attested()).toBe('refused')
    await removeAll()
    await load(signed([state(wrongIn(4)), state()]))
    expect(await attested()).toBe('trusted')
  })

  test('end with their signature', async () => {
    await load(signed())
    expect(await attested()).toBe('trusted')
    const year = 365 * 86_400_000
    site.clock.advance(year)
    expect(await attested()).toBe('refused')
    site.clock.advance(-year)
  })

  test('are told of in words where no quote could show them', async () => {
    const rest = triple([measured(30, { 2: [[1, new Uint8Array(32)]] })])
    const { unused } = await load(signed([state(), rest]))
    expect(unused).toEqual([expect.stringContaining('there is no PCR 30')])
  })

  test.each<[string, string, () => Uint8Array, object]>([
    ['of a key that nobody trusts', 'CORIM_SIGNATURE', () => signed([state()], {}, stranger()), {}],
    ['changed in one bit', 'CORIM_SIGNATURE', () => flipped(signed()), {}],
    ['that nobody signed', 'CORIM_UNSIGNED', () => corim([moduleTag([state()])]), {}],
    ['that have ended', 'CORIM_EXPIRED', () => signed([state()], { 4: ended() }), {}],
    [
      'of no PCR',
      'REFERENCE_VALUES',
      () => signed([triple([measured('bios', { 2: [[1, new Uint8Array(32)]] })])]),
      {},
    ],
    [
      'of another bank',
      'REFERENCE_VALUES',
      () => signed([triple([measured(0, { 2: [[7, new Uint8Array(48)]] })])]),
      {},
    ],
    [
      'of 65 states',
      'REFERENCE_VALUES',
      () => signed(Array.from({ length: 65 }, () => state())),
      {},
    ],
    [
      'in a profile that is not known',
      'CORIM_PROFILE',
      () => signed([state()], { 3: tagged(32, 'https://x.example') }),
      {},
    ],
    ['without a name', 'REFERENCE_VALUES', () => signed(), { name: undefined }],
    ['that are no CBOR', 'CORIM_CBOR', () => Uint8Array.of(0x5f, 1, 2), {}],
    ['that are something else', 'CORIM_TYPE', () => cbor(map({ 0: 'x' })), {}],
    ['that are empty', 'CORIM_CBOR', () => new Uint8Array(), {}],
  ])('are refused %s (%s)', async (_, code, make, options) => {
    await expect(load(make(), options)).rejects.toMatchObject({ code })
    expect(await site.admin.call(listBaseImages, { query: {} })).toEqual({ baseImages: [] })
  })

  test('are refused from a signer that was taken off', async () => {
    const { signers } = await site.admin.call(listReferenceSigners, {})
    expect(signers).toMatchObject([{ note: 'ACME' }])
    const signerId = signers[0]?.signerId ?? ''
    await site.admin.call(removeReferenceSigner, { params: { signerId } })
    await expect(load(signed())).rejects.toMatchObject({ code: 'CORIM_SIGNATURE' })
    await expect(
      site.admin.call(removeReferenceSigner, { params: { signerId } }),
    ).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await site.admin.call(addReferenceSigner, { body: { pem: pemOf(maker), note: 'ACME' } })
  })

  test('are not of a key that is private, or none', async () => {
    for (const pem of [
      maker.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      'hello',
    ]) {
      await expect(
        site.admin.call(addReferenceSigner, { body: { pem, note: 'x' } }),
      ).rejects.toMatchObject({ code: 'CORIM_KEY' })
    }
  })
})

const stranger = () => imported(generateKeyPairSync('ec', { namedCurve: 'P-256' }))
const ended = () =>
  map({
    0: tagged(1, Date.parse('2025-01-01') / 1000),
    1: tagged(1, Date.parse('2025-02-01') / 1000),
  })

function flipped(octets: Uint8Array): Uint8Array {
  const changed = octets.slice()
  const last = changed.length - 200
  changed[last] = (changed[last] ?? 0) ^ 1
  return changed
}

describe('reference values that an administrator writes', () => {
  test('in JSON trust a host that boots as they say', async () => {
    const { baseImages } = await load(json(), { format: 'json', name: undefined as never })
    expect(baseImages).toMatchObject([
      { name: 'by-hand', source: { kind: 'json', description: 'the lab' } },
    ])
    expect(await attested()).toBe('trusted')
    await expect(load(json(), { format: 'json', name: 'by-hand' })).rejects.toMatchObject({
      code: 'CONFLICT',
    })
  })

  test('of a bank that the policy does not have are taken in with a remark', async () => {
    const pcrs = { 0: ['00'.repeat(48)] }
    const { unused } = await load(json(asBooted, { bank: 'sha384', pcrs }), { format: 'json' })
    expect(unused).toEqual([expect.stringContaining('not the bank of the policy')])
  })

  test.each<[string, string, object]>([
    ['with a setting that nobody knows', 'REFERENCE_VALUES', { more: 1 }],
    ['in SHA-1', 'REFERENCE_VALUES', { bank: 'sha1', pcrs: { 0: ['00'.repeat(20)] } }],
    ['with digests of another length', 'REFERENCE_VALUES', { pcrs: { 0: ['00'.repeat(48)] } }],
    ['without a PCR', 'REFERENCE_VALUES', { pcrs: {} }],
    [
      'that end before they begin',
      'REFERENCE_VALUES',
      { notBefore: '2026-02-01T00:00:00Z', notAfter: '2026-01-01T00:00:00Z' },
    ],
  ])('are refused %s (%s)', async (_, code, members) => {
    await expect(load(json(asBooted, members), { format: 'json' })).rejects.toMatchObject({ code })
  })

  test('are accepted from an unsigned manifest where they say so', async () => {
    await load(corim([moduleTag([state()])]), { unsigned: true })
    const { baseImages } = await site.admin.call(listBaseImages, { query: {} })
    expect(baseImages[0]?.source).toEqual({
      kind: 'corim',
      digest: expect.stringMatching(/^[0-9a-f]{64}$/),
      id: 'manifest 1',
    })
    expect(await attested()).toBe('trusted')
  })
})
