import { execFile, execFileSync, spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import {
  chmod,
  chown,
  cp,
  link,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { pluggedDisks } from '../../../src/host-agent/vm/qemu-disks.js'
import { Qmp } from '../../../src/host-agent/vm/qmp.js'
import { attachAndDie, detachAndDie } from './killed.js'
import {
  createTestHost,
  findKeys,
  findWideModes,
  processesNaming,
  type TestHost,
} from './support.js'

const MIB = 1024 * 1024
const IS_SLOW = process.env['SLOW'] === '1'

let folder: string
let host: TestHost
let words: string
let count = 0
/** Names of two VMs of each test. */
let a: string
let b: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sigillo-import-'))
  host = await createTestHost({ importDirectories: [folder] })
})
afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await rm(folder, { recursive: true })
})
beforeEach(async () => {
  count += 1
  ;[a, b] = [`a${count}`, `b${count}`]
  words = `ledger ${count} of the harbour`
})

const make = (name: string, change: object = {}) =>
  host.vms.create({ name, provider: 'kp', memoryMib: 64, vtpm: false, disks: [], ...change })

async function image(name: string, text = words): Promise<string> {
  const path = join(folder, name)
  const content = randomBytes(MIB)
  content.write(text)
  await writeFile(path, content, { mode: 0o600 })
  return path
}

/** A VM with a disk of some words. */
const makeWithDisk = async (name: string) =>
  make(name, { disks: [{ name: 'data', from: await image(`${name}.img`) }] })

const read = async (vm: string, disk: string, from = host.vms) =>
  Buffer.from(await from.readDisk(vm, disk, 0, words.length)).toString()

const codeOf = (attempt: Promise<unknown>) =>
  attempt.then(
    () => 'none',
    (error) => error.code,
  )

describe('a disk that is detached from one VM and attached to another', () => {
  test('is the same file with the same data, under a key that is wrapped for the other VM', async () => {
    const from = await makeWithDisk(a)
    const to = await make(b)
    const released = host.keys.released.length
    const { ino } = await stat(`${host.directory}/${from.vmId}/disk-data.luks`)
    const before = JSON.parse(await readFile(`${host.directory}/${from.vmId}/keys.json`, 'utf8'))
    const wrapped = before.keys.find(
      (one: { object: string }) => one.object === 'disk-data',
    ).wrapped

    const { vm, detached } = await host.vms.detachDisk(a, 'data')
    expect(vm.disks).toEqual([])
    expect((await readdir(detached.path)).sort()).toEqual(['disk.json', 'disk.luks'])
    expect(await findWideModes(detached.path)).toEqual([])
    expect(await findKeys(host.keys.seen, host.directory)).toEqual([])
    expect(await host.vms.listDetached()).toContainEqual(detached)
    await host.vms.settleReleases()
    expect(host.keys.released.length).toBe(released)

    const attached = await host.vms.attachDisk(b, { name: 'log', from: detached.path })
    expect(attached.disks).toMatchObject([{ name: 'log', format: 'luks1', sizeOctets: MIB }])
    expect(await read(b, 'log')).toBe(words)
    expect((await stat(`${host.directory}/${to.vmId}/disk-log.luks`)).ino).toBe(ino)
    expect(existsSync(detached.path)).toBe(false)
    await host.vms.settleReleases()
    expect(host.keys.released.slice(released)).toEqual([wrapped])
    expect(await readFile(`${host.directory}/${to.vmId}/keys.json`, 'utf8')).not.toContain(wrapped)
    expect(await host.vms.start(b)).toMatchObject({ state: 'running' })
    await host.vms.stop(b, { graceSeconds: 0 })
  })

  test('can be carried to another host that its key provider serves, and to no other', async () => {
    await makeWithDisk(a)
    const { detached } = await host.vms.detachDisk(a, 'data')
    const carried = join(folder, 'carried')
    await cp(detached.path, carried, { recursive: true, mode: 0 })
    await using other = await createTestHost({ keys: host.keys, importDirectories: [folder] })
    await using stranger = await createTestHost({ importDirectories: [folder] })
    for (const { vms } of [other, stranger]) {
      await vms.create({ name: 'x', provider: 'kp', vtpm: false, memoryMib: 64, disks: [] })
    }
    const request = { name: 'data', from: carried }
    expect(await codeOf(stranger.vms.attachDisk('x', request))).toBe('FORBIDDEN')
    expect((await readdir(carried)).sort()).toEqual(['disk.json', 'disk.luks'])
    await other.vms.attachDisk('x', request)
    expect(await read('x', 'data', other.vms)).toBe(words)
  })

  test('can be plain, for a VM that is plain', async () => {
    await make(a, { plain: true, provider: undefined, disks: [{ name: 'data', sizeOctets: MIB }] })
    await make(b, { provider: undefined })
    const { detached } = await host.vms.detachDisk(a, 'data')
    expect(detached).toMatchObject({ encrypted: false })
    const { disks } = await host.vms.attachDisk(b, { name: 'data', from: detached.path })
    expect(disks).toMatchObject([{ format: 'raw' }])
  })
})

describe('an image', () => {
  test('that is raw and to be plain becomes the disk as it is', async () => {
    const { vmId } = await make(a)
    const path = await image('raw.img')
    const { ino } = await stat(path)
    await host.vms.attachDisk(a, { name: 'data', from: path, plain: true })
    expect(existsSync(path)).toBe(false)
    expect((await stat(`${host.directory}/${vmId}/disk-data.raw`)).ino).toBe(ino)
    expect(await read(a, 'data')).toBe(words)
  })

  test('is copied, and stays, where it is to be encrypted or is no raw one', async () => {
    await make(a)
    const path = await image('kept.img')
    const qcow2 = join(folder, 'kept.qcow2')
    execFileSync('qemu-img', ['convert', '-O', 'qcow2', '-f', 'raw', path, qcow2])
    await chmod(qcow2, 0o600)
    await host.vms.attachDisk(a, { name: 'one', from: path })
    await host.vms.attachDisk(a, { name: 'two', from: qcow2 })
    const { disks } = await host.vms.attachDisk(a, { name: 'three', from: qcow2, plain: true })
    expect(disks.map(({ format }) => format)).toEqual(['luks1', 'luks1', 'raw'])
    for (const disk of ['one', 'two', 'three']) expect(await read(a, disk)).toBe(words)
    for (const kept of [path, qcow2]) expect(existsSync(kept)).toBe(true)
  })
})

test('an image is read for who is not on the host from directories of disks alone', async () => {
  const path = await image('remote.img')
  await host.vms.requireImportable(path)
  expect(await codeOf(host.vms.requireImportable('/etc/shadow'))).toBe('VM_IMPORT_PATH')
  await symlink('/etc/shadow', join(folder, 'shadow'))
  expect(await codeOf(host.vms.requireImportable(join(folder, 'shadow')))).toBe('VM_IMPORT_FILE')
})

describe('nothing is attached, and all stays as it was, for', () => {
  let path: string
  let vmFiles: readonly string[]
  let root: string

  beforeEach(async () => {
    const { vmId } = await make(a)
    root = `${host.directory}/${vmId}`
    vmFiles = await readdir(root)
    path = await image(`${a}.raw`)
  })

  const attempt = async (from: string, change: object = { plain: true }) => {
    const code = await codeOf(host.vms.attachDisk(a, { name: 'data', from, ...change }))
    expect((await readdir(root)).sort()).toEqual([...vmFiles].sort())
    expect((await host.vms.list()).find(({ name }) => name === a)?.disks).toEqual([])
    return code
  }

  test('a path that is relative, not allowed, or leads out of where it is allowed', async () => {
    for (const from of ['disk.raw', '/etc/passwd', `${folder}/../${a}`, `${folder}/..`, folder]) {
      expect(await attempt(from)).toBe('VM_IMPORT_PATH')
    }
    await symlink('/etc', join(folder, `${a}-out`))
    expect(await attempt(join(folder, `${a}-out`, 'passwd'))).toBe('VM_IMPORT_PATH')
    expect(await attempt(`${root}/vm.json`)).toBe('VM_IMPORT_PATH')
  })

  test('a link, a pipe, a device, a file with two names, or none', async () => {
    const at = (name: string) => join(folder, `${a}-${name}`)
    await symlink(path, at('link'))
    execFileSync('mkfifo', [at('pipe')])
    execFileSync('mknod', [at('zero'), 'c', '1', '5'])
    for (const name of ['link', 'pipe', 'zero', 'none']) {
      expect(await attempt(at(name))).toBe('VM_IMPORT_FILE')
    }
    await link(path, at('second'))
    expect(await attempt(path)).toBe('VM_IMPORT_FILE')
  })

  test('a file that is of another user or can be written by others, or that others can replace', async () => {
    await chown(path, 65534, 65534)
    expect(await attempt(path)).toBe('VM_IMPORT_FILE')
    await chown(path, 0, 0)
    await chmod(path, 0o620)
    expect(await attempt(path)).toBe('VM_IMPORT_FILE')
    await chmod(path, 0o600)
    const open = join(folder, `${a}-open`)
    await mkdir(open)
    await chmod(open, 0o777)
    await rename(path, join(open, 'x.raw'))
    expect(await attempt(join(open, 'x.raw'))).toBe('VM_IMPORT_FILE')
  })

  test('a file that a program has open', async () => {
    await using file = await open(path)
    const holder = spawn('sleep', ['60'], { stdio: [file.fd, 'ignore', 'ignore'] })
    try {
      await expect.poll(() => attempt(path)).toBe('VM_DISK_IN_USE')
    } finally {
      holder.kill('SIGKILL')
    }
  })

  test('an image with a backing file, one that is empty, and a LUKS volume of somebody else', async () => {
    const backed = join(folder, `${a}.qcow2`)
    const secret = ['create', '-q', '-f', 'qcow2', '-u', '-b', '/etc/shadow', '-F', 'raw']
    execFileSync('qemu-img', [...secret, backed, '1M'])
    await chmod(backed, 0o600)
    expect(await attempt(backed)).toBe('VM_IMAGE')
    await writeFile(path, '')
    expect(await attempt(path)).toBe('VM_IMAGE')
    await writeFile(path, new Uint8Array(4 * MIB))
    const format = ['luksFormat', '-q', '--type', 'luks1', '--pbkdf-force-iterations', '1000']
    execFileSync('cryptsetup', [...format, '--key-file', '-', path], { input: 'x' })
    expect(await attempt(path)).toBe('VM_IMAGE')
  })

  test('a disk that is not what its record says, and a record that says too much', async () => {
    const other = await makeWithDisk(b)
    const { detached } = await host.vms.detachDisk(b, 'data')
    const bundle = detached.path
    const record = JSON.parse(await readFile(`${bundle}/disk.json`, 'utf8'))
    const from = async (change: (record: typeof Object) => object, name = 'disk.json') => {
      await writeFile(`${bundle}/${name}`, JSON.stringify(change(structuredClone(record))))
      const code = await attempt(bundle, {})
      await writeFile(`${bundle}/disk.json`, JSON.stringify(record))
      return code
    }
    const encrypted = (change: object) =>
      from((one) => ({ ...one, encrypted: { ...record.encrypted, ...change } }))
    expect(await from((one) => ({ ...one, more: 1 }))).toBe('VM_DISK_BUNDLE')
    expect(await from((one) => ({ ...one, sizeOctets: 2 ** 50 }))).toBe('VM_DISK_BUNDLE')
    expect(await from((one) => ({ ...one, sizeOctets: 2 * MIB }))).toBe('VM_DISK_CORRUPT')
    expect(await encrypted({ volumeId: other.vmId })).toBe('VM_DISK_CORRUPT')
    expect(await encrypted({ object: 'home' })).toBe('VM_DISK_BUNDLE')
    expect(await encrypted({ object: 'disk-other' })).toBe('FORBIDDEN')
    expect(await encrypted({ wrapped: '../../x' })).toBe('VM_DISK_BUNDLE')
    // that of another VM does not open what was wrapped for this one
    expect(await from((one) => ({ ...one, vm: { vmId: randomUUID(), name: b } }))).toMatch(
      /FORBIDDEN/,
    )
    const disk = await readFile(`${bundle}/disk.luks`)
    await writeFile(
      `${bundle}/disk.luks`,
      Buffer.concat([Buffer.alloc(2 * MIB), disk.subarray(2 * MIB)]),
    )
    expect(await attempt(bundle, {})).toBe('VM_DISK_CORRUPT')
    await writeFile(`${bundle}/disk.luks`, disk)
    host.keys.wrongFor = 'disk-data'
    expect(await attempt(bundle, {})).toMatch(/VM_KEY_WRONG/)
    host.keys.wrongFor = undefined
    await host.vms.settleReleases()
    expect(host.keys.released).not.toContain(record.encrypted.wrapped)
    await host.vms.attachDisk(a, { name: 'data', from: bundle })
    expect(await read(a, 'data')).toBe(words)
  })

  test('an encrypted disk in a plain VM, and a name that the VM has', async () => {
    await makeWithDisk(b)
    const { detached } = await host.vms.detachDisk(b, 'data')
    await make(`${a}p`, { provider: undefined })
    const from = detached.path
    expect(await codeOf(host.vms.attachDisk(`${a}p`, { name: 'data', from }))).toBe('VM_HOME_PLAIN')
    await host.vms.attachDisk(a, { name: 'data', from })
    const again = host.vms.attachDisk(a, { name: 'data', from: path, plain: true })
    expect(await codeOf(again)).toBe('VM_DISK_EXISTS')
    expect(await codeOf(host.vms.detachDisk(a, 'none'))).toBe('VM_DISK_NOT_FOUND')
    expect(await codeOf(host.vms.attachDisk('nobody', { name: 'data', from: path }))).toBe(
      'VM_NOT_FOUND',
    )
  })
})

describe('a VM that runs', () => {
  /** The first octets of a node as QEMU gives them to its guest. */
  const readNode = async (vmId: string, node: string, length: number) => {
    await using qmp = await Qmp.connect(`${host.directory}/${vmId}/run/qmp.sock`)
    const path = join(folder, 'nbd.sock')
    await qmp.execute('nbd-server-start', { addr: { type: 'unix', data: { path } } })
    await qmp.execute('block-export-add', { type: 'nbd', id: 'test', 'node-name': node })
    const url = `nbd+unix:///${node}?socket=${path}`
    const out = join(folder, 'node.raw')
    await promisify(execFile)('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', url, out])
    await qmp.execute('nbd-server-stop')
    return (await readFile(out)).subarray(0, length).toString()
  }
  const query = async (vmId: string, command: string, parameters: object = {}) => {
    await using qmp = await Qmp.connect(`${host.directory}/${vmId}/run/qmp.sock`)
    return JSON.stringify(await qmp.execute(command, { ...parameters }))
  }
  const objects = (vmId: string) => query(vmId, 'qom-list', { path: '/objects' })

  test('gets an encrypted disk, loses it, and has no key of it left', async () => {
    await makeWithDisk(a)
    const { detached } = await host.vms.detachDisk(a, 'data')
    const { vmId } = await make(b, { disks: [{ name: 'root', sizeOctets: MIB }] })
    await host.vms.start(b)
    const vm = await host.vms.attachDisk(b, { name: 'hot', from: detached.path })
    expect(vm).toMatchObject({ state: 'running', disks: [{ name: 'root' }, { name: 'hot' }] })
    expect(await readNode(vmId, 'disk1', words.length)).toBe(words)
    expect(await objects(vmId)).not.toContain('secret')
    expect(await findKeys(host.keys.seen, host.directory)).toEqual([])

    await host.vms.growDisk(b, 'hot', 2 * MIB)
    expect(await query(vmId, 'query-named-block-nodes')).toContain(`"virtual-size":${2 * MIB}`)
    const { detached: again } = await host.vms.detachDisk(b, 'hot')
    expect(await query(vmId, 'query-named-block-nodes')).not.toContain('disk1')
    expect(await host.vms.addDisk(b, { name: 'new', sizeOctets: MIB })).toMatchObject({
      disks: [{ name: 'root' }, { name: 'new' }],
    })
    expect(await query(vmId, 'query-named-block-nodes')).toContain('disk1')
    await host.vms.removeDisk(b, 'new')
    expect((await readdir(`${host.directory}/${vmId}`)).sort()).toEqual(
      ['disk-root.luks', 'home.enc', 'keys.json', 'nvram.luks', 'run', 'vm.json'].sort(),
    )
    await host.vms.stop(b, { graceSeconds: 0 })
    await host.vms.attachDisk(b, { name: 'back', from: again.path })
    expect(await read(b, 'back')).toBe(words)
    expect(await host.vms.start(b)).toMatchObject({ state: 'running' })
    await host.vms.stop(b, { graceSeconds: 0 })
  })

  test('is as it was when a disk does not open with its key', async () => {
    await makeWithDisk(a)
    const { detached } = await host.vms.detachDisk(a, 'data')
    const { vmId } = await make(b)
    await host.vms.start(b)
    await writeFile(join(detached.path, 'disk.luks'), new Uint8Array(3 * MIB))
    const from = detached.path
    expect(await codeOf(host.vms.attachDisk(b, { name: 'hot', from }))).toBe('VM_DISK_CORRUPT')
    expect(await query(vmId, 'query-named-block-nodes')).not.toContain('disk.luks')
    expect(await objects(vmId)).not.toContain('secret')
    await host.vms.stop(b, { graceSeconds: 0 })
  })
})

describe('an agent that is killed', () => {
  const setUp = async () => {
    await makeWithDisk(a)
    const { vmId } = await make(b)
    const { detached } = await host.vms.detachDisk(a, 'data')
    return { from: detached.path, root: `${host.directory}/${vmId}` }
  }
  const recover = async () => {
    await using next = host.restart()
    await next.recover()
    expect(processesNaming(`${host.directory}/`)).toEqual([])
  }

  test.each(IS_SLOW ? ['keys', 'take', 'verify', 'commit'] : ['verify'])(
    'while it attaches a disk, at the step %s, leaves it where it was',
    async (step) => {
      const { from, root } = await setUp()
      await attachAndDie(host, b, from, `taken: ${step}`)
      await recover()
      expect(await readdir(root)).not.toContain('change')
      expect((await stat(`${from}/disk.luks`)).nlink).toBe(1)
      await host.vms.attachDisk(b, { name: 'taken', from })
      expect(await read(b, 'taken')).toBe(words)
    },
  )

  test('while it gives a disk to a VM that runs, takes it away again when it recovers', async () => {
    const { from, root } = await setUp()
    await host.vms.start(b)
    await attachAndDie(host, b, from, 'taken: commit')
    const disks = async () => {
      await using qmp = await Qmp.connect(`${root}/run/qmp.sock`)
      return [...(await pluggedDisks(qmp)).keys()]
    }
    expect(await disks()).toEqual(['taken'])
    await using next = host.restart()
    await next.recover()
    expect(await disks()).toEqual([])
    await next.stop(b, { graceSeconds: 0 })
    await next.attachDisk(b, { name: 'taken', from })
    expect(await read(b, 'taken')).toBe(words)
  })

  test.each(IS_SLOW ? ['place', 'erase'] : ['place'])(
    'while it attaches a disk, at the step %s, has attached it when it recovers',
    async (step) => {
      const { from, root } = await setUp()
      const record = JSON.parse(await readFile(`${from}/disk.json`, 'utf8'))
      await attachAndDie(host, b, from, `taken: ${step}`)
      await recover()
      expect(await read(b, 'taken')).toBe(words)
      expect(existsSync(from)).toBe(false)
      expect((await stat(`${root}/disk-taken.luks`)).nlink).toBe(1)
      await host.vms.settleReleases()
      expect(host.keys.released).toContain(record.encrypted.wrapped)
    },
  )

  test.each(IS_SLOW ? ['record', 'commit', 'place', 'erase'] : ['commit', 'place'])(
    'while it detaches one, at the step %s, has it in one place when it recovers, with its key',
    async (step) => {
      const { from } = await setUp()
      await host.vms.attachDisk(b, { name: 'taken', from })
      await detachAndDie(host, b, `taken: ${step}`)
      await recover()
      const isBefore = step === 'record' || step === 'commit'
      const bundles = (await host.vms.listDetached()).filter(({ vm }) => vm.name === b)
      expect(bundles.length).toBe(isBefore ? 0 : 1)
      await host.vms.settleReleases()
      const [bundle] = bundles
      if (bundle) await host.vms.attachDisk(b, { name: 'taken', from: bundle.path })
      expect(await read(b, 'taken')).toBe(words)
    },
  )
})
