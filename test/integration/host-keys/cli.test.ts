import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openTestSite, type TestSite } from '../../helpers/site.js'
import { sigillo } from '../cli/sigillo.js'

let site: TestSite
let folder: string
let pass: readonly string[]

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sgl-native-'))
  writeFileSync(join(folder, 'pass'), 'three blind locksmiths\n', { mode: 0o600 })
  writeFileSync(join(folder, 'wrong'), 'three other locksmiths\n', { mode: 0o600 })
  pass = ['--passphrase-file', join(folder, 'pass')]
  site = await openTestSite({ services: ['attestation', 'control-plane'] })
  await onSite('cluster', 'create', 'lab')
})
afterAll(async () => {
  await site[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

const onSite = (...args: readonly string[]) => sigillo(...args, '--site', site.folder)

test('a native key provider is made, backed up, deleted and restored by commands alone', async () => {
  const out = join(folder, 'silver.p12')
  const made = await onSite('native', 'create', 'silver', '--cluster', 'lab')
  expect(made).toMatchObject({ status: 0, err: '' })
  expect(made.out).toContain('sigillo native backup silver')

  const written = await onSite('native', 'backup', 'silver', '--out', out, ...pass)
  expect(written).toMatchObject({ status: 0, err: '' })
  expect(statSync(out).mode & 0o777).toBe(0o600)
  const shown = execFileSync(
    'openssl',
    ['pkcs12', '-in', out, '-passin', `file:${join(folder, 'pass')}`, '-info'],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] },
  )
  expect(shown).toContain('friendlyName: version 1')

  const again = await onSite('native', 'backup', 'silver', '--out', out, ...pass)
  expect(again).toMatchObject({ status: 1, err: expect.stringContaining('(CONFLICT)') })

  const listed = await onSite('native', 'list', '--json')
  expect(JSON.parse(listed.out)).toMatchObject({
    providers: [{ name: 'silver', current: 1, backup: { state: 'done' } }],
  })
  const remove = ['native', 'delete', 'silver', '--reason', 'moved']
  expect(await onSite(...remove)).toMatchObject({ status: 1, err: expect.stringMatching(/--yes/) })
  expect(await onSite(...remove, '--yes')).toMatchObject({ status: 0, out: 'deleted\n' })

  const wrong = ['--passphrase-file', join(folder, 'wrong')]
  const refused = await onSite('native', 'restore', out, '--cluster', 'lab', ...wrong)
  expect(refused).toMatchObject({ status: 1, err: expect.stringContaining('PKCS12_PASSPHRASE') })
  const restored = await onSite('native', 'restore', out, '--cluster', 'lab', ...pass, '--json')
  expect(JSON.parse(restored.out)).toMatchObject({ name: 'silver', keys: 1, current: 1 })
  const hosts = await onSite('native', 'hosts', 'silver')
  expect(hosts).toMatchObject({ status: 0, out: expect.stringContaining('STATE') })
})

test('a passphrase is in a file that is the owner’s alone, and is no short one', async () => {
  await onSite('native', 'create', 'tin', '--cluster', 'lab')
  const open = join(folder, 'open')
  writeFileSync(open, 'three blind locksmiths', { mode: 0o644 })
  const backup = (file: string) =>
    onSite('native', 'backup', 'tin', '--out', join(folder, 'tin.p12'), '--passphrase-file', file)
  expect(await backup(open)).toMatchObject({ status: 1, err: expect.stringMatching(/FILE_MODE/) })
  const short = join(folder, 'short')
  writeFileSync(short, 'tooshort', { mode: 0o600 })
  expect(await backup(short)).toMatchObject({
    status: 1,
    err: expect.stringMatching(/REQUEST_INVALID/),
  })
})

test('a standard key provider is not made of servers that do not answer', async () => {
  const none = await onSite('standard', 'create', 'depot', '--cluster', 'lab')
  expect(none).toMatchObject({ status: 1, err: expect.stringMatching(/expected --server/) })
  expect(await onSite('standard', 'list')).toMatchObject({ status: 0 })
  expect(await onSite('standard', 'test', 'depot')).toMatchObject({
    status: 1,
    err: expect.stringMatching(/NOT_FOUND/),
  })
})
