import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PlatformError } from '../../../src/core/errors.js'
import { DEFAULT_PROGRAMS } from '../../../src/host-agent/vm/programs.js'
import {
  createTestHost,
  findKeys,
  findWideModes,
  plainDigest,
  processesNaming,
  type TestHost,
  watchForLeaks,
  writePlain,
} from './support.js'

const run = promisify(execFile)
const MIB = 1024 * 1024
/** Large enough to be copied in two parts, and odd, with a hole in it. */
const ROOT_OCTETS = 160 * MIB + 512

let host: TestHost
let files: string
let image: string
let folder: string
let digest: string

beforeAll(async () => {
  host = await createTestHost()
  files = await mkdtemp(join(tmpdir(), 'sigillo-images-'))
  image = await makeFileSystem(files)
  digest = createHash('sha256')
    .update(await readFile(image))
    .digest('hex')
  const { vmId } = await host.vms.create({
    ...{ name: 'vm', memoryMib: 128 },
    disks: [
      { name: 'root', from: image },
      { name: 'data', sizeOctets: MIB },
    ],
  })
  folder = `${host.directory}/${vmId}`
})

afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await rm(files, { recursive: true })
})

describe('a VM that is not encrypted', () => {
  test('is shown and reported as that, and has no key', async () => {
    const vm = await host.vms.show('vm')
    expect(vm).toMatchObject({ vtpm: false, memoryMib: 128 })
    expect(vm.provider).toBeUndefined()
    expect(vm.disks.map(({ format }) => format)).toEqual(['raw', 'raw'])
    expect(await host.vms.listKeys()).toEqual([])
    expect([...host.inventory.vms.values()]).toMatchObject([
      { disks: [{ encrypted: false }, { encrypted: false }] },
    ])
  })

  test('starts and stops', async () => {
    expect(await host.vms.start('vm')).toMatchObject({ state: 'running' })
    await expect(host.vms.encrypt('vm', { provider: 'kp' })).rejects.toMatchObject({
      code: 'VM_RUNNING',
    })
    await host.vms.stop('vm', { graceSeconds: 0 })
  })

  test('is not made with a virtual TPM or an encrypted disk', async () => {
    const disk = { name: 'a', sizeOctets: MIB }
    for (const wrong of [
      { name: 'x', vtpm: true, disks: [] },
      { name: 'x', disks: [{ ...disk, plain: false }] },
    ]) {
      await expect((async () => host.vms.create(wrong))()).rejects.toMatchObject({
        code: 'VM_HOME_PLAIN',
      })
    }
  })

  test('has no disk encrypted before its home, nor its home without a key provider', async () => {
    await expect(host.vms.encrypt('vm', { disks: ['root'], provider: 'kp' })).rejects.toMatchObject(
      { code: 'VM_HOME_PLAIN' },
    )
    await expect(host.vms.encrypt('vm', { home: true })).rejects.toMatchObject({
      code: 'AGENT_NO_PROVIDER',
    })
    for (const attempt of [() => host.vms.decrypt('vm', {}), () => host.vms.recrypt('vm', {})]) {
      await expect(attempt()).rejects.toMatchObject({ code: 'VM_PLAIN' })
    }
  })
})

describe('its encryption', () => {
  const steps: string[] = []
  const percents: number[] = []
  const octets: number[] = []
  let leaks: readonly string[]

  beforeAll(async () => {
    const watch = watchForLeaks(host)
    await host.vms.encrypt(
      'vm',
      { provider: 'kp' },
      {
        compare: 'all',
        onProgress: (step, percent, done) => {
          steps.push(step)
          percents.push(percent)
          if (done) octets.push(done.done)
        },
      },
    )
    leaks = await watch.stop()
  })

  test('goes step by step, the home first, with a percentage and octets that never fall', () => {
    const disk = ['keys', 'format', 'copy', 'verify', 'commit', 'place', 'erase']
    expect([...new Set(steps)]).toEqual([
      ...['home: keys', 'home: nvram', 'home: commit', 'home: place', 'home: erase'],
      ...disk.map((step) => `root: ${step}`),
      ...disk.map((step) => `data: ${step}`),
      'done',
    ])
    for (const values of [percents, octets]) {
      expect(values).toEqual([...values].sort((a, b) => a - b))
    }
    expect(octets.at(-1)).toBe(ROOT_OCTETS + MIB)
  })

  test('keeps what the guest sees, with holes as zeros', async () => {
    expect(await plainDigest(host, 'vm', 'root')).toBe(digest)
    const path = join(files, 'copy.raw')
    await writePlain(host, 'vm', 'root', path)
    expect(await fileFromDisk(path, '/hello')).toBe('hello from the guest')
    const zeros = await host.vms.readDisk('vm', 'data', 0, MIB)
    expect(zeros.every((octet) => octet === 0)).toBe(true)
  })

  test('leaves nothing but encrypted files, private, without a key in them', async () => {
    expect(leaks).toEqual([])
    expect((await readdir(folder)).sort()).toEqual([
      ...['disk-data.luks', 'disk-root.luks', 'home.enc', 'keys.json', 'nvram.luks', 'vm.json'],
    ])
    expect(await findWideModes(host.directory)).toEqual([])
    expect(await findKeys(host.keys.seen, host.directory)).toEqual([])
    expect((await readFile(`${folder}/disk-root.luks`)).includes('hello from the guest')).toBe(
      false,
    )
  })

  test('is shown and reported', async () => {
    expect(await host.vms.show('vm')).toMatchObject({ provider: 'kp', memoryMib: 128 })
    expect([...host.inventory.vms.values()]).toMatchObject([
      { provider: 'kp', disks: [{ encrypted: true }, { encrypted: true }] },
    ])
  })

  test('is not done twice, nor under another provider', async () => {
    for (const request of [{}, { home: true }, { disks: ['root'] }, { vtpm: true }]) {
      await expect(host.vms.encrypt('vm', { ...request, provider: 'kp' })).rejects.toMatchObject({
        code: 'VM_ENCRYPTED',
      })
    }
  })
})

describe('new keys', () => {
  test('are under every part, and the guest sees the same', async () => {
    const before = await recordsOf()
    await host.vms.recrypt('vm', {}, { compare: 'all' })
    const after = await recordsOf()
    expect(after.map(({ generation }) => generation)).toEqual([2, 2, 2])
    for (const { object, wrapped } of before) {
      expect(after.find((record) => record.object === object)?.wrapped).not.toBe(wrapped)
    }
    await host.vms.settleReleases()
    expect([...host.keys.released].sort()).toEqual(before.map(({ wrapped }) => wrapped).sort())
    expect(await plainDigest(host, 'vm', 'root')).toBe(digest)
    expect((await readdir(folder)).length).toBe(6)
  })

  test('are under one disk alone where that was asked for', async () => {
    await host.vms.recrypt('vm', { disks: ['data'] })
    expect((await recordsOf()).map((r) => `${r.object} ${r.generation}`).sort()).toEqual([
      ...['disk-data 3', 'disk-root 2', 'home 2'],
    ])
    await expect(host.vms.recrypt('vm', { disks: ['none'] })).rejects.toMatchObject({
      code: 'VM_DISK_NOT_FOUND',
    })
    await expect(host.vms.recrypt('vm', { vtpm: true })).rejects.toMatchObject({ code: 'VM_PLAIN' })
  })

  test('open the VM, and the old ones open nothing of it', async () => {
    const [vm] = await host.vms.list()
    const old = host.keys.seen[1]?.toString('hex') ?? ''
    const file = `${folder}/disk-root.luks`
    const child = execFile(DEFAULT_PROGRAMS.cryptsetup, [
      'open',
      '--test-passphrase',
      '--key-file',
      '-',
      file,
    ])
    child.stdin?.end(old)
    const exitCode = await new Promise((resolve) => child.once('close', resolve))
    expect(vm?.name).toBe('vm')
    expect(exitCode).toBe(2)
    expect(await host.vms.start('vm')).toMatchObject({ state: 'running' })
    await host.vms.stop('vm', { graceSeconds: 0 })
  })

  test('that the provider does not give back are not used', async () => {
    const before = await recordsOf()
    await host.vms.settleReleases()
    const released = host.keys.released.length
    host.keys.wrongFor = 'disk-data'
    await expect(host.vms.recrypt('vm', { disks: ['data'] })).rejects.toMatchObject({
      code: 'VM_KEY_WRONG',
    })
    host.keys.wrongFor = undefined
    expect(await recordsOf()).toEqual(before)
    await host.vms.settleReleases()
    expect(host.keys.released.length).toBe(released + 1)
    expect(before.map(({ wrapped }) => wrapped)).not.toContain(host.keys.released.at(-1))
    expect((await host.vms.readDisk('vm', 'data', 0, 1)).length).toBe(1)
  })

  test('do not come while the provider is away, and the VM stays as it was', async () => {
    host.keys.refusal = new PlatformError('AUTHORITY_UNREACHABLE', 'away')
    await expect(host.vms.recrypt('vm', {})).rejects.toMatchObject({
      code: 'AUTHORITY_UNREACHABLE',
    })
    host.keys.refusal = undefined
    await host.vms.unlock('vm')
    expect((await readdir(folder)).length).toBe(6)
  })
})

describe('while a disk is copied', () => {
  test('the VM can be shown; all else is refused; and the copy can be cancelled', async () => {
    const controller = new AbortController()
    const before = await recordsOf()
    const seen = new Promise<void>((resolve) => {
      const onProgress = (step: string, percent: number) => {
        if (step === 'root: copy' && percent > 0) resolve()
      }
      const { signal } = controller
      copying = host.vms.recrypt('vm', { disks: ['root'] }, { onProgress, signal })
    })
    await seen
    expect(await host.vms.show('vm')).toMatchObject({ name: 'vm' })
    for (const attempt of [
      () => host.vms.start('vm'),
      () => host.vms.delete('vm'),
      () => host.vms.readDisk('vm', 'data', 0, 1),
      () => host.vms.decrypt('vm', {}),
    ]) {
      await expect(attempt()).rejects.toMatchObject({ code: 'VM_BUSY' })
    }
    controller.abort(new PlatformError('TASK_CANCELLED', 'cancelled'))
    await expect(copying).rejects.toMatchObject({ code: 'TASK_CANCELLED' })
    expect(processesNaming(folder)).toEqual([])
    expect((await readdir(folder)).length).toBe(6)
    expect(await recordsOf()).toEqual(before)
    expect(await plainDigest(host, 'vm', 'root')).toBe(digest)
  })

  let copying: Promise<unknown> | undefined
})

test('a copy that differs from its original is thrown away', async () => {
  const bad = join(files, 'bad-qemu-img')
  await writeFile(
    bad,
    '#!/bin/sh\ncase "$1" in compare) cat /dev/stdin >/dev/null; echo Content mismatch; exit 1;; esac\nexec qemu-img "$@"\n',
    { mode: 0o755 },
  )
  await using broken = host.restart({ programs: { qemuImg: bad } })
  await expect(broken.recrypt('vm', { disks: ['data'] })).rejects.toMatchObject({
    code: 'VM_COPY_DIFFERS',
  })
  expect((await readdir(folder)).length).toBe(6)
})

describe('decryption', () => {
  test('of the home is refused while a disk is encrypted', async () => {
    await expect(host.vms.decrypt('vm', { home: true })).rejects.toMatchObject({
      ...{ code: 'VM_HOME_NEEDED', message: expect.stringContaining('root, data') },
    })
    await expect(host.vms.decrypt('vm', { home: true, disks: ['root'] })).rejects.toMatchObject({
      code: 'VM_HOME_NEEDED',
    })
  })

  test('of one disk leaves a VM with a plain disk beside an encrypted one, which starts', async () => {
    await host.vms.decrypt('vm', { disks: ['data'] })
    const { disks } = await host.vms.show('vm')
    expect(disks.map(({ format }) => format)).toEqual(['luks1', 'raw'])
    expect((await recordsOf()).map(({ object }) => object).sort()).toEqual(['disk-root', 'home'])
    await expect(host.vms.decrypt('vm', { disks: ['data'] })).rejects.toMatchObject({
      code: 'VM_PLAIN',
    })
    await host.vms.start('vm')
    await host.vms.stop('vm', { graceSeconds: 0 })
  })

  test('of a disk whose descriptor says that it is plain already is not fooled', async () => {
    const text = await readFile(`${folder}/vm.json`, 'utf8')
    const altered = JSON.parse(text)
    altered.disks[0].plain = true
    await writeFile(`${folder}/vm.json`, JSON.stringify(altered))
    await expect(host.vms.show('vm')).rejects.toMatchObject({ code: 'VM_HOME_CORRUPT' })
    await writeFile(`${folder}/vm.json`, text)
  })

  test('of all that is left gives the octets back, and no key remains', async () => {
    await host.vms.decrypt('vm', {}, { compare: 'all' })
    expect((await readdir(folder)).sort()).toEqual([
      ...['disk-data.raw', 'disk-root.raw', 'home.json', 'keys.json', 'nvram.fd', 'vm.json'],
    ])
    const raw = await readFile(`${folder}/disk-root.raw`)
    expect(createHash('sha256').update(raw).digest('hex')).toBe(digest)
    expect(await host.vms.listKeys()).toEqual([])
    expect((await host.vms.show('vm')).provider).toBeUndefined()
    expect(await findWideModes(host.directory)).toEqual([])
    const { blocks } = await stat(`${folder}/disk-root.raw`)
    expect(blocks * 512).toBeLessThan(ROOT_OCTETS / 2)
  })
})

describe('a VM with a virtual TPM', () => {
  beforeAll(async () => {
    await host.vms.create({
      ...{ name: 'trusted', provider: 'kp', memoryMib: 128 },
      disks: [
        { name: 'root', sizeOctets: MIB },
        { name: 'scratch', sizeOctets: MIB, plain: true },
      ],
    })
  })

  test('can have a plain disk', async () => {
    const { disks } = await host.vms.show('trusted')
    expect(disks.map(({ format }) => format)).toEqual(['luks1', 'raw'])
  })

  test('keeps that TPM when it gets new keys, and starts with it', async () => {
    const { vtpmCertificates } = await host.vms.show('trusted')
    await host.vms.recrypt('trusted', {})
    expect((await host.vms.show('trusted')).vtpmCertificates).toEqual(vtpmCertificates)
    expect((await host.vms.listKeys()).filter(({ version }) => version === 2).length).toBe(4)
    expect(await host.vms.start('trusted')).toMatchObject({ state: 'running' })
    await host.vms.stop('trusted', { graceSeconds: 0 })
    await host.vms.recrypt('trusted', { vtpm: true })
    await host.vms.start('trusted')
    await host.vms.stop('trusted', { graceSeconds: 0 })
  })

  test('is not decrypted before that TPM is removed', async () => {
    await expect(host.vms.decrypt('trusted', {})).rejects.toMatchObject({
      ...{ code: 'VM_HOME_NEEDED', message: expect.stringContaining('virtual TPM') },
    })
    expect(await host.vms.removeVtpm('trusted')).toMatchObject({ vtpm: false })
    await expect(host.vms.removeVtpm('trusted')).rejects.toMatchObject({ code: 'VM_PLAIN' })
    const vm = await host.vms.decrypt('trusted', {})
    expect(vm.provider).toBeUndefined()
    expect(await readdir(`${host.directory}/${vm.vmId}`)).not.toContain('vtpm')
    await host.vms.start('trusted')
    await host.vms.stop('trusted', { graceSeconds: 0 })
  })
})

/** An ext4 with a file, made without mounting, with an odd end that no file system uses. */
async function makeFileSystem(directory: string): Promise<string> {
  const content = join(directory, 'content')
  await mkdir(content)
  await writeFile(join(content, 'hello'), 'hello from the guest')
  await writeFile(join(content, 'noise'), randomBytes(2 * MIB))
  const path = join(directory, 'root.raw')
  await writeFile(path, '')
  await truncate(path, ROOT_OCTETS - 512)
  await run('mke2fs', ['-q', '-t', 'ext4', '-d', content, path])
  await truncate(path, ROOT_OCTETS)
  return path
}

async function fileFromDisk(path: string, name: string): Promise<string> {
  return (await run('debugfs', ['-R', `cat ${name}`, path])).stdout
}

async function recordsOf() {
  const { keys } = JSON.parse(await readFile(`${folder}/keys.json`, 'utf8'))
  return keys as readonly {
    readonly object: string
    readonly wrapped: string
    readonly generation: number
  }[]
}
