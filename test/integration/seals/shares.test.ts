import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createProvider, listProviders } from '../../../src/api/key-provider.js'
import { commitmentOf, encodeShare, parseShare } from '../../../src/seals/share-text.js'
import { openSealSite, operationsOf, type SealSite, trustedProvider } from './support.js'

const SERVICE = 'key-provider'
const { status, unseal, seal, rotateRoot, addSeal, forgetShares } = operationsOf(SERVICE)

let site: SealSite
let shares: readonly string[]

beforeAll(async () => {
  site = await openSealSite([SERVICE])
  await site.admin.call(createProvider, trustedProvider('primary'))
  const answer = await site.admin.call(addSeal, { body: { kind: 'shares' } })
  shares = answer.shares ?? []
})
afterAll(() => site[Symbol.asyncDispose]())

const give = (holder: number, share: string | undefined) =>
  (site.holders[holder] ?? site.admin).call(unseal, { body: { share: share ?? '' } })
const reseal = () => site.admin.call(seal, { body: {} })

describe('a root key sealed by shares', () => {
  test('has five of them, of which three are wanted', async () => {
    expect(shares).toHaveLength(5)
    expect((await site.admin.call(status, {})).seals.map(({ detail }) => detail)).toContainEqual(
      expect.stringMatching(/^set [0-9a-f]{10}, 3 of 5$/),
    )
  })

  test('opens by three of different operators, one at a time', async () => {
    await reseal()
    expect(await give(0, shares[4])).toMatchObject({ shares: { given: 1, threshold: 3 } })
    expect(await give(1, shares[0])).toMatchObject({
      state: 'sealed',
      shares: { given: 2, threshold: 3 },
    })
    const opened = await give(2, shares[2])
    expect(opened).toMatchObject({ state: 'ok' })
    expect(opened).not.toHaveProperty('shares')
    expect((await site.admin.call(listProviders, {})).providers).toHaveLength(1)
  })

  test('does not open by two, nor by three of one operator, nor by one share twice', async () => {
    await reseal()
    await give(0, shares[0])
    await expect(give(0, shares[1])).rejects.toMatchObject({ code: 'SHARE_SAME_OPERATOR' })
    await expect(give(1, shares[0])).rejects.toMatchObject({ code: 'SHARE_DUPLICATE' })
    await give(1, shares[1])
    expect(await site.admin.call(status, {})).toMatchObject({ state: 'sealed' })
    expect(await site.admin.call(forgetShares, {})).not.toHaveProperty('shares')
  })

  test('forgets shares half an hour after the first', async () => {
    await give(0, shares[0])
    site.clock.advance(31 * 60_000)
    expect(await site.admin.call(status, {})).not.toHaveProperty('shares')
  })

  test('refuses a share with a letter changed, or that is none', async () => {
    const share = shares[0] ?? ''
    const other = share.endsWith('a') ? 'b' : 'a'
    await expect(give(0, share.slice(0, -1) + other)).rejects.toMatchObject({
      code: 'SHARE_CHECKSUM',
    })
    await expect(give(0, share.slice(0, -1))).rejects.toMatchObject({ code: 'SHARE_FORMAT' })
    await expect(give(0, site.passphrase)).rejects.toMatchObject({ code: 'SHARE_FORMAT' })
  })

  test('names a forged share before it does harm, and makes the forger wait', async () => {
    const { setId, threshold } = parseShare(shares[0] ?? '')
    const value = new Uint8Array(32).fill(1)
    const forged = encodeShare({ setId, threshold, index: 2, value })
    await expect(give(0, forged)).rejects.toMatchObject({ code: 'SHARE_TAMPERED' })
    await expect(give(0, shares[0])).rejects.toMatchObject({ code: 'ROOT_KEY_BACKOFF' })
    site.clock.advance(1_100)
    const low = encodeShare({ setId, threshold: 2, index: 2, value })
    await expect(give(0, low)).rejects.toMatchObject({ code: 'SHARE_TAMPERED' })
    site.clock.advance(2_100)
  })

  test('says that the seal was altered where a forger changed the database too', async () => {
    const { setId, threshold } = parseShare(shares[0] ?? '')
    const value = new Uint8Array(32).fill(1)
    const forged = encodeShare({ setId, threshold, index: 1, value })
    const undo = commitTo(site.file, commitmentOf({ setId, threshold, index: 1, value }))
    await give(0, forged)
    await give(1, shares[1])
    await expect(give(2, shares[2])).rejects.toMatchObject({ code: 'SEAL_RECORD' })
    undo()
    expect(await site.admin.call(status, {})).not.toHaveProperty('shares')
  })

  test('refuses shares of an earlier set once new ones were made', async () => {
    await give(0, shares[0])
    await give(1, shares[1])
    await give(2, shares[2])
    const renewed = await site.admin.call(addSeal, {
      body: { kind: 'shares', threshold: 2, count: 3 },
    })
    await reseal()
    await expect(give(0, shares[0])).rejects.toMatchObject({ code: 'SHARE_SET' })
    await give(0, renewed.shares?.[2])
    expect(await give(1, renewed.shares?.[0])).toMatchObject({ state: 'ok' })
  })

  test('gets new shares with a new root key, and the old ones open nothing', async () => {
    const rotated = await site.admin.call(rotateRoot, { body: {} })
    expect(rotated.shares).toHaveLength(3)
    await reseal()
    await expect(give(0, shares[0])).rejects.toMatchObject({ code: 'SHARE_SET' })
    await give(0, rotated.shares?.[1])
    expect(await give(1, rotated.shares?.[2])).toMatchObject({ state: 'ok' })
  })

  test('recorded who gave which share, and what was refused', async () => {
    const records = (await site.audit(SERVICE)).filter(({ action }) => action === 'root-key.share')
    expect(records[0]).toMatchObject({
      actor: 'operator:ann',
      outcome: 'done',
      detail: { index: 5, given: 1, threshold: 3 },
    })
    expect(new Set(records.map(({ detail }) => detail['code']))).toEqual(
      new Set([
        undefined,
        'SHARE_SAME_OPERATOR',
        'SHARE_DUPLICATE',
        'SHARE_CHECKSUM',
        'SHARE_FORMAT',
        'SHARE_TAMPERED',
        'SHARE_SET',
      ]),
    )
    expect(JSON.stringify(records)).not.toContain(parseText(shares[0]))
  })
})

const parseText = (share: string | undefined) => share?.slice('sgl-share-'.length) ?? 'nothing'

/** Puts another commitment in the place of the first, as one who can write in the database may; returns how to undo it. */
function commitTo(file: string, commitment: string): () => void {
  const db = new Database(file)
  const read = db.prepare("select parameters from root_key_seals where kind = 'shares'")
  const write = db.prepare("update root_key_seals set parameters = ? where kind = 'shares'")
  const { parameters } = read.get() as { readonly parameters: string }
  const changed = JSON.parse(parameters) as { commitments: string[] }
  changed.commitments[0] = commitment
  write.run(JSON.stringify(changed))
  return () => {
    write.run(parameters)
    db.close()
  }
}
