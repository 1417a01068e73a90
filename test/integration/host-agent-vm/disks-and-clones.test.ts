import { randomBytes, X509Certificate } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PlatformError } from '../../../src/core/errors.js'
import { changeAndDie } from './killed.js'
import {
  createTestHost,
  findKeys,
  findWideModes,
  processesNaming,
  type TestHost,
} from './support.js'

const MIB = 1024 * 1024
const content = randomBytes(4 * MIB)

let host: TestHost
let files: string
let image: string
let folder: string

beforeAll(async () => {
  host = await createTestHost()
  files = await mkdtemp(join(tmpdir(), 'sigillo-images-'))
  image = join(files, 'image.raw')
  await writeFile(image, content)
  const { vmId } = await host.vms.create({
    ...{ name: 'vm', provider: 'kp', memoryMib: 128 },
    disks: [{ name: 'root', from: image }],
  })
  folder = `${host.directory}/${vmId}`
})

afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await rm(files, { recursive: true })
})

const start = (name: string) => host.vms.start(name)
const stop = (name: string) => host.vms.stop(name, { graceSeconds: 0 })

describe('a disk', () => {
  test('is added encrypted, with a key of its own, filled from an image', async () => {
    const steps: string[] = []
    const vm = await host.vms.addDisk(
      'vm',
      { name: 'data', from: image },
      { onProgress: (step) => steps.push(step) },
    )
    expect(vm.disks.map(({ name, format }) => `${name} ${format}`)).toEqual([
      ...['root luks1', 'data luks1'],
    ])
    expect([...new Set(steps)]).toEqual([
      ...['keys', 'format', 'fill', 'verify', 'commit', 'place', 'erase'].map((s) => `data: ${s}`),
      'done',
    ])
    const octets = await host.vms.readDisk('vm', 'data', 0, MIB)
    expect(Buffer.from(octets).equals(content.subarray(0, MIB))).toBe(true)
    expect((await host.vms.listKeys()).map(({ object }) => object)).toContain('disk-data')
    expect([...host.inventory.vms.values()]).toMatchObject([
      { disks: [{ name: 'root' }, { name: 'data', encrypted: true }] },
    ])
  })

  test('can be added plain; and the VM starts with all of them', async () => {
    const vm = await host.vms.addDisk('vm', { name: 'scratch', sizeOctets: MIB, plain: true })
    expect(vm.disks.at(-1)).toMatchObject({ format: 'raw' })
    await start('vm')
    await expect(host.vms.clone('vm', { name: 'other' })).rejects.toMatchObject({
      code: 'VM_RUNNING',
    })
    await stop('vm')
  })

  test('is not added twice, nor without a size, nor from an image that is none', async () => {
    const add = (disk: { name: string; sizeOctets?: number; from?: string }) =>
      host.vms.addDisk('vm', disk)
    await expect(add({ name: 'data', sizeOctets: MIB })).rejects.toMatchObject({
      code: 'VM_DISK_EXISTS',
    })
    await expect(add({ name: 'x' })).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
    await expect(add({ name: '../x', sizeOctets: MIB })).rejects.toMatchObject({
      code: 'REQUEST_INVALID',
    })
    await expect(add({ name: 'x', from: files })).rejects.toMatchObject({ code: 'VM_IMAGE' })
    expect(await readdir(folder)).not.toContain('change')
  })

  test('grows, and keeps what was in it', async () => {
    const vm = await host.vms.growDisk('vm', 'data', 8 * MIB)
    expect(vm.disks.find(({ name }) => name === 'data')?.sizeOctets).toBe(8 * MIB)
    expect((await stat(`${folder}/disk-data.luks`)).size).toBe(10 * MIB)
    const octets = await host.vms.readDisk('vm', 'data', 3 * MIB, MIB)
    expect(Buffer.from(octets).equals(content.subarray(3 * MIB))).toBe(true)
    expect((await host.vms.readDisk('vm', 'data', 8 * MIB - 512, 512)).length).toBe(512)
    await host.vms.growDisk('vm', 'scratch', 2 * MIB)
    expect((await stat(`${folder}/disk-scratch.raw`)).size).toBe(2 * MIB)
    await start('vm')
    await stop('vm')
  })

  test('does not shrink, nor grow by part of a sector, nor beyond what files can be', async () => {
    for (const size of [8 * MIB, 4 * MIB, 8 * MIB + 100]) {
      await expect(host.vms.growDisk('vm', 'data', size)).rejects.toMatchObject({
        code: 'REQUEST_INVALID',
      })
    }
    await expect(host.vms.growDisk('vm', 'none', 9 * MIB)).rejects.toMatchObject({
      code: 'VM_DISK_NOT_FOUND',
    })
    await expect(host.vms.growDisk('vm', 'data', 2 ** 52)).rejects.toThrow()
    expect((await stat(`${folder}/disk-data.luks`)).size).toBe(10 * MIB)
    expect(await readdir(folder)).not.toContain('change')
  })

  test('is removed with its key', async () => {
    const vm = await host.vms.removeDisk('vm', 'scratch')
    expect(vm.disks.map(({ name }) => name)).toEqual(['root', 'data'])
    await host.vms.removeDisk('vm', 'data')
    expect((await host.vms.listKeys()).map(({ object }) => object)).not.toContain('disk-data')
    expect((await readdir(folder)).filter((name) => name.startsWith('disk-'))).toEqual([
      'disk-root.luks',
    ])
    await expect(host.vms.removeDisk('vm', 'data')).rejects.toMatchObject({
      code: 'VM_DISK_NOT_FOUND',
    })
  })

  test('that is encrypted is not added to a plain VM', async () => {
    await host.vms.create({ name: 'plain', disks: [] })
    await expect(
      host.vms.addDisk('plain', { name: 'a', sizeOctets: MIB, plain: false }),
    ).rejects.toMatchObject({ code: 'VM_HOME_PLAIN' })
    const vm = await host.vms.addDisk('plain', { name: 'a', sizeOctets: MIB })
    expect(vm.disks).toMatchObject([{ format: 'raw' }])
    await host.vms.delete('plain')
  })
})

describe('a clone', () => {
  test('has an id, keys and a virtual TPM of its own, and the octets of its original', async () => {
    const keysBefore = new Set(host.keys.seen.map((key) => key.toString('hex')))
    const original = await host.vms.show('vm')
    const { vmId } = await host.vms.clone('vm', { name: 'clone' }, { compare: 'all' })
    expect(vmId).not.toBe(original.vmId)
    const clone = await host.vms.show('clone')
    expect(clone).toMatchObject({ memoryMib: 128, vtpm: true, provider: 'kp', state: 'stopped' })
    const names = (clone.vtpmCertificates ?? []).map((pem) => new X509Certificate(pem).subject)
    expect(names).toEqual([`CN=${vmId} ek`, `CN=${vmId} ek`, `CN=${vmId} platform`])
    const octets = await host.vms.readDisk('clone', 'root', MIB, MIB)
    expect(Buffer.from(octets).equals(content.subarray(MIB, 2 * MIB))).toBe(true)
    const fresh = host.keys.seen.filter((key) => !keysBefore.has(key.toString('hex')))
    expect(fresh.length).toBe(4)
    expect(await findKeys(host.keys.seen, host.directory)).toEqual([])
    expect(await findWideModes(host.directory)).toEqual([])
    expect(host.inventory.vms.get(vmId)).toMatchObject({ name: 'clone' })
  })

  test('runs beside its original', async () => {
    await start('vm')
    expect(await start('clone')).toMatchObject({ state: 'running' })
    await stop('vm')
    await stop('clone')
  })

  test('can have the same virtual TPM, under other keys, or none', async () => {
    const { vtpmCertificates } = await host.vms.show('vm')
    await host.vms.clone('vm', { name: 'twin', vtpm: 'copy' })
    expect((await host.vms.show('twin')).vtpmCertificates).toEqual(vtpmCertificates)
    expect(await start('twin')).toMatchObject({ state: 'running' })
    await stop('twin')
    expect(await host.vms.clone('vm', { name: 'bare', vtpm: 'none' })).toMatchObject({
      vtpm: false,
    })
    await expect(host.vms.clone('bare', { name: 'x', vtpm: 'copy' })).rejects.toMatchObject({
      code: 'REQUEST_INVALID',
    })
    await host.vms.delete('twin')
    await host.vms.delete('bare')
  })

  test('does not take the name of another VM, nor come from one that is not there', async () => {
    await expect(host.vms.clone('vm', { name: 'clone' })).rejects.toMatchObject({
      code: 'VM_EXISTS',
    })
    await expect((async () => host.vms.clone('vm', { name: '../x' }))()).rejects.toMatchObject({
      code: 'REQUEST_INVALID',
    })
    await expect(host.vms.clone('none', { name: 'x' })).rejects.toMatchObject({
      code: 'VM_NOT_FOUND',
    })
  })

  test('that is cancelled, or fails, leaves nothing', async () => {
    const before = (await readdir(host.directory)).sort()
    const controller = new AbortController()
    const onProgress = (step: string) => {
      if (step === 'vtpm') controller.abort(new PlatformError('TASK_CANCELLED', 'cancelled'))
    }
    const { signal } = controller
    await expect(host.vms.clone('vm', { name: 'x' }, { onProgress, signal })).rejects.toMatchObject(
      { code: 'TASK_CANCELLED' },
    )
    host.keys.wrongFor = 'disk-root'
    await expect(host.vms.clone('vm', { name: 'x' })).rejects.toThrow()
    host.keys.wrongFor = undefined
    expect((await readdir(host.directory)).sort()).toEqual(before)
    expect(processesNaming(host.directory)).toEqual([])
  })

  test('that an agent was killed at is gone after recovery', async () => {
    const before = (await readdir(host.directory)).sort()
    await changeAndDie(host, 'clone', 'vm', 'root: verify')
    await using next = host.restart()
    await next.recover()
    expect((await readdir(host.directory)).sort()).toEqual(before)
  })
})

test('an agent that is killed while it adds a disk leaves all of it or nothing', async () => {
  const recordOf = async () => readFile(`${folder}/vm.json`, 'utf8')
  const before = await recordOf()
  await changeAndDie(host, 'addDisk', 'vm', 'added: verify')
  await using next = host.restart()
  await next.recover()
  expect(await recordOf()).toBe(before)
  await changeAndDie(host, 'addDisk', 'vm', 'added: place')
  await using last = host.restart()
  await last.recover()
  expect((await last.show('vm')).disks.map(({ name }) => name)).toEqual(['root', 'added'])
  expect((await last.readDisk('vm', 'added', 0, 512)).length).toBe(512)
  expect(await readdir(folder)).not.toContain('change')
})
