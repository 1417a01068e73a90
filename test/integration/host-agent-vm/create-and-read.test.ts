import { execFile } from 'node:child_process'
import { randomBytes, X509Certificate } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PlatformError } from '../../../src/core/errors.js'
import { memoryLogger } from '../../helpers/memory-logger.js'
import {
  createCertifier,
  createTestHost,
  directoriesOf,
  findKeys,
  findWideModes,
  secretsOf,
  type TestHost,
  watchForLeaks,
} from './support.js'

const run = promisify(execFile)
const MIB = 1024 * 1024

let host: TestHost
let files: string
let image: string
const content = randomBytes(4 * MIB)

beforeAll(async () => {
  host = await createTestHost()
  files = await mkdtemp(join(tmpdir(), 'sigillo-images-'))
  image = join(files, 'image.raw')
  await writeFile(image, content)
})

afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await rm(files, { recursive: true })
})

describe('a VM with two disks and a virtual TPM', () => {
  const steps: string[] = []
  let leaks: readonly string[]
  let vmId: string

  beforeAll(async () => {
    const qcow2 = join(files, 'image.qcow2')
    await run('qemu-img', ['convert', '-O', 'qcow2', image, qcow2])
    const percents: number[] = []
    const watch = watchForLeaks(host)
    const vm = await host.vms.create(
      {
        name: 'web-1',
        provider: 'kp',
        memoryMib: 256,
        disks: [
          { name: 'root', sizeOctets: 6 * MIB, from: qcow2 },
          { name: 'data', sizeOctets: MIB },
        ],
      },
      {
        onProgress: (step, percent) => {
          steps.push(step)
          percents.push(percent)
        },
      },
    )
    leaks = await watch.stop()
    vmId = vm.vmId
    expect(percents).toEqual([...percents].sort((a, b) => a - b))
  })

  test('is made step by step', () => {
    expect([...new Set(steps)]).toEqual([
      ...['check', 'keys', 'home', 'root: format', 'root: fill', 'root: verify'],
      ...['data: format', 'data: verify', 'vtpm', 'commit', 'done'],
    ])
  })

  test('shows its encrypted home and its disks', async () => {
    expect(await host.vms.show('web-1')).toMatchObject({
      ...{ vmId, name: 'web-1', provider: 'kp', state: 'stopped', vtpm: true },
      ...{ memoryMib: 256, cpus: 1 },
      disks: [
        { name: 'root', sizeOctets: 6 * MIB, format: 'luks1' },
        { name: 'data', sizeOctets: MIB, format: 'luks1' },
      ],
    })
  })

  test('is listed without its keys, and reported', async () => {
    const [listed] = await host.vms.list()
    expect(listed).toMatchObject({ name: 'web-1', vtpm: true })
    expect(listed?.memoryMib).toBeUndefined()
    expect(host.inventory.vms.get(vmId)).toMatchObject({ state: 'stopped', name: 'web-1' })
  })

  test('gives back the octets of the image, from any offset', async () => {
    const whole = await host.vms.readDisk('web-1', 'root', 0, MIB)
    expect(Buffer.from(whole).equals(content.subarray(0, MIB))).toBe(true)
    const part = await host.vms.readDisk('web-1', 'root', 3 * MIB + 7, 1001)
    expect(Buffer.from(part).equals(content.subarray(3 * MIB + 7, 3 * MIB + 1008))).toBe(true)
  })

  test('has one wrapped key for each object, each for its purpose', async () => {
    expect(
      (await host.vms.listKeys()).map(({ object, purpose }) => `${object} ${purpose}`),
    ).toEqual([
      'home vm-home',
      'disk-root vm-disk',
      'disk-data vm-disk',
      'vtpm vtpm-state',
      'vtpm-migration vtpm-migration',
    ])
    expect(new Set(host.keys.seen.map((key) => key.toString('hex'))).size).toBe(5)
  })

  test('has endorsement certificates by the authority for RSA and P-384', async () => {
    const { vtpmCertificates = [] } = await host.vms.show('web-1')
    const certificates = vtpmCertificates.map((pem) => new X509Certificate(pem))
    expect(certificates.map(({ publicKey }) => publicKey.asymmetricKeyType)).toEqual([
      ...['rsa', 'ec', 'rsa'],
    ])
    expect(certificates[0]?.subject).toBe(`CN=${vmId} ek`)
    expect(certificates[2]?.subject).toBe(`CN=${vmId} platform`)
  })

  test('leaves only private files, and no key in any of them or in any process', async () => {
    expect(await findKeys(await secretsOf(host), host.directory)).toEqual([])
    expect(await findWideModes(host.directory)).toEqual([])
    expect((await readdir(`${host.directory}/${vmId}`)).sort()).toEqual([
      ...['disk-data.luks', 'disk-root.luks', 'home.enc', 'keys.json', 'nvram.luks'],
      ...['vm.json', 'vtpm', 'vtpm-backup.permall', 'vtpm.json'],
    ])
  })

  test('would not hide a key from the search for one', async () => {
    const [key = Buffer.alloc(32)] = host.keys.seen
    for (const form of [key, key.toString('hex'), key.toString('base64')]) {
      await writeFile(join(files, 'leak'), form)
      expect(await findKeys([key], files)).toEqual([join(files, 'leak')])
    }
    await rm(join(files, 'leak'))
  })

  test('had no key and no file for others at any moment of its making', () => {
    expect(leaks).toEqual([])
  })

  test('does not have the image in the clear', async () => {
    const disk = await readFile(`${host.directory}/${vmId}/disk-root.luks`)
    expect(disk.includes(content.subarray(MIB, MIB + 64))).toBe(false)
  })

  test('keeps its name from another VM', async () => {
    const again = { name: 'web-1', provider: 'kp', vtpm: false, disks: [] }
    await expect(host.vms.create(again)).rejects.toMatchObject({ code: 'VM_EXISTS' })
  })

  test('shows nothing of its home while the authority is away', async () => {
    host.keys.refusal = new PlatformError('AUTHORITY_UNREACHABLE', 'away')
    const shown = await host.vms.show('web-1')
    expect(shown).toMatchObject({ state: 'locked', lock: { code: 'AUTHORITY_UNREACHABLE' } })
    expect(shown).not.toHaveProperty('memoryMib')
    expect(shown).not.toHaveProperty('vtpmCertificates')
    host.keys.refusal = undefined
    expect(await host.vms.unlock('web-1')).toMatchObject({ state: 'stopped' })
  })

  test('does not read outside a disk, or a disk that is not there', async () => {
    const read = (disk: string, offset: number, length: number) =>
      host.vms.readDisk('web-1', disk, offset, length)
    await expect(read('data', MIB - 1, 2)).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
    await expect(read('data', -1, 2)).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
    await expect(read('data', 0, MIB + 1)).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
    await expect(read('swap', 0, 1)).rejects.toMatchObject({ code: 'VM_DISK_NOT_FOUND' })
  })
})

describe('refused', () => {
  const other = { provider: 'kp', vtpm: false }

  test('a key that is not the one of the disk, of the home, or of the virtual TPM', async () => {
    host.keys.wrongFor = 'disk-root'
    await expect(host.vms.readDisk('web-1', 'root', 0, 1)).rejects.toMatchObject({
      code: 'VM_KEY_WRONG',
    })
    await expect(host.vms.start('web-1')).rejects.toMatchObject({ code: 'VM_KEY_WRONG' })
    host.keys.wrongFor = 'home'
    await expect(host.vms.show('web-1')).rejects.toMatchObject({ code: 'VM_HOME_CORRUPT' })
    host.keys.wrongFor = 'vtpm'
    await expect(host.vms.start('web-1')).rejects.toMatchObject({ code: 'VM_KEY_WRONG' })
    host.keys.wrongFor = undefined
  })

  test.each([
    ['a name with a slash', { name: '../x', disks: [] }],
    ['a name with two dots', { name: 'a..b', disks: [] }],
    ['an upper-case name', { name: 'Web', disks: [] }],
    ['two disks of one name', { name: 'x', disks: [disk('a'), disk('a')] }],
    ['a disk name with a slash', { name: 'x', disks: [disk('a/b')] }],
    ['a disk name that is too long for a key', { name: 'x', disks: [disk('a'.repeat(59))] }],
    ['a disk with neither size nor image', { name: 'x', disks: [{ name: 'a' }] }],
    ['a disk of half a sector', { name: 'x', disks: [{ name: 'a', sizeOctets: MIB + 256 }] }],
  ])('%s', async (_, request) => {
    await expect((async () => host.vms.create({ ...other, ...request }))()).rejects.toMatchObject({
      code: 'REQUEST_INVALID',
    })
  })

  test('an image that is a link, a directory, relative, absent, or larger than its disk', async () => {
    const link = join(files, 'link')
    await symlink(image, link)
    for (const from of [link, files, 'image.raw', join(files, 'none')]) {
      await expect(
        host.vms.create({ ...other, name: 'x', disks: [{ name: 'a', from }] }),
      ).rejects.toMatchObject({ code: 'VM_IMAGE' })
    }
    await expect(
      host.vms.create({
        ...{ ...other, name: 'x' },
        disks: [{ name: 'a', from: image, sizeOctets: MIB }],
      }),
    ).rejects.toMatchObject({ code: 'VM_IMAGE' })
  })

  test('a qcow2 image that takes its data from another file', async () => {
    const overlay = join(files, 'overlay.qcow2')
    await run('qemu-img', ['create', '-f', 'qcow2', '-b', image, '-F', 'raw', overlay])
    const external = join(files, 'external.qcow2')
    const options = `data_file=${join(files, 'external.raw')},data_file_raw=on`
    await run('qemu-img', ['create', '-f', 'qcow2', '-o', options, external, '1M'])
    for (const from of [overlay, external]) {
      await expect(
        host.vms.create({ ...other, name: 'x', disks: [{ name: 'a', from }] }),
      ).rejects.toMatchObject({ code: 'VM_IMAGE' })
    }
  })

  test('a qcow2 image whose tables point nowhere, with the words of the program', async () => {
    const broken = join(files, 'broken.qcow2')
    const qcow2 = await readFile(join(files, 'image.qcow2'))
    qcow2.fill(0xff, 40, 48)
    await writeFile(broken, qcow2)
    await expect(
      host.vms.create({ ...other, name: 'x', disks: [{ name: 'a', from: broken }] }),
    ).rejects.toMatchObject({ code: 'VM_IMAGE', message: expect.stringContaining('L1') })
  })

  test('a certificate for a virtual TPM by another authority', async () => {
    const [one, two] = [await createCertifier(), await createCertifier()]
    await using odd = await createTestHost({
      certifier: { certify: one.certify, authorityPem: two.authorityPem },
    })
    await expect(odd.vms.create({ name: 'x', provider: 'kp', disks: [] })).rejects.toMatchObject({
      code: 'VTPM_CERTIFICATE',
    })
    expect(await directoriesOf(odd)).toEqual([])
  })

  test('a virtual TPM while the authority is away, with the code of that', async () => {
    const certifier = await createCertifier()
    const certify = () => Promise.reject(new PlatformError('AUTHORITY_UNREACHABLE', 'no answer'))
    await using odd = await createTestHost({ certifier: { ...certifier, certify } })
    await expect(odd.vms.create({ name: 'x', provider: 'kp', disks: [] })).rejects.toMatchObject({
      code: 'AUTHORITY_UNREACHABLE',
    })
    expect(await directoriesOf(odd)).toEqual([])
  })

  test('a VM of a key provider that does not answer, with no word of keys that there never were', async () => {
    const { logger, lines } = memoryLogger()
    await using odd = await createTestHost({ logger })
    odd.keys.refusal = new PlatformError('AUTHORITY_UNREACHABLE', 'no answer')
    await expect(odd.vms.create({ name: 'x', provider: 'kp', disks: [] })).rejects.toMatchObject({
      code: 'AUTHORITY_UNREACHABLE',
    })
    expect(await directoriesOf(odd)).toEqual([])
    expect(lines.filter((line) => line.includes('vm.keys-not-released'))).toEqual([])
  })

  test('a creation that is cancelled while a disk is filled', async () => {
    const cancel = new AbortController()
    const onProgress = (step: string) => {
      if (step === 'a: fill') cancel.abort(new PlatformError('TASK_CANCELLED', 'cancelled'))
    }
    const request = { ...other, name: 'x', disks: [{ name: 'a', from: image }] }
    await expect(
      host.vms.create(request, { onProgress, signal: cancel.signal }),
    ).rejects.toMatchObject({ code: 'TASK_CANCELLED' })
  })

  test('and nothing of what was refused remains', async () => {
    expect((await directoriesOf(host)).length).toBe(1)
  })
})

test('another volume, or one of another cipher, in the place of a disk is not opened', async () => {
  const [vm] = await host.vms.list()
  const folder = `${host.directory}/${vm?.vmId}`
  const path = `${folder}/disk-data.luks`
  const volume = await readFile(path)
  for (const [offset, text] of [
    [8, 'cipher_null'],
    [40, 'ecb'],
    [168, '00000000-0000-0000-0000-000000000000'],
  ] as const) {
    const altered = Buffer.from(volume)
    altered.write(`${text}\0`, offset, 'latin1')
    await writeFile(path, altered)
    await expect(host.vms.readDisk('web-1', 'data', 0, 1)).rejects.toMatchObject({
      code: 'VM_DISK_CORRUPT',
    })
    await expect(host.vms.start('web-1')).rejects.toMatchObject({ code: 'VM_DISK_CORRUPT' })
  }
  for (const [offset, value] of [
    // rounds of PBKDF2 for the digest and for the first key slot, and its stripes: hours of work, or all memory
    [164, 0xffff_ffff],
    [212, 0xffff_ffff],
    [252, 0x0fff_ffff],
  ] as const) {
    const altered = Buffer.from(volume)
    altered.writeUInt32BE(value, offset)
    await writeFile(path, altered)
    await expect(host.vms.readDisk('web-1', 'data', 0, 1)).rejects.toMatchObject({
      code: 'VM_DISK_CORRUPT',
    })
  }
  await writeFile(path, volume.subarray(0, -512))
  await expect(host.vms.start('web-1')).rejects.toMatchObject({ code: 'VM_DISK_CORRUPT' })
  await writeFile(path, volume)
  expect((await host.vms.readDisk('web-1', 'data', 0, 1)).length).toBe(1)
})

test('a VM whose descriptor was altered shows no home', async () => {
  const [vm] = await host.vms.list()
  const path = `${host.directory}/${vm?.vmId}/vm.json`
  const text = await readFile(path, 'utf8')
  await writeFile(path, text.replace('"web-1"', '"web-2"'))
  await expect(host.vms.show('web-2')).rejects.toMatchObject({ code: 'VM_HOME_CORRUPT' })
  await writeFile(path, '{')
  expect(await host.vms.list()).toEqual([])
  expect(await host.vms.listUnreadable()).toEqual([
    { vmId: vm?.vmId, message: 'vm.json is not JSON text' },
  ])
  await expect(host.vms.show(vm?.vmId ?? '')).rejects.toMatchObject({
    code: 'VM_DESCRIPTOR_CORRUPT',
  })
  await writeFile(path, text)
  expect(await host.vms.listUnreadable()).toEqual([])
})

test('deletes a VM, and the authority being away does not matter', async () => {
  host.inventory.isAway = true
  await host.vms.delete('web-1')
  host.inventory.isAway = false
  expect(await directoriesOf(host)).toEqual([])
  await expect(host.vms.show('web-1')).rejects.toMatchObject({ code: 'VM_NOT_FOUND' })
  await expect(host.vms.delete('web-1')).rejects.toMatchObject({ code: 'VM_NOT_FOUND' })
})

function disk(name: string) {
  return { name, sizeOctets: MIB }
}
