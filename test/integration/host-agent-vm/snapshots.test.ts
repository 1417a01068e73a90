import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  copyFile,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PlatformError } from '../../../src/core/errors.js'
import { moveAndDie } from './killed.js'
import {
  createTestHost,
  findKeys,
  findWideModes,
  processesNaming,
  type TestHost,
} from './support.js'
import { createWitness, type TestWitness } from './witness.js'

const run = promisify(execFile)
const SLOW = process.env['SLOW'] === '1'
const MIB = 1024 * 1024
const content = randomBytes(2 * MIB)
const later = randomBytes(2 * MIB)

let host: TestHost
let witness: TestWitness
let files: string
let image: string
let folder: string

beforeAll(async () => {
  witness = await createWitness()
  host = await createTestHost({ vtpmWitness: witness })
  files = await mkdtemp(join(tmpdir(), 'sigillo-images-'))
  image = join(files, 'image.raw')
  await writeFile(image, content)
  folder = await make(host, 'vm')
})

afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await witness[Symbol.asyncDispose]()
  await rm(files, { recursive: true })
})

async function make(on: TestHost, name: string): Promise<string> {
  const { vmId } = await on.vms.create({
    ...{ name, provider: 'kp', memoryMib: 128 },
    disks: [
      { name: 'root', from: image },
      { name: 'tools', sizeOctets: MIB, plain: true },
    ],
  })
  return `${on.directory}/${vmId}`
}

/** What a guest would write: into the encrypted disk with its key, into the plain one as it is. */
async function writeDisk(on: TestHost, root: string, octets: Uint8Array): Promise<void> {
  const vmId = root.slice(-36)
  const { keys } = JSON.parse(await readFile(`${root}/keys.json`, 'utf8'))
  const { wrapped } = keys.find(({ object }: { object: string }) => object === 'disk-root')
  const context = { vm: vmId, object: 'disk-root' }
  const [dek] = await on.keys.unwrap('kp', [{ wrapped, purpose: 'vm-disk', context }])
  const plain = join(files, 'to-write.raw')
  await writeFile(plain, octets)
  const target = `driver=luks,key-secret=k,file.driver=file,file.filename=${root}/disk-root.luks`
  const child = execFile('/bin/sh', [
    '-c',
    `cat | qemu-img convert -n --object secret,id=k,file=/dev/stdin --image-opts --target-image-opts driver=raw,file.filename=${plain} ${target}`,
  ])
  child.stdin?.end(dek?.use((key) => Buffer.from(key).toString('hex')))
  expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0)
  await writeFile(`${root}/disk-tools.raw`, octets.subarray(0, MIB))
}

async function expectDisks(on: TestHost, name: string, octets: Uint8Array): Promise<void> {
  const root = await on.vms.readDisk(name, 'root', 0, MIB)
  expect(Buffer.from(root).equals(octets.subarray(0, MIB))).toBe(true)
}

const names = async (on = host, name = 'vm') =>
  (await on.vms.listSnapshots(name)).map((snapshot) => snapshot.name)

const refused = (work: Promise<unknown>, code: string) =>
  expect(work).rejects.toMatchObject({ code })

describe('a snapshot of a stopped VM', () => {
  test('keeps disks, firmware variables and virtual TPM, encrypted under the keys of the VM', async () => {
    const steps: string[] = []
    const onProgress = (step: string) => steps.push(step)
    await host.vms.createSnapshot('vm', { name: 'first', description: 'new' }, { onProgress })
    expect([...new Set(steps)].filter((step) => !step.startsWith('copy'))).toEqual([
      ...['check', 'commit', 'done'],
    ])
    const [snapshot] = await host.vms.listSnapshots('vm')
    const stopped = { running: false, memory: false }
    expect(snapshot).toMatchObject({ name: 'first', description: 'new', ...stopped })
    expect((await readdir(`${folder}/snapshots/${snapshot?.snapshotId}`)).sort()).toEqual(
      [
        ...[
          'disk-root.luks',
          'disk-tools.raw',
          'home.enc',
          'nvram.luks',
          'snapshot.json',
          'vm.json',
        ],
        ...['ek-ec', 'ek-rsa', 'platform'].map((name) => `vtpm+certs+${name}.pem`),
        'vtpm+tpm2-00.permall',
      ].sort(),
    )
    expect(await findKeys(host.keys.seen, host.directory)).toEqual([])
    expect(await findWideModes(host.directory)).toEqual([])
    await refused(host.vms.createSnapshot('vm', { name: 'first' }), 'VM_SNAPSHOT_EXISTS')
    await refused(host.vms.createSnapshot('vm', { name: '../x' }), 'REQUEST_INVALID')
  })

  test('brings all of that back, with the older state of the virtual TPM as the one to start from', async () => {
    const state = await readFile(`${folder}/vtpm/tpm2-00.permall`)
    const nvram = await readFile(`${folder}/nvram.luks`)
    await host.vms.start('vm')
    // the firmware starts the TPM, which counts it
    for (let count = 0; count < 600; count += 1) {
      if (!(await readFile(`${folder}/vtpm/tpm2-00.permall`)).equals(state)) break
      await delay(100)
    }
    await host.vms.stop('vm', { graceSeconds: 0 })
    await writeDisk(host, folder, later)
    await expectDisks(host, 'vm', later)
    await copyFile(`${folder}/vtpm/tpm2-00.permall`, join(files, 'later.permall'))
    expect((await readFile(join(files, 'later.permall'))).equals(state)).toBe(false)
    await host.vms.createSnapshot('vm', { name: 'second' })

    await witness.newEvents()
    await host.vms.revertSnapshot('vm', 'first')
    expect(await witness.newEvents()).toContain('vtpm.state-accepted')
    await expectDisks(host, 'vm', content)
    expect((await readFile(`${folder}/disk-tools.raw`)).equals(Buffer.alloc(MIB))).toBe(true)
    expect((await readFile(`${folder}/vtpm/tpm2-00.permall`)).equals(state)).toBe(true)
    expect((await readFile(`${folder}/nvram.luks`)).equals(nvram)).toBe(true)
    expect(await readdir(folder)).not.toContain('change')
    await host.vms.start('vm')
    await host.vms.stop('vm', { graceSeconds: 0 })

    await host.vms.revertSnapshot('vm', 'second')
    await expectDisks(host, 'vm', later)
    await host.vms.start('vm')
    await host.vms.stop('vm', { graceSeconds: 0 })
    expect(await names()).toEqual(['first', 'second'])
  })

  test('keeps what has other keys or disks from being made meanwhile; new wrapped keys serve both', async () => {
    for (const attempt of [
      () => host.vms.decrypt('vm', {}),
      () => host.vms.recrypt('vm', {}),
      () => host.vms.encrypt('vm', { disks: ['tools'] }),
      () => host.vms.addDisk('vm', { name: 'more', sizeOctets: MIB }),
      () => host.vms.growDisk('vm', 'root', 4 * MIB),
      () => host.vms.removeDisk('vm', 'tools'),
      () => host.vms.removeVtpm('vm'),
    ]) {
      await refused(attempt(), 'VM_SNAPSHOTS')
    }
    const before = await readFile(`${folder}/keys.json`, 'utf8')
    await host.vms.rewrapKeys('kp')
    expect(await readFile(`${folder}/keys.json`, 'utf8')).not.toBe(before)
    await host.vms.revertSnapshot('vm', 'first')
    await expectDisks(host, 'vm', content)
    await host.vms.clone('vm', { name: 'clone', vtpm: 'none' })
    expect(await names(host, 'clone')).toEqual([])
    await host.vms.delete('clone')
  })

  test('is removed while the VM runs; the VM stays as it is', async () => {
    await host.vms.start('vm')
    await host.vms.removeSnapshot('vm', 'second')
    await refused(host.vms.removeSnapshot('vm', 'second'), 'VM_SNAPSHOT_NOT_FOUND')
    await refused(host.vms.revertSnapshot('vm', 'first'), 'VM_RUNNING')
    await host.vms.stop('vm', { graceSeconds: 0 })
    await refused(host.vms.revertSnapshot('vm', 'second'), 'VM_SNAPSHOT_NOT_FOUND')
    expect(await readdir(`${folder}/snapshots`)).toHaveLength(1)
    await expectDisks(host, 'vm', content)
  })

  test('that is cancelled leaves nothing', async () => {
    const cancelled = new PlatformError('TASK_CANCELLED', 'the task was cancelled')
    for (const work of ['create', 'revert'] as const) {
      const cancel = new AbortController()
      const onProgress = (step: string) => {
        if (step === 'copy disk-root.luks') cancel.abort(cancelled)
      }
      const following = { onProgress, signal: cancel.signal }
      await refused(
        work === 'create'
          ? host.vms.createSnapshot('vm', { name: 'third' }, following)
          : host.vms.revertSnapshot('vm', 'first', following),
        'TASK_CANCELLED',
      )
    }
    expect(await readdir(`${folder}/snapshots`)).toHaveLength(1)
    expect(await readdir(folder)).not.toContain('change')
    await expectDisks(host, 'vm', content)
  })
})

describe('a snapshot whose files somebody changed', () => {
  const attempts: Readonly<Record<string, (root: string) => Promise<unknown>>> = {
    'has another state of the virtual TPM': (root) =>
      copyFile(join(files, 'later.permall'), `${root}/vtpm+tpm2-00.permall`),
    'has other firmware variables': async (root) => {
      const octets = await readFile(`${root}/nvram.luks`)
      octets[100] = 1
      await writeFile(`${root}/nvram.luks`, octets)
    },
    'allows another state': async (root) => {
      const text = await readFile(`${root}/snapshot.json`, 'utf8')
      const sealed = JSON.parse(text)
      for (const part of sealed.snapshot.parts) {
        if (part.file === 'vtpm/tpm2-00.permall') part.sha256 = '0'.repeat(64)
      }
      await writeFile(`${root}/snapshot.json`, JSON.stringify(sealed))
    },
    'names files outside of the VM': async (root) => {
      const sealed = JSON.parse(await readFile(`${root}/snapshot.json`, 'utf8'))
      sealed.snapshot.parts.push({ file: '../x', octets: 1 })
      await writeFile(`${root}/snapshot.json`, JSON.stringify(sealed))
    },
    'has no firmware variables': (root) => rm(`${root}/nvram.luks`),
    'has a shorter disk': (root) => truncate(`${root}/disk-root.luks`, MIB),
    'is of no JSON': (root) => writeFile(`${root}/snapshot.json`, 'none'),
  }

  for (const [what, change] of Object.entries(attempts)) {
    test(`is not gone back to when it ${what}`, async () => {
      const root = `${folder}/snapshots/${(await readdir(`${folder}/snapshots`))[0]}`
      const kept = join(files, 'kept')
      await run('cp', ['-a', root, kept])
      await change(root)
      await refused(host.vms.revertSnapshot('vm', 'first'), 'VM_SNAPSHOT_CORRUPT')
      await expectDisks(host, 'vm', content)
      await rm(root, { recursive: true })
      await run('mv', [kept, root])
    })
  }
})

describe('an agent that is killed', () => {
  const die = (snapshot: object, step: string) =>
    moveAndDie({ directory: host.directory, kek: host.keys.kek }, { snapshot }, step)

  for (const step of SLOW
    ? ['check', 'copy disk-root.luks', 'copy nvram.luks', 'commit']
    : ['commit']) {
    test(`while it makes a snapshot, at the step ${step}, leaves none`, async () => {
      await die({ vm: 'vm', create: 'killed' }, step)
      await host.restart().recover()
      expect(await readdir(`${folder}/snapshots`)).toHaveLength(1)
      await host.vms.createSnapshot('vm', { name: 'killed' })
      await host.vms.removeSnapshot('vm', 'killed')
    })
  }

  const whenReverting = ['check', 'copy disk-root.luks', 'verify', 'commit', 'place', 'erase']
  for (const step of SLOW ? whenReverting : ['commit', 'place']) {
    test(`while it goes back, at the step ${step}, leaves the VM as it is or as it was`, async () => {
      await writeDisk(host, folder, later)
      await die({ vm: 'vm', revert: 'first' }, step)
      await host.restart().recover()
      await expectDisks(host, 'vm', ['place', 'erase'].includes(step) ? content : later)
      expect(await readdir(folder)).not.toContain('change')
      if (step === 'place') {
        await host.vms.start('vm')
        await host.vms.stop('vm', { graceSeconds: 0 })
      }
      await host.vms.revertSnapshot('vm', 'first')
      await expectDisks(host, 'vm', content)
    })
  }

  for (const step of ['drop', 'erase']) {
    test(`while it removes a snapshot, at the step ${step}, leaves it whole or nothing`, async () => {
      await host.vms.createSnapshot('vm', { name: 'doomed' })
      await die({ vm: 'vm', remove: 'doomed' }, step)
      await host.restart().recover()
      expect(await names()).toEqual(step === 'drop' ? ['first', 'doomed'] : ['first'])
      expect(await readdir(`${folder}/snapshots`)).toHaveLength(step === 'drop' ? 2 : 1)
      if (step === 'drop') await host.vms.removeSnapshot('vm', 'doomed')
      expect(processesNaming(host.directory)).toEqual([])
    })
  }
})

test('a VM that is deleted takes its snapshots with it, and its keys are released once', async () => {
  await host.vms.delete('vm')
  await host.vms.settleReleases()
  expect((await readdir(host.directory)).filter((name) => name !== 'releases.json')).toEqual([])
  expect(new Set(host.keys.released).size).toBe(host.keys.released.length)
})

test('where the file system can share, a snapshot takes no room for disks', async () => {
  const disk = join(files, 'btrfs.img')
  const volume = join(files, 'volume')
  await run('truncate', ['-s', '256M', disk])
  await run('mkfs.btrfs', ['-q', disk])
  await run('mkdir', [volume])
  await run('mount', ['-o', 'loop', disk, volume])
  try {
    await using other = await createTestHost({ directory: `${volume}/vms` })
    const big = join(files, 'big.raw')
    await writeFile(big, randomBytes(100 * MIB))
    const { vmId } = await other.vms.create({
      ...{ name: 'vm', provider: 'kp', vtpm: false },
      disks: [{ name: 'root', from: big }],
    })
    // a second copy of the disk would not fit
    await other.vms.createSnapshot('vm', { name: 'first' })
    const root = `${volume}/vms/${vmId}`
    const before = await stat(`${root}/disk-root.luks`)
    await other.vms.revertSnapshot('vm', 'first')
    expect((await stat(`${root}/disk-root.luks`)).ino).not.toBe(before.ino)
    const read = await other.vms.readDisk('vm', 'root', 0, 512)
    expect(Buffer.from(read).equals((await readFile(big)).subarray(0, 512))).toBe(true)
    await other.vms.delete('vm')
  } finally {
    await run('umount', [volume])
  }
})
