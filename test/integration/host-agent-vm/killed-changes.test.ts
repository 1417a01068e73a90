import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { changeAndDie } from './killed.js'
import {
  createTestHost,
  directoriesOf,
  findKeys,
  plainDigest,
  processesNaming,
  type TestHost,
} from './support.js'

const MIB = 1024 * 1024
const IS_SLOW = process.env['SLOW'] === '1'
const BEFORE = ['keys', 'format', 'copy', 'verify', 'commit']
const AFTER = ['place', 'erase']
const PLAIN_FILES = ['disk-root.raw', 'home.json', 'keys.json', 'nvram.fd', 'vm.json']
const ENCRYPTED_FILES = ['disk-root.luks', 'home.enc', 'keys.json', 'nvram.luks', 'vm.json']
const MIXED_FILES = ['disk-root.raw', 'home.enc', 'keys.json', 'nvram.luks', 'vm.json']

let host: TestHost
let files: string
let folder: string
let digest: string

beforeAll(async () => {
  host = await createTestHost()
  await host.vms.recover()
  files = await mkdtemp(join(tmpdir(), 'sigillo-images-'))
  const image = join(files, 'image.raw')
  const content = randomBytes(64 * MIB)
  digest = createHash('sha256').update(content).digest('hex')
  await writeFile(image, content)
  const { vmId } = await host.vms.create({ name: 'vm', disks: [{ name: 'root', from: image }] })
  folder = `${host.directory}/${vmId}`
})

afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await rm(files, { recursive: true })
})

/** Kills an agent at a step, lets the next one recover, and tells which files the VM has then. */
async function filesAfterKill(
  operation: 'encrypt' | 'decrypt' | 'recrypt',
  step: string,
): Promise<readonly string[]> {
  await changeAndDie(host, operation, 'vm', step)
  await expect.poll(() => processesNaming(host.directory), { timeout: 2000 }).toEqual([])
  expect(await findKeys(host.keys.seen, host.directory)).toEqual([])
  await using next = host.restart()
  await next.recover()
  expect(processesNaming(host.directory)).toEqual([])
  expect(await directoriesOf(host)).toHaveLength(1)
  return (await readdir(folder)).sort()
}

async function digestNow(): Promise<string> {
  const raw = await readFile(`${folder}/disk-root.raw`).catch(() => undefined)
  return raw
    ? createHash('sha256').update(raw).digest('hex')
    : await plainDigest(host, 'vm', 'root')
}

async function generations(): Promise<readonly string[]> {
  const keys = await host.vms.listKeys()
  return keys.map(({ object, version }) => `${object} ${version}`).sort()
}

describe('an agent that is killed while it encrypts a VM', () => {
  test.each(IS_SLOW ? ['home: keys', 'home: nvram', 'home: commit'] : ['home: commit'])(
    'at the step %s leaves it plain',
    async (step) => {
      expect(await filesAfterKill('encrypt', step)).toEqual(PLAIN_FILES)
      expect(await digestNow()).toBe(digest)
    },
  )

  test.each(IS_SLOW ? AFTER : ['place'])(
    'at the step home: %s has encrypted its home when it recovers',
    async (step) => {
      await host.vms.decrypt('vm', {}).catch(() => undefined)
      expect(await filesAfterKill('encrypt', `home: ${step}`)).toEqual(MIXED_FILES)
      expect(await digestNow()).toBe(digest)
    },
  )

  test.each(IS_SLOW ? [...BEFORE, 'half'] : ['half'])(
    'at the step root: %s leaves the disk plain',
    async (step) => {
      const at = step === 'half' ? 'half of root: copy' : `root: ${step}`
      expect(await filesAfterKill('encrypt', at)).toEqual(MIXED_FILES)
      expect(await digestNow()).toBe(digest)
    },
  )

  test.each(IS_SLOW ? AFTER : ['place'])(
    'at the step root: %s has encrypted the disk when it recovers',
    async (step) => {
      if (!(await readdir(folder)).includes('disk-root.raw')) {
        await host.vms.decrypt('vm', { disks: ['root'] })
      }
      expect(await filesAfterKill('encrypt', `root: ${step}`)).toEqual(ENCRYPTED_FILES)
      expect(await digestNow()).toBe(digest)
    },
  )
})

describe('an agent that is killed while it gives a disk new keys', () => {
  test.each(IS_SLOW ? [...BEFORE, 'half'] : ['verify'])(
    'at the step root: %s leaves the old ones, which open it',
    async (step) => {
      const before = (await generations()).find((one) => one.startsWith('disk-root'))
      const at = step === 'half' ? 'half of root: copy' : `root: ${step}`
      expect(await filesAfterKill('recrypt', at)).toEqual(ENCRYPTED_FILES)
      expect(await generations()).toContain(before)
      expect(await digestNow()).toBe(digest)
    },
  )

  test.each(IS_SLOW ? AFTER : ['place'])(
    'at the step root: %s has given them when it recovers',
    async (step) => {
      const before = await generations()
      expect(await filesAfterKill('recrypt', `root: ${step}`)).toEqual(ENCRYPTED_FILES)
      expect(await generations()).not.toEqual(before)
      expect(await digestNow()).toBe(digest)
    },
  )
})

describe('an agent that is killed while it decrypts a VM', () => {
  test.each(IS_SLOW ? [...BEFORE, 'half'] : ['commit'])(
    'at the step root: %s leaves the disk encrypted',
    async (step) => {
      const at = step === 'half' ? 'half of root: copy' : `root: ${step}`
      expect(await filesAfterKill('decrypt', at)).toEqual(ENCRYPTED_FILES)
      expect(await digestNow()).toBe(digest)
    },
  )

  test.runIf(IS_SLOW)(
    'at the step root: place has decrypted the disk when it recovers',
    async () => {
      expect(await filesAfterKill('decrypt', 'root: place')).toEqual(MIXED_FILES)
      expect(await digestNow()).toBe(digest)
    },
  )

  test('at the step home: place has decrypted all when it recovers, and has no key left', async () => {
    expect(await filesAfterKill('decrypt', 'home: place')).toEqual(PLAIN_FILES)
    expect(await host.vms.listKeys()).toEqual([])
    expect(await digestNow()).toBe(digest)
  })
})

test('the next operation completes what was left, without recovery', async () => {
  await changeAndDie(host, 'encrypt', 'vm', 'home: place')
  await using next = host.restart()
  await next.encrypt('vm', {})
  expect((await readdir(folder)).sort()).toEqual(ENCRYPTED_FILES)
  expect(await digestNow()).toBe(digest)
})
