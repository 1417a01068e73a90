import { createHash, createSign, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { concat, toHex, utf8 } from '../../../src/core/bytes.js'
import { failures } from '../../../src/core/finding.js'
import {
  type ImaPolicy,
  judgeImaEntries,
  type QuotedPcrs,
  readImaList,
  readImaSigner,
} from '../../../src/ima/index.js'
import { fileDigest, imaListOf, type MeasuredFile } from '../../helpers/ima-list.js'
import { processorMsOf } from '../../helpers/processor-time.js'
import { measuredBoot } from '../../helpers/vectors.js'
import { binaryList, digestField, type Measurement, pathField } from './build-list.js'

const QUOTE = { bank: 'sha256', pcrValues: new Map<number, Uint8Array>() } as const
const NOTHING: ImaPolicy = { allow: [], exclude: [], allowViolations: false, signers: [] }

function judge(list: Uint8Array, policy: Partial<ImaPolicy>, quote: QuotedPcrs = QUOTE) {
  return judgeImaEntries([...readImaList(list)], { ...NOTHING, ...policy }, quote)
}
const codes = async (...judged: Parameters<typeof judge>) =>
  failures(await judge(...judged)).map(({ code }) => code)
const codesOf = (files: readonly MeasuredFile[], policy: Partial<ImaPolicy>) =>
  codes(imaListOf(files), policy)

const allow = (path: string, ...contents: readonly string[]) => ({
  path,
  digests: new Set(contents.map((content) => toHex(createHash('sha256').update(content).digest()))),
})

const A = { path: '/usr/bin/a' }
const C = { path: '/usr/bin/c' }

describe('files', () => {
  test('are accepted by digest under the patterns of their paths', async () => {
    expect(await codesOf([A, C], { allow: [allow('/usr/bin/*', A.path, C.path)] })).toEqual([])
    expect(await codesOf([A], { allow: [allow('/opt/*', A.path)] })).toEqual(['IMA_NOT_ALLOWED'])
    expect(
      await codesOf([{ ...A, content: 'changed' }], { allow: [allow('/usr/bin/*', A.path)] }),
    ).toEqual(['IMA_NOT_ALLOWED'])
    expect(await codesOf([A], { allow: [allow('/opt/*', A.path), allow('*a', A.path)] })).toEqual(
      [],
    )
    expect(await codesOf([A], { exclude: ['/usr/*'] })).toEqual([])
    expect(await codesOf([A], {})).toEqual(['IMA_NOT_ALLOWED'])
  })

  test.each([
    ['sha1', 20],
    ['md5', 16],
    ['sha224', 28],
  ])('are not known by a digest of %s, even if it is allowed', async (algorithm, size) => {
    const digest = new Uint8Array(size).fill(7)
    const list = binaryList([
      { template: 'ima-ng', fields: [digestField(algorithm, digest), pathField('/a')] },
    ])
    const rules = [{ path: '*', digests: new Set([toHex(digest)]) }]
    expect(await codes(list, { allow: rules })).toEqual(['IMA_DIGEST_WEAK'])
    expect(await codes(list, { exclude: ['/a'] })).toEqual([])
  })

  test('are named up to a number, and counted beyond', async () => {
    const many = (count: number) =>
      imaListOf(Array.from({ length: count }, (_, index) => ({ path: `/f${index}` })))
    const findings = await judge(many(50), {})
    expect(findings).toHaveLength(21)
    expect(findings.at(-1)).toMatchObject({ ok: false, found: '30 more' })
    const rest = (await judge(many(1500), {})).at(-1)
    expect(rest).toMatchObject({ ok: false, found: '980 more or above' })
  })

  test('are named in printable text that cannot be taken for another path', async () => {
    const found = async (path: string) => failures(await judge(imaListOf([{ path }]), {}))[0]?.found
    expect(await found('/a\nb\u202e"é')).toMatch(/^"\/a\\nb\\u202e\\"\\u00e9" sha256:[0-9a-f]{64}$/)
    expect(await found('/\u00e9')).not.toBe(await found('/\u00e8'))
    expect((await found(`/${'x'.repeat(4000)}`))?.length).toBeLessThan(400)
  })

  test('let others have their turn', async () => {
    let pauses = 0
    const files = Array.from({ length: 64 }, (_, index) => ({ path: `/f${index}` }))
    const pause = async () => {
      pauses += 1
    }
    await judgeImaEntries([...readImaList(imaListOf(files))], NOTHING, QUOTE, pause)
    expect(pauses).toBe(4)
  })

  test('are found among many rules at once', async () => {
    const rules = Array.from({ length: 20_000 }, (_, index) => allow(`/usr/${index}`, `${index}`))
    const files = Array.from({ length: 5_000 }, (_, index) => ({
      path: `/usr/${index}`,
      content: `${index}`,
    }))
    const entries = [...readImaList(imaListOf(files))]
    const took = await processorMsOf(async () => {
      const findings = await judgeImaEntries(entries, { ...NOTHING, allow: rules }, QUOTE)
      expect(failures(findings)).toEqual([])
    })
    expect(took).toBeLessThan(1000)
  })
})

describe('a violation', () => {
  const violated = (path: string, algorithm = 'sha256', size = 32): Measurement => ({
    template: 'ima-ng',
    fields: [digestField(algorithm, new Uint8Array(size)), pathField(path)],
    violation: true,
  })

  test('is refused whatever it is called: nothing of it is proved but that there was one', async () => {
    const everything = {
      allow: [{ path: '*', digests: new Set(['0'.repeat(64)]) }],
      exclude: ['*'],
    }
    for (const entry of [
      violated('/usr/bin/a'),
      violated('/tmp/excluded'),
      violated('boot_aggregate'),
      violated('boot_aggregate', 'sha1', 20),
      violated('.ima'),
    ]) {
      expect(await codes(binaryList([entry]), everything)).toEqual(['IMA_VIOLATION'])
    }
  })

  test('is accepted where violations are', async () => {
    expect(await codes(binaryList([violated('/a')]), { allowViolations: true })).toEqual([])
  })
})

test('an entry of another PCR is refused: PCR 10 says nothing of it', async () => {
  const fields = [digestField('sha256', new Uint8Array(32)), pathField('/a')]
  const list = binaryList([{ pcr: 11, template: 'ima-ng', fields }])
  expect(await codes(list, { exclude: ['*'], allowViolations: true })).toEqual(['IMA_PCR'])
})

describe('the boot aggregate', () => {
  const values = new Map(Array.from({ length: 10 }, (_, pcr) => [pcr, Buffer.alloc(32, pcr)]))
  const over = (count: number) => {
    const hash = createHash('sha256')
    for (let pcr = 0; pcr < count; pcr += 1) hash.update(values.get(pcr) ?? '')
    return hash.digest()
  }
  const aggregate = (algorithm: string, digest: Uint8Array) =>
    binaryList([
      { template: 'ima-ng', fields: [digestField(algorithm, digest), pathField('boot_aggregate')] },
    ])
  const quoted = (bank: QuotedPcrs['bank'], ...pcrs: readonly number[]): QuotedPcrs => ({
    bank,
    pcrValues: new Map([...values].filter(([pcr]) => pcrs.length === 0 || pcrs.includes(pcr))),
  })

  test.each([8, 10])('over the first %i PCRs is accepted', async (count) => {
    expect(await codes(aggregate('sha256', over(count)), {}, quoted('sha256'))).toEqual([])
  })

  test.each([
    ['of another boot', 'sha256', Buffer.alloc(32, 9), quoted('sha256')],
    ['of no TPM', 'sha256', new Uint8Array(32), quoted('sha256')],
    ['over other PCRs', 'sha256', over(9), quoted('sha256')],
    ['of another bank than was quoted', 'sha512', Buffer.alloc(64, 9), quoted('sha256')],
    ['of SHA-1', 'sha1', Buffer.alloc(20, 9), quoted('sha256')],
    ['over PCRs that were not quoted', 'sha256', over(10), quoted('sha256', 0, 7)],
  ])('%s is refused', async (_, algorithm, digest, quote) => {
    expect(await codes(aggregate(algorithm, digest), {}, quote)).toEqual(['IMA_BOOT_AGGREGATE'])
  })

  test('that cannot be compared is accepted where a rule says so, one of another boot never', async () => {
    const digest = toHex(over(10))
    const rules = { allow: [{ path: 'boot_aggregate', digests: new Set([digest]) }] }
    const list = aggregate('sha256', over(10))
    expect(await codes(list, rules, quoted('sha256', 0))).toEqual([])
    const other = {
      bank: 'sha256',
      pcrValues: new Map(values).set(0, Buffer.alloc(32, 1)),
    } as const
    expect(await codes(list, { ...rules, exclude: ['*'] }, other)).toEqual(['IMA_BOOT_AGGREGATE'])
  })
})

describe('signatures', () => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey
  const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString()
  const signers = [readImaSigner(pem)]
  const modulusAndExponent = publicKey.export({ type: 'pkcs1', format: 'der' })
  const keyId = createHash('sha1').update(modulusAndExponent).digest().subarray(-4)
  const sign = (content: string, hash = 'sha256', number = 4) => {
    const octets = createSign(hash).update(content).sign(privateKey)
    return concat(Uint8Array.of(3, 2, number), keyId, Uint8Array.of(1, 0), octets)
  }

  test('of a given key are accepted', async () => {
    expect(await codesOf([{ ...A, signature: sign(A.path) }], { signers })).toEqual([])
  })

  test.each([
    ['of another file', sign('other')],
    ['with another hash than the entry', sign(A.path, 'sha512', 6)],
    ['with a wrong number of the hash', sign(A.path, 'sha256', 6)],
    ['of version 1', Uint8Array.of(3, 1, ...sign(A.path).subarray(2))],
    ['of version 2 that say version 3', Uint8Array.of(3, 3, ...sign(A.path).subarray(2))],
    ['of metadata (EVM)', Uint8Array.of(5, 2, ...sign(A.path).subarray(2))],
    ['of fs-verity for a file', Uint8Array.of(6, 2, ...sign(A.path).subarray(2))],
    ['cut short', sign(A.path).subarray(0, 100)],
    ['with octets after it', concat(sign(A.path), Uint8Array.of(0))],
    ['that are a hash', concat(Uint8Array.of(4, 4), fileDigest(A))],
  ])('%s are not', async (_, signature) => {
    expect(await codesOf([{ ...A, signature }], { signers })).toEqual(['IMA_NOT_ALLOWED'])
  })

  test('say why they did not help', async () => {
    const found = async (file: MeasuredFile) =>
      failures(await judge(imaListOf([file]), { signers }))[0]?.found
    expect(await found({ ...A, signature: sign('other') })).toMatch(/, signature not valid$/)
    const renamed = sign(A.path).with(3, (keyId[0] ?? 0) ^ 1)
    expect(await found({ ...A, signature: renamed })).toMatch(/, signed with another key$/)
    expect(await found(A)).toMatch(/, not signed$/)
  })

  test('of version 3 are over kind, algorithm and digest', async () => {
    const digest = createHash('sha256').update('descriptor').digest()
    const signed = (type: number) =>
      concat(
        Uint8Array.of(type, 3, 4),
        keyId,
        Uint8Array.of(1, 0),
        createSign('sha256')
          .update(concat(Uint8Array.of(type, 4), digest))
          .sign(privateKey),
      )
    const list = (kind: string, signature: Uint8Array) =>
      binaryList([
        {
          template: 'ima-sigv2',
          fields: [digestField(`${kind}:sha256`, digest), pathField('/a'), signature],
        },
      ])
    expect(await codes(list('ima', signed(3)), { signers })).toEqual([])
    expect(await codes(list('verity', signed(6)), { signers })).toEqual([])
    for (const wrong of [list('ima', signed(6)), list('verity', signed(3))]) {
      expect(await codes(wrong, { signers })).toEqual(['IMA_NOT_ALLOWED'])
    }
  })

  test('of a key that was not given are not accepted', async () => {
    const file = { ...A, signature: sign(A.path) }
    expect(await codesOf([file], { signers: [other] })).toEqual(['IMA_NOT_ALLOWED'])
    expect(await codesOf([file], { signers: [other, ...signers] })).toEqual([])
  })

  test.each([
    ['text', 'no key'],
    ['RSA of 1024 bits', pemOf(generateKeyPairSync('rsa', { modulusLength: 1024 }))],
    ['another curve', pemOf(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }))],
    ['Ed25519', pemOf(generateKeyPairSync('ed25519'))],
  ])('need a strong key of a known kind, not %s', (_, text) => {
    expect(() => readImaSigner(text)).toThrow(expect.objectContaining({ code: 'DECODE_VALUE' }))
  })
})

describe('the keyring .ima', () => {
  const text = Buffer.from(measuredBoot('ca', 'rsa.pem'))
  const certificate = new X509Certificate(text)
  const der = new Uint8Array(certificate.raw)
  const digest = (octets: Uint8Array) => createHash('sha256').update(octets).digest()
  const loaded = (buffer: Uint8Array, change: Partial<{ path: string; digest: Uint8Array }> = {}) =>
    binaryList([
      {
        template: 'ima-buf',
        fields: [
          digestField('sha256', change.digest ?? digest(buffer)),
          pathField(change.path ?? '.ima'),
          buffer,
        ],
      },
    ])
  const signers = [readImaSigner(text.toString())]
  const other = [readImaSigner(pemOf(generateKeyPairSync('ec', { namedCurve: 'P-256' })))]

  test('may be given certificates of signers', async () => {
    expect(await codes(loaded(der), { signers })).toEqual([])
  })

  test.each([
    ['of other keys', loaded(der), other],
    ['into another keyring', loaded(der, { path: '.evm' }), signers],
    ['that were not measured', loaded(der, { digest: digest(utf8('other')) }), signers],
    ['with octets behind them', loaded(concat(der, Uint8Array.of(0))), signers],
    ['as text', loaded(text), signers],
    ['that are none', loaded(utf8('no certificate')), signers],
  ])('but not certificates %s', async (_, list, keys) => {
    expect(await codes(list, { signers: keys })).toEqual(['IMA_NOT_ALLOWED'])
  })

  test('may be given whatever the rules allow', async () => {
    const rules = [{ path: '.ima', digests: new Set([toHex(digest(der))]) }]
    expect(await codes(loaded(der), { allow: rules })).toEqual([])
  })
})

function pemOf({ publicKey }: { readonly publicKey: import('node:crypto').KeyObject }): string {
  return publicKey.export({ type: 'spki', format: 'pem' }).toString()
}
