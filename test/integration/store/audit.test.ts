import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { sql } from 'kysely'
import { describe, expect, test } from 'vitest'
import type { CanonicalValue } from '../../../src/core/canonical-json.js'
import { failures } from '../../../src/core/finding.js'
import {
  appendAudit,
  auditLog,
  listAudit,
  openStore,
  type Store,
  verifyAudit,
} from '../../../src/store/index.js'
import { append, auditEntry, openTestStore, type TestStore, type Tx } from './support.js'

const CHAIN = 'attestation'
const COLUMNS = 'chain, seq, at_ms, actor, action, subject, outcome, detail, hash'

async function openWithRecords(count: number): Promise<TestStore & { readonly heads: string[] }> {
  const opened = await openTestStore()
  const heads = await opened.store.transaction(async (tx: Tx) => {
    const hashes: string[] = []
    for (let number = 1; number <= count; number += 1) {
      hashes.push((await appendAudit(tx, auditEntry(number))).hash)
    }
    return hashes
  })
  return { ...opened, heads }
}

async function execute(store: Store, ...statements: readonly string[]): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(store.tables())
}

/** The codes of what verification refuses after these statements, which are undone again. */
async function refusalsAfter(
  store: Store,
  statements: readonly string[],
  expectedHead?: string,
): Promise<readonly string[]> {
  await execute(store, 'create temp table kept as select * from audit_records', ...statements)
  const { findings } = await verifyAudit(store, CHAIN, expectedHead)
  await execute(
    store,
    'delete from audit_records',
    'insert into audit_records select * from kept',
    'drop table kept',
  )
  return failures(findings).map(({ code }) => code)
}

/** Statements that exchange the numbers of two records. */
function exchange(a: number, b: number): string[] {
  return [
    `update audit_records set seq = 1000000 where seq = ${a}`,
    `update audit_records set seq = ${a} where seq = ${b}`,
    `update audit_records set seq = ${b} where seq = 1000000`,
  ]
}

describe('a chain as it was written', () => {
  test('verifies, record by record, up to the head that the last append returned', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    expect(await verifyAudit(store, CHAIN)).toMatchObject({ records: 0, head: '0'.repeat(64) })
    for (let number = 1; number <= 20; number += 1) {
      const { seq, hash } = await append(store, auditEntry(number))
      expect(seq).toBe(number)
      const { records, head, findings } = await verifyAudit(store, CHAIN, hash)
      expect(records).toBe(number)
      expect(head).toBe(hash)
      expect(failures(findings)).toEqual([])
    }
  })

  test('has the documented hash', async () => {
    await using opened = await openTestStore()
    const { hash } = await append(opened.store, auditEntry(1))
    const text =
      '{"action":"host.revoke","actor":"operator:admin","atMs":1800000000001,"chain":"attestation",' +
      '"detail":{"number":1,"reason":"lost"},"outcome":"done","seq":1,"subject":"host:host-1"}'
    const expected = createHash('sha256')
      .update(`sigillo audit v1\0${'0'.repeat(64)}\0${text}`)
      .digest('hex')
    expect(hash).toBe(expected)
  })

  test('verifies whatever text and detail its records have', async () => {
    const text = fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: 'grapheme' }))
    const wild = fc
      .array(fc.integer({ min: 0, max: 0xffff }))
      .map((units) => String.fromCharCode(...units))
    const anyText = fc.oneof(text, wild, fc.constantFrom('\ud800', 'a\0b', '\ufeff', ''))
    const anyDetail = fc.dictionary(
      anyText,
      fc.letrec<{ value: CanonicalValue }>((tie) => ({
        value: fc.oneof(
          { maxDepth: 3 },
          fc.constantFrom(null, true, false),
          fc.maxSafeInteger(),
          anyText,
          fc.array(tie('value')),
          fc.dictionary(anyText, tie('value')),
        ),
      })).value,
    )
    await using store = await openStore({ file: ':memory:' })
    await fc.assert(
      fc.asyncProperty(
        anyText,
        anyText,
        anyText,
        anyDetail,
        async (actor, action, subject, detail) => {
          await execute(store, 'delete from audit_records')
          const { hash } = await append(store, auditEntry(1, { actor, action, subject, detail }))
          await append(store, auditEntry(2))
          const { records, findings } = await verifyAudit(store, CHAIN, hash)
          expect(records).toBe(2)
          expect(failures(findings)).toEqual([])
          expect((await listAudit(store, { chain: CHAIN }))[0]?.hash).toBe(hash)
        },
      ),
      { numRuns: 300 },
    )
  })

  test('is a chain of its own for each service', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    await append(store, auditEntry(1))
    expect(await append(store, auditEntry(1, { chain: 'key-provider' }))).toMatchObject({ seq: 1 })
    expect(await append(store, auditEntry(2))).toMatchObject({ seq: 2 })
    for (const chain of [CHAIN, 'key-provider']) {
      expect(failures((await verifyAudit(store, chain)).findings)).toEqual([])
    }
  })

  test('is verified across pages, and leaves others their turn', async () => {
    await using opened = await openWithRecords(2500)
    let turns = 0
    let done = false
    const turn = () => {
      turns += 1
      if (!done) setImmediate(turn)
    }
    setImmediate(turn)
    const { records, findings } = await verifyAudit(opened.store, CHAIN, opened.heads[1999])
    done = true
    expect(records).toBe(2500)
    expect(failures(findings)).toEqual([])
    expect(turns).toBeGreaterThanOrEqual(2)
  })
})

describe('verification finds', () => {
  test('a change to any column of any record', async () => {
    await using opened = await openWithRecords(5)
    const { store } = opened
    const changes = [
      `at_ms = at_ms + 1`,
      `at_ms = at_ms + 0.5`,
      `at_ms = 'soon'`,
      `actor = 'operator:other'`,
      `actor = cast(actor as blob)`,
      `actor = actor || char(0)`,
      `action = 'host.approve'`,
      `subject = 'host:other'`,
      `subject = subject || ' '`,
      `outcome = 'refused'`,
      `detail = '{"number":0,"reason":"lost"}'`,
      `detail = replace(detail, ':', ': ')`,
      `detail = replace(detail, '{', '{"number":7,')`,
      `detail = replace(detail, 'lost', '\\u006cost')`,
      `detail = replace(detail, 'number":', 'number":1.')`,
      `detail = '{}'`,
      `detail = 'null'`,
      `detail = '{"number":'`,
      `detail = cast(detail as blob)`,
      `detail = replace(hex(zeroblob(20000)), '00', '[')`,
      `hash = upper(hash)`,
      `hash = replace(hash, substr(hash, 1, 1), 'g')`,
      `hash = ''`,
      `chain = 'key-provider'`,
      `seq = -seq`,
      `seq = seq + 0.5`,
      `seq = seq + 1000000`,
      `seq = 'x' || seq`,
    ]
    for (let seq = 1; seq <= 5; seq += 1) {
      for (const change of changes) {
        const statement = `update audit_records set ${change} where seq = ${seq}`
        const isLastMoved = seq === 5 && change.startsWith('chain')
        expect(await refusalsAfter(store, [statement], opened.heads[4]), statement).toEqual([
          isLastMoved ? 'AUDIT_TRUNCATED' : 'AUDIT_BROKEN',
        ])
      }
    }
    expect(await refusalsAfter(store, [], opened.heads[4])).toEqual([])
  })

  test('every bit that is flipped in a record', async () => {
    await using opened = await openWithRecords(3)
    const { store } = opened
    const [record] = await listAudit(store, { chain: CHAIN, afterSeq: 1, limit: 1 })
    const texts = {
      actor: record?.actor ?? '',
      action: record?.action ?? '',
      subject: record?.subject ?? '',
      outcome: record?.outcome ?? '',
      detail: JSON.stringify(record?.detail),
      hash: record?.hash ?? '',
    }
    for (const [column, text] of Object.entries(texts)) {
      const octets = Buffer.from(text)
      expect(octets.length).toBeGreaterThan(3)
      for (let bit = 0; bit < octets.length * 8; bit += 1) {
        const flipped = Buffer.from(octets)
        flipped[bit >> 3] = (octets[bit >> 3] ?? 0) ^ (1 << (bit & 7))
        await execute(
          store,
          `update audit_records set ${column} = cast(x'${flipped.toString('hex')}' as text) where seq = 2`,
        )
        const { records, findings } = await verifyAudit(store, CHAIN)
        const where = `${column}, bit ${bit}`
        expect(records, where).toBe(1)
        expect(
          failures(findings).map(({ code }) => code),
          where,
        ).toEqual(['AUDIT_BROKEN'])
      }
      await execute(store, `update audit_records set ${column} = '${text}' where seq = 2`)
    }
    expect(failures((await verifyAudit(store, CHAIN)).findings)).toEqual([])
  })

  test('any record that is missing but the last ones, also when the others are renumbered', async () => {
    await using opened = await openWithRecords(6)
    for (let seq = 1; seq < 6; seq += 1) {
      const removed = `delete from audit_records where seq = ${seq}`
      const closeUp = Array.from(
        { length: 6 - seq },
        (_, index) =>
          `update audit_records set seq = ${seq + index} where seq = ${seq + index + 1}`,
      )
      expect(await refusalsAfter(opened.store, [removed])).toEqual(['AUDIT_BROKEN'])
      expect(await refusalsAfter(opened.store, [removed, ...closeUp])).toEqual(['AUDIT_BROKEN'])
    }
  })

  test.each([-5, 0, 0.5, 1.5, 3.5, 6, 7, 1_000_000, "'x'", "x'00'", '9e999'])(
    'a record that was put in as number %s',
    async (number) => {
      await using opened = await openWithRecords(5)
      for (const like of [1, 3, 5]) {
        const statement =
          `insert into audit_records (${COLUMNS}) select chain, ${number}, at_ms, actor, action,` +
          ` subject, outcome, detail, hash from audit_records where seq = ${like}`
        expect(await refusalsAfter(opened.store, [statement], opened.heads[4])).toEqual([
          'AUDIT_BROKEN',
        ])
      }
    },
  )

  test('any two records that changed places', async () => {
    await using opened = await openWithRecords(6)
    for (let a = 1; a <= 6; a += 1) {
      for (let b = a + 1; b <= 6; b += 1) {
        expect(await refusalsAfter(opened.store, exchange(a, b)), `${a} and ${b}`).toEqual([
          'AUDIT_BROKEN',
        ])
      }
    }
  })

  test('a record that was taken from another chain', async () => {
    await using opened = await openWithRecords(3)
    const { store } = opened
    const copy = (seq: number) =>
      `insert into audit_records (${COLUMNS}) select '${CHAIN}', ${seq}, at_ms, actor, action, subject,` +
      ` outcome, detail, hash from audit_records where chain = 'key-provider' and seq = 1`
    await append(store, auditEntry(1, { chain: 'key-provider' }))
    expect(await refusalsAfter(store, [copy(4)])).toEqual(['AUDIT_BROKEN'])
    const replaced = [`delete from audit_records where chain = '${CHAIN}' and seq = 1`, copy(1)]
    expect(await refusalsAfter(store, replaced)).toEqual(['AUDIT_BROKEN'])
  })

  test('an end that was cut off, with a head that was kept, and not without', async () => {
    await using opened = await openWithRecords(5)
    const { store, heads } = opened
    for (let left = 0; left < 5; left += 1) {
      const cut = [`delete from audit_records where seq > ${left}`]
      expect(await refusalsAfter(store, cut, heads[4])).toEqual(['AUDIT_TRUNCATED'])
      expect(await refusalsAfter(store, cut)).toEqual([])
      const keptEarlier = heads[left - 1]
      expect(await refusalsAfter(store, cut, keptEarlier)).toEqual([])
    }
  })

  test('a chain that was written anew from some record on, with a head that was kept', async () => {
    await using opened = await openWithRecords(5)
    const { store, heads } = opened
    await execute(store, 'delete from audit_records where seq > 2')
    for (const number of [3, 4, 5]) await append(store, auditEntry(number, { actor: 'operator:b' }))
    expect(failures((await verifyAudit(store, CHAIN, heads[1])).findings)).toEqual([])
    const { findings } = await verifyAudit(store, CHAIN, heads[4])
    expect(failures(findings)).toMatchObject([{ check: 'audit.head', code: 'AUDIT_TRUNCATED' }])
  })

  test.each([1, 999, 1000, 1001, 1999, 2000, 2001, 2500])(
    'a change beside the border of a page: record %d',
    async (seq) => {
      await using opened = await openWithRecords(2500)
      await execute(opened.store, `update audit_records set actor = 'x' where seq = ${seq}`)
      const { records, head, findings } = await verifyAudit(opened.store, CHAIN)
      expect(records).toBe(seq - 1)
      expect(head).toBe(opened.heads[seq - 2] ?? '0'.repeat(64))
      expect(failures(findings)).toMatchObject([
        { code: 'AUDIT_BROKEN', expected: expect.stringContaining(`record ${seq} `) },
      ])
    },
  )
})

describe('a list of records', () => {
  test('comes in order, after a number, up to a limit, about a subject', async () => {
    await using opened = await openWithRecords(250)
    const { store } = opened
    const numbers = async (query: object) =>
      (await listAudit(store, { chain: CHAIN, ...query })).map(({ seq }) => seq)
    expect(await numbers({})).toEqual(Array.from({ length: 100 }, (_, index) => index + 1))
    expect(await numbers({ afterSeq: 247, limit: 1000 })).toEqual([248, 249, 250])
    expect(await numbers({ limit: 2 })).toEqual([1, 2])
    expect(await numbers({ subject: 'host:host-7' })).toEqual([7])
    expect(await numbers({ subject: 'host:host-%' })).toEqual([])
    expect(await listAudit(store, { chain: 'key-provider' })).toEqual([])
    const [record] = await listAudit(store, { chain: CHAIN, afterSeq: 1, limit: 1 })
    expect(record).toEqual({ ...auditEntry(2), seq: 2, hash: opened.heads[1] })
  })

  test('is refused where a record cannot be read', async () => {
    await using opened = await openWithRecords(3)
    await execute(opened.store, `update audit_records set detail = '{' where seq = 2`)
    await expect(listAudit(opened.store, { chain: CHAIN })).rejects.toMatchObject({
      code: 'AUDIT_BROKEN',
    })
    expect(await auditLog(opened.store, CHAIN).verify()).toMatchObject({
      records: 1,
      intact: false,
    })
  })
})
