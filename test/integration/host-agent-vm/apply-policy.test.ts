import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { PlatformError } from '../../../src/core/errors.js'
import { applyPolicyAndDie } from './killed.js'
import { createTestHost, findKeys, plainDigest, processesNaming, type TestHost } from './support.js'

const IS_SLOW = process.env['SLOW'] === '1'
const MIB = 1024 * 1024
const PLAIN = { encrypted: false }
const ENCRYPTED = { encrypted: true }
const SILVER = { encrypted: true, provider: 'silver' }
const ALL_PLAIN = {
  home: PLAIN,
  disks: [
    { name: 'root', ...PLAIN },
    { name: 'data', ...PLAIN },
  ],
}

let host: TestHost
let files: string
let folder: string
const digests = new Map<string, string>()

beforeAll(async () => {
  files = await mkdtemp(join(tmpdir(), 'sigillo-images-'))
  for (const name of ['root', 'data', 'scratch']) {
    const content = randomBytes(3 * MIB)
    digests.set(name, createHash('sha256').update(content).digest('hex'))
    await writeFile(join(files, name), content)
  }
})
afterAll(() => rm(files, { recursive: true }))

/** A host with an encrypted VM that has two encrypted disks and a plain one. */
async function makeVm(): Promise<void> {
  host = await createTestHost()
  await host.vms.recover()
  const { vmId } = await host.vms.create({
    ...{ name: 'vm', provider: 'kp', memoryMib: 128, vtpm: false },
    disks: [
      { name: 'root', from: join(files, 'root') },
      { name: 'data', from: join(files, 'data') },
      { name: 'scratch', from: join(files, 'scratch'), plain: true },
    ],
  })
  folder = `${host.directory}/${vmId}`
}
const endHost = () => host[Symbol.asyncDispose]()

/** What each disk has, whether it is encrypted or not. */
async function contents(): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>()
  for (const { name, format } of (await host.vms.show('vm')).disks) {
    const digest =
      format === 'raw'
        ? createHash('sha256')
            .update(await readFile(`${folder}/disk-${name}.raw`))
            .digest('hex')
        : await plainDigest(host, 'vm', name)
    found.set(name, digest)
  }
  return found
}

/** The parts that were changed, in their order. */
function recordOrder() {
  const parts: string[] = []
  const onProgress = (step: string) => {
    const [part = ''] = step.split(':')
    if (part !== 'done' && parts.at(-1) !== part) parts.push(part)
  }
  return { parts, onProgress }
}

async function fileNames(): Promise<readonly string[]> {
  return (await readdir(folder)).filter((name) => /^(disk|home)/.test(name)).sort()
}

const PLAIN_FILES = ['disk-data.raw', 'disk-root.raw', 'disk-scratch.raw', 'home.json']

describe('by a change of policy', () => {
  beforeEach(makeVm)
  afterEach(endHost)

  test('a VM is decrypted: its disks first, its home last, with all that is on them', async () => {
    const { parts, onProgress } = recordOrder()
    const reports: string[] = []
    const report = host.inventory.report.bind(host.inventory)
    host.inventory.report = async (vm) => {
      const encrypted = vm.disks.filter((disk) => disk.encrypted).map(({ name }) => name)
      reports.push([vm.provider ?? 'plain', ...encrypted].join(' '))
      await report(vm)
    }
    const vm = await host.vms.applyPolicy('vm', ALL_PLAIN, { onProgress, compare: 'all' })
    expect(parts).toEqual(['root', 'data', 'home'])
    // first as it is: so a copy of a VM of another host is told from it
    expect(reports).toEqual(['kp root data', 'kp data', 'kp', 'plain'])
    expect(vm.provider).toBeUndefined()
    expect(await fileNames()).toEqual(PLAIN_FILES)
    expect(await contents()).toEqual(digests)
    expect(await host.vms.listKeys()).toEqual([])
  })

  test('it is encrypted again: its home first, under the default provider', async () => {
    await host.vms.applyPolicy('vm', ALL_PLAIN)
    const { parts, onProgress } = recordOrder()
    const disks = ['root', 'data', 'scratch'].map((name) => ({ name, ...ENCRYPTED }))
    const request = { home: ENCRYPTED, disks, defaultProvider: 'kp' }
    const vm = await host.vms.applyPolicy('vm', request, { onProgress })
    expect(parts).toEqual(['home', 'root', 'data', 'scratch'])
    expect(vm).toMatchObject({ provider: 'kp', disks: [{ format: 'luks1' }, {}, {}] })
    expect(await contents()).toEqual(digests)
    expect(await findKeys(host.keys.seen, host.directory)).toEqual([])
  })

  test('disks of one VM are encrypted and decrypted each as its policy asks', async () => {
    const disks = [
      { name: 'root', ...ENCRYPTED },
      { name: 'data', ...PLAIN },
      { name: 'scratch', ...ENCRYPTED },
    ]
    const vm = await host.vms.applyPolicy('vm', { home: ENCRYPTED, disks })
    expect(vm.disks.map(({ format }) => format)).toEqual(['luks1', 'raw', 'luks1'])
    expect(await contents()).toEqual(digests)
  })

  test('a VM comes under another key provider without its disks being copied', async () => {
    const root = await readFile(`${folder}/disk-root.luks`)
    const before = (await host.vms.listKeys()).map(({ object, version }) => `${object} ${version}`)
    const { parts, onProgress } = recordOrder()
    const vm = await host.vms.applyPolicy('vm', { home: SILVER }, { onProgress })
    expect(parts).toEqual(['provider'])
    expect(vm.provider).toBe('silver')
    const keys = await host.vms.listKeys()
    expect(keys.map(({ object, version }) => `${object} ${version}`)).toEqual(before)
    expect(new Set(keys.map(({ provider }) => provider))).toEqual(new Set(['silver']))
    expect((await readFile(`${folder}/disk-root.luks`)).equals(root)).toBe(true)
    expect(await host.vms.readDisk('vm', 'root', 0, 64)).toEqual(
      new Uint8Array((await readFile(join(files, 'root'))).subarray(0, 64)),
    )
    await host.vms.settleReleases()
    expect(host.keys.released).toHaveLength(3)
  })

  test('nothing is done to a VM that is as its policies ask, though it runs', async () => {
    await host.vms.start('vm')
    const vm = await host.vms.applyPolicy('vm', { home: ENCRYPTED })
    expect(vm.state).toBe('running')
  })
})

describe('a change of policy is refused', () => {
  beforeAll(makeVm)
  afterAll(endHost)

  test.each([
    ['for a plain home beside encrypted disks', { home: PLAIN }, 'VM_HOME_NEEDED'],
    [
      'for an encrypted disk without an encrypted home',
      {
        home: PLAIN,
        disks: [
          { name: 'root', ...PLAIN },
          { name: 'data', ...ENCRYPTED },
        ],
      },
      'VM_HOME_PLAIN',
    ],
    ['for a disk that is not there', { disks: [{ name: 'other', ...PLAIN }] }, 'VM_DISK_NOT_FOUND'],
    [
      'for a disk that is named twice',
      {
        disks: [
          { name: 'root', ...PLAIN },
          { name: 'root', ...ENCRYPTED },
        ],
      },
      'REQUEST_INVALID',
    ],
    [
      'for a plain part with a key provider',
      { disks: [{ name: 'root', encrypted: false, provider: 'kp' }] },
      'REQUEST_INVALID',
    ],
    [
      'for two key providers in a VM',
      { disks: [{ name: 'scratch', ...SILVER }] },
      'POLICY_PROVIDERS',
    ],
  ])('%s', async (_, request, code) => {
    await expect(host.vms.applyPolicy('vm', request)).rejects.toMatchObject({ code })
    expect(await contents()).toEqual(digests)
  })

  test('for a VM that runs', async () => {
    await host.vms.start('vm')
    await expect(host.vms.applyPolicy('vm', ALL_PLAIN)).rejects.toMatchObject({
      code: 'VM_RUNNING',
    })
    await host.vms.stop('vm', { graceSeconds: 0 })
  })

  test('for a VM with snapshots, until they are removed', async () => {
    await host.vms.createSnapshot('vm', { name: 'before' })
    await expect(host.vms.applyPolicy('vm', ALL_PLAIN)).rejects.toMatchObject({
      code: 'VM_SNAPSHOTS',
    })
    expect([...host.inventory.vms.values()].some(({ snapshots }) => snapshots === 1)).toBe(true)
    await host.vms.removeSnapshot('vm', 'before')
    expect([...host.inventory.vms.values()].every(({ snapshots }) => snapshots === 0)).toBe(true)
  })

  test('for a VM with a virtual TPM, whose home stays encrypted', async () => {
    await host.vms.create({ name: 'tpm', provider: 'kp', memoryMib: 128, disks: [] })
    const refused = host.vms.applyPolicy('tpm', { home: PLAIN })
    await expect(refused).rejects.toMatchObject({ code: 'VM_VTPM_NEEDS_HOME' })
    await host.vms.removeVtpm('tpm')
    await expect(host.vms.applyPolicy('tpm', { home: PLAIN })).resolves.toMatchObject({
      vtpm: false,
    })
  })

  test('before anything is changed, where the key of one part cannot be had: both are needed', async () => {
    const path = `${folder}/keys.json`
    const records = JSON.parse(await readFile(path, 'utf8'))
    const broken = records.keys.map((record: { object: string; wrapped: string }) =>
      record.object === 'disk-data' ? { ...record, wrapped: flipped(record.wrapped) } : record,
    )
    await writeFile(path, JSON.stringify({ ...records, keys: broken }))
    const { parts, onProgress } = recordOrder()
    await expect(host.vms.applyPolicy('vm', ALL_PLAIN, { onProgress })).rejects.toMatchObject({
      code: 'VM_KEYS_NEEDED',
      message: expect.stringMatching(/disk data \(FORBIDDEN\)/),
    })
    expect(parts).toEqual([])
    await writeFile(path, JSON.stringify(records))
    expect(await contents()).toEqual(digests)
  })

  test('with the code of the key provider, where that cannot be asked now', async () => {
    host.keys.refusal = new PlatformError('AUTHORITY_UNREACHABLE', 'away')
    await expect(host.vms.applyPolicy('vm', ALL_PLAIN)).rejects.toMatchObject({
      code: 'AUTHORITY_UNREACHABLE',
    })
    host.keys.refusal = undefined
  })

  test('for a plain VM where no key provider is named', async () => {
    await host.vms.applyPolicy('vm', ALL_PLAIN)
    await expect(host.vms.applyPolicy('vm', { home: ENCRYPTED })).rejects.toMatchObject({
      code: 'POLICY_NO_PROVIDER',
    })
  })
})

describe('a change of policy that is interrupted', () => {
  beforeEach(makeVm)
  afterEach(endHost)

  const request = { name: 'vm', ...ALL_PLAIN }
  type Case = readonly [step: string, left: readonly string[], rest: readonly string[]]
  const disksDone = ['disk-data.raw', 'disk-root.raw', 'disk-scratch.raw', 'home.enc']
  const firstDone = ['disk-data.luks', 'disk-root.raw', 'disk-scratch.raw', 'home.enc']
  const noneDone = ['disk-data.luks', 'disk-root.luks', 'disk-scratch.raw', 'home.enc']
  const cases: readonly Case[] = [
    ['data: copy', firstDone, ['data', 'home']],
    ['home: commit', disksDone, ['home']],
  ]
  const slowCases: readonly Case[] = [
    ['root: verify', noneDone, ['root', 'data', 'home']],
    ['root: place', firstDone, ['data', 'home']],
    ['data: erase', disksDone, ['home']],
    ['home: place', PLAIN_FILES, []],
  ]
  test.each(IS_SLOW ? [...cases, ...slowCases] : cases)(
    'by the death of the agent at %s goes on where it was',
    async (step, left, rest) => {
      await applyPolicyAndDie(host, request, step)
      await expect.poll(() => processesNaming(host.directory), { timeout: 2000 }).toEqual([])
      await using next = host.restart()
      await next.recover()
      expect(await fileNames()).toEqual(left)
      const { parts, onProgress } = recordOrder()
      await next.applyPolicy('vm', ALL_PLAIN, { onProgress })
      expect(parts).toEqual(rest)
      expect(await fileNames()).toEqual(PLAIN_FILES)
      expect(await contents()).toEqual(digests)
      expect(await next.listKeys()).toEqual([])
      expect(await findKeys(host.keys.seen, host.directory)).toEqual([])
    },
  )

  test('by its end before the keys are those of another provider leaves those of the first', async () => {
    await applyPolicyAndDie(host, { name: 'vm', home: SILVER }, 'provider: commit')
    await using next = host.restart()
    await next.recover()
    expect(await next.show('vm')).toMatchObject({ provider: 'kp' })
    expect(await contents()).toEqual(digests)
    await applyPolicyAndDie(host, { name: 'vm', home: SILVER }, 'provider: place')
    await next.recover()
    expect(await next.show('vm')).toMatchObject({ provider: 'silver' })
  })

  test('by cancellation leaves the part that was begun as it was', async () => {
    const abort = new AbortController()
    const onProgress = (step: string) => {
      if (step === 'data: copy') abort.abort(new PlatformError('TASK_CANCELLED', 'cancelled'))
    }
    const options = { onProgress, signal: abort.signal }
    await expect(host.vms.applyPolicy('vm', ALL_PLAIN, options)).rejects.toMatchObject({
      code: 'TASK_CANCELLED',
    })
    expect(await fileNames()).toEqual([
      ...['disk-data.luks', 'disk-root.raw', 'disk-scratch.raw', 'home.enc'],
    ])
    await host.vms.applyPolicy('vm', ALL_PLAIN)
    expect(await contents()).toEqual(digests)
  })
})

function flipped(wrapped: string): string {
  const last = wrapped.at(-2) === 'A' ? 'B' : 'A'
  return `${wrapped.slice(0, -2)}${last}${wrapped.slice(-1)}`
}
