import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { concat, fromHex, utf8 } from '../../../src/core/bytes.js'
import { ByteWriter } from '../../../src/core/reader.js'
import { decodeEvent, type EventTypeName } from '../../../src/eventlog/index.js'
import { imageHashesOf, parseSignatureLists } from '../../../src/eventlog/signature-list.js'
import { buildLog, hashList, IMAGE_SECURITY, variableData } from './build-log.js'

const SHIM = fromHex('50ab5d6046e00043abb63dd810dd8b23')
const MICROSOFT = fromHex('bd9afa775903324dbd6028f4e78f784b')
const SHA256 = fromHex('2616c4c14c509240aca941f936934328')
const X509 = fromHex('a159c0a5e494a74a87b5ab155c2bf072')
const X509_SHA256 = fromHex('92a4d23bc0967940b420fcf98ef103ed')

const CERTIFICATE = '../../vectors/measured-boot/ca/secureboot-snakeoil-cert.pem'

function certificateDer(): Uint8Array {
  const pem = readFileSync(join(import.meta.dirname, CERTIFICATE), 'utf8')
  return new Uint8Array(Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64'))
}

function meaningOf(
  name: string,
  value: Uint8Array,
  guid?: Uint8Array,
  type: EventTypeName = 'EV_EFI_VARIABLE_DRIVER_CONFIG',
) {
  const [event] = buildLog([{ pcr: 7, type, data: variableData(name, value, guid) }]).events
  const content = event && decodeEvent(event)
  if (content?.kind !== 'variable') throw new TypeError('a variable')
  return content.meaning
}

interface Sizes {
  readonly list?: number
  readonly header?: number
  readonly entry?: number
}

/** An EFI_SIGNATURE_LIST with the sizes that it says, whatever it has. */
function list(type: Uint8Array, body: Uint8Array, { list, header, entry }: Sizes = {}): Uint8Array {
  return new ByteWriter('little')
    .put(type)
    .u32(list ?? 28 + body.length)
    .u32(header ?? 0)
    .u32(entry ?? body.length)
    .put(body)
    .finish()
}

const entry = (data: Uint8Array) => concat(MICROSOFT, data)
const hash = (octet: number) => new Uint8Array(32).fill(octet)

describe('signature lists', () => {
  test('have hashes of images', () => {
    const lists = parseSignatureLists(hashList([hash(1), hash(2)]))
    expect(imageHashesOf(lists)).toEqual(['01'.repeat(32), '02'.repeat(32)])
    expect(meaningOf('dbx', hashList([hash(1)]), IMAGE_SECURITY)).toEqual({
      kind: 'signature-lists',
      lists: [
        {
          type: 'EFI_CERT_SHA256',
          signatures: [
            {
              owner: '00000000-0000-0000-0000-000000000000',
              hash: '01'.repeat(32),
              of: 'image',
            },
          ],
        },
      ],
    })
  })

  test('have certificates, with their names', () => {
    const der = certificateDer()
    const meaning = meaningOf('db', list(X509, entry(der)), IMAGE_SECURITY)
    expect(meaning).toMatchObject({
      kind: 'signature-lists',
      lists: [
        {
          type: 'EFI_CERT_X509',
          signatures: [
            {
              owner: '77fa9abd-0359-4d32-bd60-28f4e78f784b',
              certificate: {
                octets: der.length,
                fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/),
                subject: 'C=US, ST=Colorado, L=Fort Collins, O=SnakeOil',
              },
            },
          ],
        },
      ],
    })
  })

  test('have hashes of certificates, with the time of their revocation', () => {
    const revoked = list(X509_SHA256, entry(concat(hash(3), new Uint8Array(16))))
    expect(meaningOf('dbx', revoked, IMAGE_SECURITY)).toMatchObject({
      lists: [{ signatures: [{ hash: '03'.repeat(32), of: 'certificate' }] }],
    })
    expect(imageHashesOf(parseSignatureLists(revoked))).toEqual([])
  })

  test('show a certificate that cannot be read by its fingerprint', () => {
    const meaning = meaningOf('db', list(X509, entry(new Uint8Array(200))), IMAGE_SECURITY)
    expect(meaning).toMatchObject({
      lists: [{ signatures: [{ certificate: { octets: 200, fingerprint: expect.any(String) } }] }],
    })
    expect(JSON.stringify(meaning)).not.toContain('subject')
  })

  test('are shown up to 1024 entries, and counted beyond', () => {
    const lists = concat(
      hashList(Array.from({ length: 1000 }, () => hash(1))),
      hashList(Array.from({ length: 100 }, () => hash(2))),
    )
    const meaning = meaningOf('dbx', lists, IMAGE_SECURITY)
    if (meaning.kind !== 'signature-lists') throw new TypeError('signature lists')
    expect(meaning.lists.map(({ signatures }) => signatures.length)).toEqual([1000, 24])
    expect(meaning.lists.map(({ omitted }) => omitted)).toEqual([undefined, 76])
    expect(imageHashesOf(parseSignatureLists(lists))).toHaveLength(1100)
  })

  test('of unknown types are kept as counts', () => {
    const meaning = meaningOf(
      'db',
      list(new Uint8Array(16), entry(Uint8Array.of(1, 2))),
      IMAGE_SECURITY,
    )
    expect(meaning).toMatchObject({ lists: [{ signatures: [{ octets: 2 }] }] })
  })

  test('have their own header passed over, and never taken for a hash', () => {
    const body = concat(new Uint8Array(48).fill(0xee), entry(hash(1)))
    const lists = parseSignatureLists(list(SHA256, body, { header: 48, entry: 48 }))
    expect(imageHashesOf(lists)).toEqual(['01'.repeat(32)])
  })

  const body = entry(hash(1))

  test.each([
    ['a list shorter than its own header', list(SHA256, body, { list: 27 }), 'DECODE_VALUE'],
    ['a list of no octets', list(SHA256, body, { list: 0 }), 'DECODE_VALUE'],
    ['a header longer than the list', list(SHA256, body, { header: 49 }), 'DECODE_VALUE'],
    ['a header of 2^32 - 1', list(SHA256, body, { header: 0xffff_ffff }), 'DECODE_VALUE'],
    ['entries of no octets', list(SHA256, body, { entry: 0 }), 'DECODE_VALUE'],
    ['entries that are an owner alone', list(SHA256, body, { entry: 16 }), 'DECODE_VALUE'],
    ['entries that are not whole', list(X509, body, { entry: 47 }), 'DECODE_VALUE'],
    ['hashes of another size', list(SHA256, body, { entry: 24 }), 'DECODE_VALUE'],
    ['a list longer than the value', list(SHA256, body, { list: 100 }), 'DECODE_TRUNCATED'],
    ['a list of 2^32 - 1', list(SHA256, body, { list: 0xffff_ffff }), 'DECODE_TRUNCATED'],
    [
      'octets behind the last list',
      concat(list(SHA256, body), Uint8Array.of(1)),
      'DECODE_TRUNCATED',
    ],
    ['10 001 entries', hashList(Array.from({ length: 10_001 }, () => hash(1))), 'DECODE_VALUE'],
  ] as const)('are refused with %s', (_, value, code) => {
    expect(() => parseSignatureLists(value)).toThrow(expect.objectContaining({ code }))
  })

  test('are refused with too many entries in many lists, and with too many lists', () => {
    const half = hashList(Array.from({ length: 5_001 }, () => hash(1)))
    const empty = Array.from({ length: 1025 }, () => hashList([]))
    for (const lists of [concat(half, half), concat(...empty)]) {
      expect(() => parseSignatureLists(lists)).toThrow(
        expect.objectContaining({ code: 'DECODE_TOO_LARGE' }),
      )
    }
    expect(parseSignatureLists(concat(...empty.slice(1)))).toHaveLength(1024)
  })

  test('that cannot be read leave the variable readable', () => {
    expect(meaningOf('db', Uint8Array.of(1, 2, 3), IMAGE_SECURITY)).toEqual({
      kind: 'unreadable',
      code: 'DECODE_TRUNCATED',
    })
  })
})

describe('an authority', () => {
  const authorityOf = (value: Uint8Array, name = 'db', guid: Uint8Array = IMAGE_SECURITY) =>
    meaningOf(name, value, guid, 'EV_EFI_VARIABLE_AUTHORITY')

  test('is an owner and a certificate, or a certificate alone as old shims log it', () => {
    const der = certificateDer()
    const certificate = expect.objectContaining({ octets: der.length })
    expect(authorityOf(entry(der))).toEqual({
      kind: 'authority',
      signature: { owner: '77fa9abd-0359-4d32-bd60-28f4e78f784b', certificate },
    })
    expect(authorityOf(der, 'Shim', SHIM)).toEqual({
      kind: 'authority',
      signature: { certificate },
    })
  })

  test('may be a hash, or anything else with an owner', () => {
    expect(authorityOf(entry(hash(7)))).toMatchObject({ signature: { hash: '07'.repeat(32) } })
    expect(authorityOf(entry(Uint8Array.of(1)))).toMatchObject({ signature: { octets: 1 } })
    expect(authorityOf(Uint8Array.of(1))).toMatchObject({ kind: 'unreadable' })
  })

  test('of shim may be a level or a flag', () => {
    expect(authorityOf(utf8('sbat,1,2021030218\n'), 'SbatLevel', SHIM)).toMatchObject({
      kind: 'sbat-level',
    })
    expect(authorityOf(Uint8Array.of(1), 'MokListTrusted', SHIM)).toEqual({
      kind: 'flag',
      set: true,
    })
  })
})

describe('variables', () => {
  test.each(['SecureBoot', 'SetupMode', 'AuditMode', 'DeployedMode'])('%s is a flag', (name) => {
    expect(meaningOf(name, Uint8Array.of(1))).toEqual({ kind: 'flag', set: true })
    expect(meaningOf(name, Uint8Array.of(0))).toEqual({ kind: 'flag', set: false })
    expect(meaningOf(name, new Uint8Array())).toEqual({ kind: 'empty' })
    expect(meaningOf(name, Uint8Array.of(2))).toEqual({ kind: 'unreadable', code: 'DECODE_VALUE' })
    expect(meaningOf(name, Uint8Array.of(1, 0))).toEqual({
      kind: 'unreadable',
      code: 'DECODE_TRAILING',
    })
  })

  test.each([
    ['PK', undefined],
    ['KEK', undefined],
    ...['db', 'dbx', 'dbt', 'dbr', 'vendor_db'].map((name) => [name, IMAGE_SECURITY] as const),
    ...['MokList', 'MokListX', 'MokListRT', 'MokListXRT'].map((name) => [name, SHIM] as const),
  ] as const)('%s has signature lists', (name, guid) => {
    expect(meaningOf(name, hashList([hash(1)]), guid)).toMatchObject({ kind: 'signature-lists' })
  })

  test('of another vendor are octets, whatever they are called', () => {
    for (const name of ['SecureBoot', 'PK', 'Boot0000', 'BootOrder', 'db']) {
      expect(meaningOf(name, Uint8Array.of(1), new Uint8Array(16))).toEqual({ kind: 'octets' })
    }
  })

  test('SbatLevel has components with their generations', () => {
    expect(
      meaningOf('SbatLevel', utf8('sbat,1,2025021800\nshim,4\ngrub.debian,5\n'), SHIM),
    ).toEqual({
      kind: 'sbat-level',
      entries: [
        { component: 'sbat', generation: 1, date: '2025021800' },
        { component: 'shim', generation: 4 },
        { component: 'grub.debian', generation: 5 },
      ],
    })
  })

  test.each([
    ['no text', Uint8Array.of(0xff), 'DECODE_ENCODING'],
    ['no generation', utf8('shim\n'), 'DECODE_VALUE'],
    ['a generation that is no number', utf8('shim,x\n'), 'DECODE_VALUE'],
    ['257 lines', utf8('shim,1\n'.repeat(257)), 'DECODE_TOO_LARGE'],
  ] as const)('SbatLevel with %s cannot be read', (_, value, code) => {
    expect(meaningOf('SbatLevel', value, SHIM)).toEqual({ kind: 'unreadable', code })
  })

  test('BootOrder names boot options', () => {
    expect(meaningOf('BootOrder', Uint8Array.of(1, 0, 0x0a, 0))).toEqual({
      kind: 'boot-order',
      options: ['Boot0001', 'Boot000A'],
    })
    for (const value of [Uint8Array.of(1, 0, 0), new Uint8Array(2050)]) {
      expect(meaningOf('BootOrder', value)).toEqual({ kind: 'unreadable', code: 'DECODE_VALUE' })
    }
  })

  const wide = (text: string) => new Uint8Array(Buffer.from(text, 'utf16le'))
  const file = concat(Uint8Array.of(4, 4, 14, 0), wide('\\a.b\0'), Uint8Array.of(0x7f, 0xff, 4, 0))
  const option = (description: Uint8Array, pathOctets = file.length) =>
    new ByteWriter('little')
      .u32(9)
      .u16(pathOctets)
      .put(description)
      .put(file)
      .put(utf8('args'))
      .finish()

  test.each(['Boot0000', 'Boot00AF', 'Driver0001', 'SysPrep0002', 'PlatformRecovery0000'])(
    '%s is a load option',
    (name) => {
      expect(meaningOf(name, option(wide('Linux\0')))).toEqual({
        kind: 'load-option',
        option: {
          description: 'Linux',
          devicePath: '\\a.b',
          active: true,
          hidden: true,
          attributes: 9,
          optionalOctets: 4,
        },
      })
    },
  )

  test('load options without an end of their description, or longer than they are, cannot be read', () => {
    expect(meaningOf('Boot0000', option(wide('Linux\0'), 0xffff))).toMatchObject({
      kind: 'unreadable',
      code: 'DECODE_TRUNCATED',
    })
    const endless = new ByteWriter('little').u32(1).u16(0).put(utf8('abc')).finish()
    expect(meaningOf('Boot0000', endless)).toMatchObject({ code: 'DECODE_VALUE' })
  })

  test('say that octets follow their value', () => {
    const data = concat(variableData('SecureBoot', Uint8Array.of(1)), new Uint8Array(6))
    const [event] = buildLog([{ pcr: 7, type: 'EV_EFI_VARIABLE_DRIVER_CONFIG', data }]).events
    expect(event && decodeEvent(event)).toMatchObject({ name: 'SecureBoot', trailingOctets: 6 })
  })

  test('with lengths beyond the data are opaque', () => {
    const header = new ByteWriter('little').put(new Uint8Array(16))
    const data = header.u64(0xffff_ffff_ffff_ffffn).u64(1n).put(new Uint8Array(8)).finish()
    const [event] = buildLog([{ pcr: 7, type: 'EV_EFI_VARIABLE_AUTHORITY', data }]).events
    expect(event && decodeEvent(event)).toEqual({ kind: 'opaque' })
  })
})
