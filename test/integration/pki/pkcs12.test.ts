import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { utf8 } from '../../../src/core/bytes.js'
import { randomOctets } from '../../../src/core/random.js'
import { Secret } from '../../../src/core/secret.js'
import { openPkcs12, sealPkcs12 } from '../../../src/pki/index.js'

const PASSPHRASE = 'Größe: 42 correct horses'
const KEY = Uint8Array.from({ length: 32 }, (_, index) => index)

let folder: string
let file: Uint8Array
let path: string

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sgl-p12-'))
  path = join(folder, 'backup.p12')
  file = await sealPkcs12({
    passphrase: new Secret(utf8(PASSPHRASE)),
    secrets: [
      { name: 'description', octets: new Secret(utf8('{"a":1}')) },
      { name: 'key 1', octets: new Secret(Uint8Array.from(KEY)) },
    ],
    random: randomOctets,
  })
  writeFileSync(path, file)
})
afterAll(() => rmSync(folder, { recursive: true }))

const open = (octets: Uint8Array, passphrase = PASSPHRASE) =>
  openPkcs12(octets, new Secret(utf8(passphrase)))

/** Debian’s openssl, with the passphrase in the environment. */
const openssl = (...args: readonly string[]) =>
  execFileSync('sh', ['-c', 'exec openssl "$@" 2>&1', 'openssl', ...args], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8', PASS: PASSPHRASE },
  })

const changed = (at: number) => file.map((octet, index) => (index === at ? octet ^ 1 : octet))

describe('a PKCS#12 file of secrets', () => {
  test('gives back its secrets, in order and with their names', async () => {
    const [first, second] = await open(file)
    expect([first?.name, second?.name]).toEqual(['description', 'key 1'])
    expect(second?.octets.use((octets) => [...octets])).toEqual([...KEY])
  })

  test('is verified and shown by openssl, in strong algorithms alone', () => {
    const shown = openssl('pkcs12', '-in', path, '-passin', 'env:PASS', '-info', '-noout')
    expect(shown).toContain('MAC: sha256, Iteration 600000')
    expect(shown).toContain('PBES2, PBKDF2, AES-256-CBC, Iteration 600000, PRF hmacWithSHA256')
    const bags = openssl('pkcs12', '-in', path, '-passin', 'env:PASS', '-info', '-nodes')
    expect(bags).toContain('Secret bag')
    expect(bags).toContain('friendlyName: key 1')
    const hex = Buffer.from(KEY).toString('hex')
    expect(bags.replace(/[\s:]/g, '').toLowerCase()).toContain(hex)
    expect(openssl('asn1parse', '-inform', 'DER', '-in', path)).toContain('pkcs7-data')
  })

  test('is of DER that a strict reader accepts, and says nothing in the clear', () => {
    expect(Buffer.from(file).includes(Buffer.from(KEY))).toBe(false)
    expect(Buffer.from(file).includes('description')).toBe(false)
  })
})

describe('a PKCS#12 file is refused', () => {
  test('with another passphrase', async () => {
    await expect(open(file, 'another passphrase')).rejects.toMatchObject({
      code: 'PKCS12_PASSPHRASE',
    })
  })

  test('when its MAC or its salt was altered', async () => {
    await expect(open(changed(file.length - 8))).rejects.toMatchObject({ code: 'PKCS12_ALTERED' })
  })

  test('when a key in it was altered', async () => {
    // the second key is near the end of the ciphertext; its last block holds the padding
    const end = Buffer.from(file).lastIndexOf(Buffer.from([0x30, 0x31, 0x30, 0x0d]))
    await expect(open(changed(end - 60))).rejects.toMatchObject({
      code: expect.stringMatching(/^PKCS12_(ALTERED|PASSPHRASE)$/),
    })
  })

  test.each([0, 1, 10, 40, 200])('when only %i octets of it are there', async (length) => {
    await expect(open(file.subarray(0, length))).rejects.toMatchObject({
      code: 'PKCS12_UNREADABLE',
    })
  })

  test('when it is of older algorithms, or has keys and certificates', async () => {
    const key = join(folder, 'k.pem')
    const other = join(folder, 'other.p12')
    openssl(
      'req',
      '-x509',
      '-newkey',
      'ed25519',
      '-nodes',
      '-keyout',
      key,
      '-out',
      `${key}.crt`,
      '-subj',
      '/CN=x',
    )
    openssl(
      'pkcs12',
      '-export',
      '-inkey',
      key,
      '-in',
      `${key}.crt`,
      '-out',
      other,
      '-passout',
      'env:PASS',
    )
    const { readFileSync } = await import('node:fs')
    await expect(open(new Uint8Array(readFileSync(other)))).rejects.toMatchObject({
      code: expect.stringMatching(/^PKCS12_(ALGORITHM|UNREADABLE)$/),
    })
  })
})
