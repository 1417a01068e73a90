import { sql } from 'kysely'
import { describe, expect, test } from 'vitest'
import { toHex, utf8 } from '../../../src/core/bytes.js'
import { Secret } from '../../../src/core/secret.js'
import {
  createOperator,
  findOperator,
  listOperators,
  loadOrCreateServiceKey,
  readHostStatus,
  revokeOperator,
  type Store,
  writeHostStatus,
} from '../../../src/store/index.js'
import { rootKeyOf } from '../../../src/store/root-key.js'
import { NOW_MS, openTestStore, type Tx } from './support.js'

const ISSUER = 'https://authority.test/attestation'

describe('an operator', () => {
  const admin = {
    name: 'admin',
    role: 'administrator',
    services: ['attestation', 'key-provider'],
    nowMs: NOW_MS,
  } as const

  const find = (store: Store, token: string, service = 'attestation', nowMs = NOW_MS) =>
    findOperator(store, { token, service, nowMs })

  test('is known by the token that was shown once, for the services of the operator', async () => {
    await using opened = await openTestStore()
    const { operatorId, token } = await createOperator(opened.store, admin)
    expect(token).toMatch(/^sgl_op_[\w-]{43}$/)
    expect(await find(opened.store, token)).toEqual({
      operatorId,
      name: 'admin',
      role: 'administrator',
      services: ['attestation', 'key-provider'],
    })
    expect(await find(opened.store, token, 'control-plane')).toBeUndefined()
    expect(await find(opened.store, token, 'attest')).toBeUndefined()
  })

  test('is known by no other text', async () => {
    await using opened = await openTestStore()
    const { token } = await createOperator(opened.store, admin)
    const others = [
      '',
      `${token} `,
      token.slice(0, -1),
      token.slice('sgl_op_'.length),
      token.toUpperCase(),
      `${token}\0`,
    ]
    for (const other of others) expect(await find(opened.store, other), other).toBeUndefined()
  })

  test('leaves no token in the database, which would be enough to pass for the operator', async () => {
    await using opened = await openTestStore()
    const { token } = await createOperator(opened.store, admin)
    const { rows } = await sql<object>`select * from operators`.execute(opened.store.tables())
    const text = JSON.stringify(rows)
    expect(text).not.toContain(token.slice('sgl_op_'.length))
    const stored = /"token_hash":"([0-9a-f]{64})"/.exec(text)?.[1]
    expect(stored).toBeDefined()
    expect(await find(opened.store, stored ?? '')).toBeUndefined()
  })

  test('ends with the time that was given', async () => {
    await using opened = await openTestStore()
    const expiresAtMs = NOW_MS + 1000
    const { token } = await createOperator(opened.store, { ...admin, expiresAtMs })
    expect(await find(opened.store, token, 'attestation', expiresAtMs - 1)).toBeDefined()
    expect(await find(opened.store, token, 'attestation', expiresAtMs)).toBeUndefined()
  })

  test('ends when it is revoked, once and for good', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    const { token } = await createOperator(store, admin)
    await revokeOperator(store, 'admin', NOW_MS)
    expect(await find(store, token)).toBeUndefined()
    for (const name of ['admin', 'nobody']) {
      await expect(revokeOperator(store, name, NOW_MS)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    }
    await expect(createOperator(store, admin)).rejects.toMatchObject({ code: 'CONFLICT' })
  })

  test('has a name of its own, also in a race', async () => {
    await using opened = await openTestStore()
    const attempts = await Promise.allSettled(
      Array.from({ length: 10 }, () => createOperator(opened.store, admin)),
    )
    const reasons = attempts.flatMap((attempt) =>
      attempt.status === 'rejected' ? [attempt.reason] : [],
    )
    expect(reasons).toHaveLength(9)
    for (const reason of reasons) expect(reason).toMatchObject({ code: 'CONFLICT' })
  })

  test('is listed with what it may and until when, without its token', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    const first = await createOperator(store, { ...admin, expiresAtMs: NOW_MS + 5 })
    const second = await createOperator(store, { ...admin, name: 'eve', role: 'auditor' })
    await revokeOperator(store, 'eve', NOW_MS + 1)
    expect(await listOperators(store)).toEqual([
      {
        operatorId: first.operatorId,
        name: 'admin',
        role: 'administrator',
        services: ['attestation', 'key-provider'],
        createdAtMs: NOW_MS,
        expiresAtMs: NOW_MS + 5,
      },
      {
        operatorId: second.operatorId,
        name: 'eve',
        role: 'auditor',
        services: ['attestation', 'key-provider'],
        createdAtMs: NOW_MS,
        revokedAtMs: NOW_MS + 1,
      },
    ])
  })
})

describe('the status of a host', () => {
  const status = {
    issuer: ISSUER,
    hostId: 'host-a',
    cluster: 'lab',
    state: 'trusted',
    newEpoch: true,
    policyEpoch: 1,
    atMs: NOW_MS,
  } as const

  const write = (store: Store, change: object) =>
    store.transaction((tx: Tx) => writeHostStatus(tx, { ...status, ...change }))
  const read = (store: Store, issuer = ISSUER, hostId = 'host-a') =>
    store.transaction((tx: Tx) => readHostStatus(tx, issuer, hostId))

  test('is what was written last, with an epoch that rises where tokens must end', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    await write(store, { state: 'enrolled' })
    expect(await read(store)).toEqual({
      state: 'enrolled',
      cluster: 'lab',
      epoch: 1,
      policyEpoch: 1,
    })
    await write(store, { newEpoch: false })
    expect(await read(store)).toMatchObject({ state: 'trusted', epoch: 1 })
    await write(store, { state: 'revoked' })
    expect(await read(store)).toMatchObject({ state: 'revoked', epoch: 2 })
    await write(store, { newEpoch: false, policyEpoch: 2, cluster: 'other' })
    expect(await read(store)).toEqual({
      state: 'trusted',
      cluster: 'other',
      epoch: 2,
      policyEpoch: 2,
    })
  })

  test('is of one host at one issuer, and unknown for every other', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    await write(store, {})
    await write(store, { issuer: 'https://other.test', state: 'revoked' })
    expect(await read(store)).toMatchObject({ state: 'trusted', epoch: 1 })
    expect(await read(store, ISSUER, 'host-b')).toBeUndefined()
    expect(await read(store, ISSUER, 'HOST-A')).toBeUndefined()
    expect(await read(store, `${ISSUER}/`)).toBeUndefined()
  })

  test('raised by many at once, misses no epoch', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    await Promise.all(Array.from({ length: 40 }, () => write(store, {})))
    expect(await read(store)).toMatchObject({ epoch: 40 })
  })

  test('is seen revoked by every transaction that begins after the revocation', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    await write(store, {})
    const seen: string[] = []
    let revoked = false
    const reads = () =>
      Array.from({ length: 100 }, () =>
        store.transaction(async (tx: Tx) => {
          const state = (await readHostStatus(tx, ISSUER, 'host-a'))?.state
          seen.push(`${revoked ? 'after' : 'before'}: ${state}`)
        }),
      )
    const before = reads()
    const revocation = store.transaction(async (tx: Tx) => {
      await writeHostStatus(tx, { ...status, state: 'revoked' })
      revoked = true
    })
    await Promise.all([...before, revocation, ...reads()])
    expect(new Set(seen)).toEqual(new Set(['before: trusted', 'after: revoked']))
  })
})

describe('a key of a service', () => {
  const rootKey = () => rootKeyOf(new Secret(new Uint8Array(32).fill(7)))

  test('is made on first use, and the same ever after', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    let made = 0
    const load = () =>
      loadOrCreateServiceKey(store, rootKey(), 'attestation', 'nonce', async () => {
        made += 1
        return Uint8Array.of(made, 2, 3)
      })
    const keys = await Promise.all(Array.from({ length: 20 }, load))
    expect(new Set(keys.map((key) => key.use(toHex)))).toEqual(new Set(['010203']))
    expect(made).toBe(1)
  })

  test('is another one for every service and name', async () => {
    await using opened = await openTestStore()
    let made = 0
    const load = async (service: string, name: string) => {
      const make = async () => {
        made += 1
        return Uint8Array.of(made)
      }
      return (await loadOrCreateServiceKey(opened.store, rootKey(), service, name, make)).use(toHex)
    }
    expect(await load('attestation', 'nonce')).toBe('01')
    expect(await load('attestation', 'signing')).toBe('02')
    expect(await load('control-plane', 'nonce')).toBe('03')
    expect(await load('attestation', 'nonce')).toBe('01')
  })

  test('is erased where it was made, also when it cannot be sealed', async () => {
    await using opened = await openTestStore()
    const sealedWell = utf8('key octets')
    await loadOrCreateServiceKey(opened.store, rootKey(), 'a', 'b', async () => sealedWell)
    expect(sealedWell).toEqual(new Uint8Array(10))
    const notSealed = utf8('key octets')
    const disposed = rootKey()
    disposed[Symbol.dispose]()
    await expect(
      loadOrCreateServiceKey(opened.store, disposed, 'a', 'c', async () => notSealed),
    ).rejects.toMatchObject({ code: 'SEALED' })
    expect(notSealed).toEqual(new Uint8Array(10))
  })

  test('is not taken from another service, another name or another root key', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    const make = async () => Uint8Array.of(1)
    const loadA = (key = rootKey()) => loadOrCreateServiceKey(store, key, 'a', 'x', make)
    await loadA()
    await loadOrCreateServiceKey(store, rootKey(), 'a', 'y', make)
    const refused = { code: 'ROOT_KEY_OPEN' }
    await expect(loadA(rootKeyOf(new Secret(new Uint8Array(32))))).rejects.toMatchObject(refused)
    await sql`update service_keys set sealed = (select sealed from service_keys where name = 'y')`.execute(
      store.tables(),
    )
    await expect(loadA()).rejects.toMatchObject(refused)
  })
})
