import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sigillo } from '../cli/sigillo.js'
import { openSealSite, type SealSite } from './support.js'

let site: SealSite
let folder: string
beforeAll(async () => {
  site = await openSealSite(['key-provider'])
  folder = mkdtempSync(join(tmpdir(), 'sgl-shares-'))
})
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true })
  await site[Symbol.asyncDispose]()
})

const operator = (...args: readonly string[]) => sigillo('operator', ...args, '--site', site.folder)

describe('sigillo operator', () => {
  test('shows the services that are there, with their seals', async () => {
    const { status, out, err } = await operator('status')
    expect({ status, err }).toEqual({ status: 0, err: '' })
    expect(out).toMatch(/service: +key-provider\nstate: +ok\nroot key: +generation 1\n/)
    expect(out).toMatch(/ seal +passphrase +[0-9a-f-]{36}/)
    expect(out).not.toContain('attestation')
  })

  test('writes shares to files for the owner alone, and shows none of them', async () => {
    const made = await operator(
      'init-shares',
      '--threshold',
      '2',
      '--count',
      '3',
      '--folder',
      folder,
    )
    expect(made).toMatchObject({ status: 0, err: '' })
    expect(made.out).not.toContain('sgl-share-')
    const files = readdirSync(folder)
    expect(files).toEqual([1, 2, 3].map((index) => `key-provider-share-${index}.txt`))
    for (const file of files) {
      expect(statSync(join(folder, file)).mode & 0o777).toBe(0o600)
      expect(readFileSync(join(folder, file), 'utf8')).toMatch(/^sgl-share(-[a-z2-7]{6}){12}\n$/)
    }
  })

  test('seals only when it is told twice, and unseals from a file', async () => {
    expect(await operator('seal')).toMatchObject({
      status: 1,
      err: expect.stringContaining('say --yes'),
    })
    expect((await operator('seal', '--yes')).out).toMatch(/state: +sealed/)
    const file = join(folder, 'wrong')
    writeFileSync(file, 'not the passphrase', { mode: 0o600 })
    expect(await operator('unseal', '--passphrase-file', file)).toMatchObject({
      status: 1,
      err: expect.stringContaining('(ROOT_KEY_UNSEAL)'),
    })
    site.clock.advance(1_100)
    const share = join(folder, 'key-provider-share-2.txt')
    const given = await operator('unseal', '--service', 'key-provider', '--share-file', share)
    expect(given.out).toMatch(/shares: +1 of 2, set [0-9a-f]{10}/)
    const right = join(site.folder, 'passphrase')
    const opened = await operator('unseal', '--passphrase-file', right, '--json')
    expect(JSON.parse(opened.out)).toMatchObject([{ service: 'key-provider', state: 'ok' }])
  })

  test('asks for secrets on a terminal alone, and takes none as an argument', async () => {
    expect(await operator('unseal')).toMatchObject({
      status: 1,
      err: expect.stringContaining('expected a terminal or a file for the passphrase'),
    })
    expect(await operator('unseal', site.passphrase)).toMatchObject({ status: 2 })
  })

  test('replaces root keys, and says which service it does not know', async () => {
    const rotated = await operator('rotate-root', '--folder', folder, '--yes')
    expect(rotated.out).toMatch(/^key-provider: root key of generation 2, \d+ records sealed again/)
    // the files of the old shares are there: the new ones are shown rather than lost
    expect(rotated.out).toContain('sgl-share-')
    expect(await operator('status', '--service', 'other')).toMatchObject({
      status: 1,
      err: expect.stringContaining('expected attestation, key-provider, control-plane'),
    })
  })
})
