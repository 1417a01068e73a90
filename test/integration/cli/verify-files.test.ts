import { createPublicKey } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parsePublicArea, parseTpm2bPublic, publicKeyOf } from '../../../src/tpm/index.js'
import { createLab, type Lab, type LabTpm } from '../../../swtpm/index.js'
import { GOOD_BOOT } from '../../helpers/host.js'
import { MEASURED_BOOT_NONCE, measuredBoot, measuredPcrs } from '../../helpers/vectors.js'
import { tpm2 } from '../native/tpm2-tools.js'
import { sigillo } from './sigillo.js'

const NONCE = '5e'.repeat(32)
const AK_ATTRIBUTES = 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign'

let lab: Lab
let tpm: LabTpm
let folder: string
const path = (name: string) => resolve(folder, name)

beforeAll(async () => {
  lab = await createLab()
  folder = await mkdtemp(join(tmpdir(), 'sgl-'))
  tpm = await lab.manufacture('t')
  await tpm.boot(GOOD_BOOT)
  writeFileSync(path('log'), GOOD_BOOT)
  writeFileSync(path('empty'), '')
  for (const [name, algorithm, bank] of [
    ['ecc', 'ecc256:ecdsa-sha256:null', 'sha256:0,1,2,3,4,5,6,7,8,9'],
    ['rsa', 'rsa2048:rsassa-sha256:null', 'sha256:0,4,7'],
  ] as const) {
    const tool = async (program: string, ...args: readonly string[]) => {
      await tpm2(program, args, tpm.tcti)
      await tpm2('flushcontext', ['-t'], tpm.tcti)
    }
    const key = path(`${name}.ctx`)
    await tool(
      'createprimary',
      ...['-C', 'e', '-G', algorithm, '-g', 'sha256', '-a', AK_ATTRIBUTES, '-c', key],
    )
    await tool('readpublic', ...['-c', key, '-o', path(`${name}.pub`)])
    await tool('readpublic', ...['-c', key, '-o', path(`${name}.pem`), '-f', 'pem'])
    await tool(
      'quote',
      ...[
        '-c',
        key,
        '-l',
        bank,
        '-q',
        NONCE,
        '-g',
        'sha256',
        '-m',
        path(`${name}.msg`),
        '-s',
        path(`${name}.sig`),
        '-o',
        path(`${name}.pcrs`),
      ],
    )
    await tool(
      'quote',
      ...[
        '-c',
        key,
        '-l',
        bank,
        '-q',
        NONCE,
        '-g',
        'sha256',
        '-m',
        path(`${name}.msg2`),
        '-s',
        path(`${name}.sig2`),
        '-F',
        'values',
        '-o',
        path(`${name}.values`),
      ],
    )
    const area = parseTpm2bPublic(new Uint8Array(readFileSync(path(`${name}.pub`))))
    writeFileSync(path(`${name}.tpmt`), readFileSync(path(`${name}.pub`)).subarray(2))
    writeFileSync(path(`${name}.der`), publicKeyOf(area).export({ type: 'spki', format: 'der' }))
  }
})
afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
  await lab[Symbol.asyncDispose]()
})

const quote = (name: string, change: Readonly<Record<string, string>> = {}) => {
  const files = {
    message: path(`${name}.msg`),
    signature: path(`${name}.sig`),
    ak: path(`${name}.pub`),
    pcrs: path(`${name}.pcrs`),
    nonce: NONCE,
    ...change,
  }
  const flags = Object.entries(files).flatMap(([flag, value]) => [`--${flag}`, value])
  return sigillo('verify', 'quote', ...flags, '--json')
}

describe('sigillo verify quote', () => {
  test.each(['ecc', 'rsa'])(
    'accepts the files of tpm2_quote, with every form of key (%s)',
    async (name) => {
      for (const form of ['pub', 'pem', 'tpmt', 'der']) {
        const { status, out, err } = await quote(name, { ak: path(`${name}.${form}`) })
        expect([form, err, status]).toEqual([form, '', 0])
        expect(JSON.parse(out)).toMatchObject({ accepted: true })
      }
    },
  )

  test('accepts bare values and replays the event log to them', async () => {
    const { status, out } = await quote('ecc', {
      message: path('ecc.msg2'),
      signature: path('ecc.sig2'),
      pcrs: path('ecc.values'),
      'event-log': path('log'),
    })
    const verdict = JSON.parse(out)
    expect(verdict.findings.filter((finding: { ok: boolean }) => !finding.ok)).toEqual([])
    expect(status).toBe(0)
    expect(verdict.pcrs).toHaveLength(10)
    expect(verdict.quote.selections).toEqual([
      { bank: 'sha256', pcrs: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] },
    ])
  })

  test.each([
    ['another nonce', { nonce: '00' }, 'QUOTE_NONCE'],
    ['the signature of another quote', { signature: 'ecc.sig2' }, 'QUOTE_SIGNATURE'],
    ['another key', { ak: 'rsa.pub' }, 'QUOTE_SCHEME'],
    ['another key without a scheme', { ak: 'other.pem' }, 'QUOTE_SIGNATURE'],
    ['PCRs that it does not cover', { pcrs: 'rsa.pcrs' }, 'QUOTE_SELECTION'],
    ['other values', { pcrs: 'flipped.pcrs' }, 'QUOTE_PCR_DIGEST'],
    ['a log of another boot', { 'event-log': 'other.log' }, 'EVENTLOG_REPLAY'],
    ['octets that no TPM signed', { message: 'log' }, 'QUOTE_MAGIC'],
  ])('refuses with status 3: %s', async (_, change, code) => {
    const other = createPublicKey(readFileSync(path('ecc.pem')))
    expect(other.asymmetricKeyType).toBe('ec')
    const { generateKeyPairSync } = await import('node:crypto')
    const strange = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey
    writeFileSync(path('other.pem'), strange.export({ type: 'spki', format: 'pem' }))
    const flipped = readFileSync(path('ecc.pcrs'))
    flipped[150] = (flipped[150] ?? 0) ^ 1
    writeFileSync(path('flipped.pcrs'), flipped)
    const { withOtherBootLoader } = await import('../../../swtpm/index.js')
    writeFileSync(
      path('other.log'),
      withOtherBootLoader(GOOD_BOOT, 'grubx64.efi', Buffer.from('x')),
    )
    const files = Object.fromEntries(
      Object.entries(change).map(([flag, value]) => [flag, flag === 'nonce' ? value : path(value)]),
    )
    const { status, out } = await quote('ecc', files)
    expect(out).toContain(`"${code}"`)
    expect(JSON.parse(out).accepted).toBe(false)
    expect(status).toBe(3)
  })

  test.each([
    ['an empty file', { message: 'empty' }, 1, 'DECODE_TRUNCATED'],
    ['a file that is not there', { message: 'nothing' }, 1, 'ENOENT'],
    ['a key that is none', { ak: 'log' }, 1, 'DECODE_'],
    ['an empty file, by its name', { signature: 'empty' }, 1, 'signature: '],
    ['a folder', { message: '' }, 1, 'EISDIR'],
    ['a file that never ends', { message: '/dev/zero' }, 1, 'DECODE_TOO_LARGE'],
    ['half a file of values', { pcrs: 'half.pcrs' }, 1, 'PCR values: '],
    ['a log that is none', { 'event-log': 'ecc.pcrs' }, 1, 'event log: '],
    ['a nonce that is no hexadecimal', { nonce: 'xyz' }, 2, 'hexadecimal'],
    ['a nonce of half an octet', { nonce: '012' }, 2, 'hexadecimal'],
    ['a nonce of nothing', { nonce: '' }, 2, 'hexadecimal'],
    ['a nonce that no quote could carry', { nonce: '00'.repeat(65) }, 2, '64 octets'],
  ])('says that it cannot read: %s', async (_, change, status, words) => {
    const files = Object.fromEntries(
      Object.entries(change).map(([flag, value]) => [flag, flag === 'nonce' ? value : path(value)]),
    )
    writeFileSync(path('half.pcrs'), readFileSync(path('ecc.pcrs')).subarray(0, 300))
    const outcome = await quote('ecc', files)
    expect(outcome.err).toContain(words)
    expect(outcome.status).toBe(status)
  })

  test('says how it is used when something is left out', async () => {
    const { status, err } = await sigillo('verify', 'quote', '--nonce', '00')
    expect([status, err]).toEqual([2, expect.stringContaining('--message')])
  })
})

describe('sigillo eventlog show', () => {
  test('prints every event, with what its digest proves', async () => {
    const { out, status } = await sigillo('eventlog', 'show', path('log'), '--json')
    expect(status).toBe(0)
    const shown = JSON.parse(out)
    expect(shown.boot).toMatchObject({ secureBoot: 'on', kernel: '/vmlinuz' })
    expect(shown.events.length).toBeGreaterThan(30)
    const kinds = new Set(
      shown.events.map((event: { coverage: { kind: string } }) => event.coverage.kind),
    )
    expect([...kinds]).toEqual(expect.arrayContaining(['data', 'described', 'part']))
    const text = await sigillo('eventlog', 'show', path('log'), '--bank', 'sha256')
    expect(text.out).toMatch(/EV_EFI_VARIABLE_DRIVER_CONFIG.*SecureBoot/)
    expect((await sigillo('eventlog', 'show', path('log'), '--bank', 'md5')).status).toBe(2)
    expect((await sigillo('eventlog', 'show', path('empty'))).status).toBe(1)
  })
})

describe('sigillo ima replay', () => {
  test('prints the value that PCR 10 of a real machine had', async () => {
    const variant = '04-shim-grub-sb-on-mskeys'
    writeFileSync(path('ima'), measuredBoot(variant, 'binary_runtime_measurements'))
    const { out, status } = await sigillo('ima', 'replay', path('ima'), '--json')
    expect(status).toBe(0)
    const expected = Buffer.from(measuredPcrs(variant).get(10) ?? []).toString('hex')
    expect(JSON.parse(out).pcr10).toContainEqual({
      bank: 'sha256',
      extension: 'own-digest',
      digest: expected,
    })
    const bad = await sigillo('ima', 'replay', path('log'))
    expect([bad.status, bad.err]).toEqual([1, expect.stringMatching(/IMALOG_|DECODE_/)])
  })

  test('is checked with a quote of the same machine', async () => {
    const variant = '04-shim-grub-sb-on-mskeys'
    for (const name of [
      'quote.msg',
      'quote.sig',
      'binary_bios_measurements',
      'binary_runtime_measurements',
      'pcrs.sha256.bin',
      'ak.tpmt.pub',
    ]) {
      writeFileSync(path(name), measuredBoot(variant, name))
    }
    const args = [
      '--message',
      path('quote.msg'),
      '--signature',
      path('quote.sig'),
      '--ak',
      path('ak.tpmt.pub'),
      '--nonce',
      MEASURED_BOOT_NONCE,
    ]
    const first = await sigillo('verify', 'quote', ...args, '--json')
    const [selection] = JSON.parse(first.out).quote.selections as { bank: string; pcrs: number[] }[]
    const all = readFileSync(path('pcrs.sha256.bin'))
    writeFileSync(
      path('values'),
      Buffer.concat((selection?.pcrs ?? []).map((pcr) => all.subarray(pcr * 32, pcr * 32 + 32))),
    )
    const withLists = await sigillo(
      'verify',
      'quote',
      ...args,
      '--pcrs',
      path('values'),
      '--ima-log',
      path('binary_runtime_measurements'),
      '--event-log',
      path('binary_bios_measurements'),
      '--json',
    )
    const { findings } = JSON.parse(withLists.out) as { findings: { check: string; ok: boolean }[] }
    const expected = selection?.pcrs.includes(10)
    expect(findings.find(({ check }) => check === 'ima.replay')?.ok).toBe(expected)
    expect(withLists.status).toBe(expected ? 0 : 3)
  })
})

describe('sigillo eventlog replay', () => {
  test('prints the values that the TPM has', async () => {
    const { out, status } = await sigillo('eventlog', 'replay', path('log'), '--json')
    expect(status).toBe(0)
    const { banks } = JSON.parse(out) as {
      banks: { bank: string; pcrs: { pcr: number; digest: string }[] }[]
    }
    const ofBank = banks.find(({ bank }) => bank === 'sha256')
    await tpm2('pcrread', ['sha256:0,1,2,3,4,5,6,7', '-o', path('now')], tpm.tcti)
    const now = readFileSync(path('now')).toString('hex')
    expect(
      ofBank?.pcrs
        .slice(0, 8)
        .map(({ digest }) => digest)
        .join(''),
    ).toBe(now)
  })
})

describe('sigillo ek verify', () => {
  test('accepts the certificate of a TPM below its roots, and refuses it below others', async () => {
    await tpm2('nvread', ['0x01c00016', '-o', path('ek.der')], tpm.tcti)
    writeFileSync(path('roots.pem'), lab.anchorsPem)
    const good = await sigillo(
      'ek',
      'verify',
      path('ek.der'),
      '--roots',
      path('roots.pem'),
      '--json',
    )
    expect(good).toMatchObject({ status: 0, err: '' })
    expect(JSON.parse(good.out)).toMatchObject({
      accepted: true,
      tpm: { manufacturer: 'id:00001014' },
    })
    await using elsewhere = await createLab()
    writeFileSync(path('others.pem'), elsewhere.anchorsPem)
    const bad = await sigillo('ek', 'verify', path('ek.der'), '--roots', path('others.pem'))
    expect([bad.status, bad.out]).toEqual([3, expect.stringContaining('EK_CERT_UNKNOWN_CA')])
    const none = await sigillo('ek', 'verify', path('log'), '--roots', path('roots.pem'))
    expect([none.status, none.err]).toEqual([1, expect.stringContaining('CERT_UNREADABLE')])
  })
})

test('the key that a tool wrote is the key that is read', () => {
  const area = parsePublicArea(new Uint8Array(readFileSync(path('ecc.tpmt'))))
  const pem = createPublicKey(readFileSync(path('ecc.pem')))
  expect(publicKeyOf(area).equals(pem)).toBe(true)
})
