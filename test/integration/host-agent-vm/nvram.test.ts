import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  copyFile,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DEFAULT_FIRMWARE } from '../../../src/host-agent/vm/accelerator.js'
import { Qmp } from '../../../src/host-agent/vm/qmp.js'
import {
  COUNTER_ADDRESS,
  COUNTER_MAGIC,
  countingGuest,
  MARK_ADDRESS,
  MARK_NAME,
  MARK_OCTETS,
} from '../../helpers/counting-guest.js'
import { startAndDie } from './killed.js'
import {
  asOfBefore,
  createTestHost,
  directoriesOf,
  processesNaming,
  readNvram,
  type TestHost,
} from './support.js'

const BOOT_MS = 120_000
const MARK = randomBytes(MARK_OCTETS)
const TEMPLATE = '/usr/share/OVMF/OVMF_VARS_4M.fd'

let host: TestHost
let files: string
let folder: string

beforeAll(async () => {
  host = await createTestHost()
  files = await mkdtemp(join(tmpdir(), 'sigillo-nvram-'))
  await writeFile(join(files, 'guest.raw'), countingGuest(MARK))
  const { vmId } = await host.vms.create({
    ...{ name: 'vm', provider: 'kp', memoryMib: 128, vtpm: false },
    disks: [{ name: 'root', from: join(files, 'guest.raw') }],
  })
  folder = `${host.directory}/${vmId}`
})

afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await rm(files, { recursive: true })
})

/** Octets of the memory of the guest. */
async function memory(address: number, octets: number): Promise<Buffer> {
  await using qmp = await Qmp.connect(`${folder}/run/qmp.sock`)
  const command = `xp /${octets}bx ${address}`
  const text = String(await qmp.execute('human-monitor-command', { 'command-line': command }))
  const values = [...text.matchAll(/ 0x([0-9a-f]{2})\b/g)].map(([, value = '']) => value)
  return Buffer.from(values.join(''), 'hex')
}

/** Starts the VM, and what its guest found in the variable when it is so far. */
async function bootAndReadMark(): Promise<Buffer> {
  await host.vms.start('vm')
  for (const end = Date.now() + BOOT_MS; Date.now() < end; await delay(100)) {
    const magic = await memory(COUNTER_ADDRESS, COUNTER_MAGIC.length)
    if (magic.toString('latin1') === COUNTER_MAGIC) return memory(MARK_ADDRESS, MARK_OCTETS)
  }
  throw new Error('the guest does not boot')
}

/** Files of the VM with the mark, or with the name of a variable as firmware writes it. */
async function filesWithVariables(): Promise<readonly string[]> {
  const needles = [MARK, ...[MARK_NAME, 'BootOrder'].map((name) => Buffer.from(name, 'utf16le'))]
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const found: string[] = []
  for (const entry of entries.filter((one) => one.isFile())) {
    const content = await readFile(join(entry.parentPath, entry.name))
    if (needles.some((needle) => content.includes(needle))) found.push(entry.name)
  }
  return found
}

describe('a variable that a guest writes', () => {
  test('is in no file of its VM, while that runs and after it', async () => {
    expect(await bootAndReadMark()).toEqual(Buffer.alloc(MARK_OCTETS))
    expect(await filesWithVariables()).toEqual([])
    await host.vms.stop('vm', { graceSeconds: 0 })
    expect(await filesWithVariables()).toEqual([])
  }, 240_000)

  test('is there when the VM is started again', async () => {
    expect(await bootAndReadMark()).toEqual(MARK)
    await host.vms.stop('vm', { graceSeconds: 0 })
  }, 240_000)
})

const refused = (work: Promise<unknown>, code: string) =>
  expect(work).rejects.toMatchObject({ code })

async function makeVm(name: string, provider?: string): Promise<string> {
  const { vmId } = await host.vms.create({
    name,
    ...(provider ? { provider } : {}),
    vtpm: false,
    disks: [],
  })
  return vmId
}

const rootOf = (vmId: string) => `${host.directory}/${vmId}`
const filesOf = async (vmId: string) => (await readdir(rootOf(vmId))).sort()
const ENCRYPTED = ['home.enc', 'keys.json', 'nvram.luks', 'vm.json']
const PLAIN = ['home.json', 'keys.json', 'nvram.fd', 'vm.json']

/** Variables like those of a machine that was used, with a mark in them. */
async function markedVariables(): Promise<Buffer> {
  const octets = await readFile(TEMPLATE)
  randomBytes(4096).copy(octets, octets.length - 4096)
  return octets
}

describe('firmware variables go with the home of their VM', () => {
  let vmId: string
  let variables: Buffer

  beforeAll(async () => {
    variables = await markedVariables()
    vmId = await makeVm('home')
    await writeFile(`${rootOf(vmId)}/nvram.fd`, variables)
  })

  test('they are plain when it is, and encrypted with it', async () => {
    expect(await filesOf(vmId)).toEqual(PLAIN)
    await host.vms.encrypt('home', { provider: 'kp' })
    expect(await filesOf(vmId)).toEqual(ENCRYPTED)
    expect(await readNvram(host, vmId)).toEqual(variables)
    expect(await host.vms.show('home')).toMatchObject({ nvramEncrypted: true })
  })

  test('they have another key when it has one, and not when that is wrapped anew', async () => {
    const before = await readFile(`${rootOf(vmId)}/nvram.luks`)
    await host.vms.rewrapKeys('kp')
    expect((await readFile(`${rootOf(vmId)}/nvram.luks`)).equals(before)).toBe(true)
    await host.vms.recrypt('home', { home: true })
    expect(await readNvram(host, vmId)).toEqual(variables)
    await copyFile(`${rootOf(vmId)}/nvram.luks`, join(files, 'kept'))
    await writeFile(`${rootOf(vmId)}/nvram.luks`, before)
    await expect(readNvram(host, vmId)).rejects.toThrow()
    await refused(host.vms.start('home'), 'VM_NVRAM_CORRUPT')
    await copyFile(join(files, 'kept'), `${rootOf(vmId)}/nvram.luks`)
  })

  test('they stay the same under another key provider', async () => {
    await host.vms.recrypt('home', { provider: 'kp2' })
    expect(await readNvram(host, vmId)).toEqual(variables)
    await host.vms.recrypt('home', { provider: 'kp' })
    expect(await readNvram(host, vmId)).toEqual(variables)
  })

  test('they follow the storage policy of the home', async () => {
    await host.vms.applyPolicy('home', { home: { encrypted: false } })
    expect(await filesOf(vmId)).toEqual(PLAIN)
    expect(await host.vms.show('home')).toMatchObject({ nvramEncrypted: false })
    await host.vms.applyPolicy('home', { home: { encrypted: true, provider: 'kp' } })
    expect(await filesOf(vmId)).toEqual(ENCRYPTED)
    expect(await readNvram(host, vmId)).toEqual(variables)
  })

  test('a clone has them under a key of its own, and neither VM takes those of the other', async () => {
    await host.vms.clone('home', { name: 'clone' })
    const clone = (await host.vms.show('clone')).vmId
    expect(await readNvram(host, clone)).toEqual(variables)
    const [own, others] = [vmId, clone].map((id) => `${rootOf(id)}/nvram.luks`)
    if (!own || !others) throw new TypeError('there are two')
    await copyFile(own, join(files, 'kept'))
    const octets = await readFile(others)
    await writeFile(own, octets)
    await refused(host.vms.start('home'), 'VM_NVRAM_CORRUPT')
    // the name of the volume, in its header
    octets.set((await readFile(join(files, 'kept'))).subarray(168, 208), 168)
    await writeFile(own, octets)
    for (const attempt of [
      () => host.vms.start('home'),
      () => host.vms.decrypt('home', {}),
      () => host.vms.recrypt('home', {}),
      () => host.vms.clone('home', { name: 'another' }),
    ]) {
      await refused(attempt(), 'VM_NVRAM_CORRUPT')
    }
    expect(processesNaming(rootOf(vmId))).toEqual([])
    expect(await filesOf(vmId)).toEqual(ENCRYPTED)
    await copyFile(join(files, 'kept'), own)
    await host.vms.delete('clone')
  })

  test('they go back with a snapshot, and are not taken when somebody changed them there', async () => {
    await host.vms.createSnapshot('home', { name: 'first' })
    await host.vms.start('home')
    await host.vms.stop('home', { graceSeconds: 0 })
    await writeFile(`${rootOf(vmId)}/nvram.luks`, Buffer.alloc(10))
    await refused(host.vms.start('home'), 'VM_NVRAM_CORRUPT')
    await host.vms.revertSnapshot('home', 'first')
    expect(await readNvram(host, vmId)).toEqual(variables)
    const [snapshot = ''] = await readdir(`${rootOf(vmId)}/snapshots`)
    const copy = `${rootOf(vmId)}/snapshots/${snapshot}/nvram.luks`
    const octets = await readFile(copy)
    octets[octets.length - 1] = (octets.at(-1) ?? 0) ^ 1
    await writeFile(copy, octets)
    await refused(host.vms.revertSnapshot('home', 'first'), 'VM_SNAPSHOT_CORRUPT')
    await host.vms.removeSnapshot('home', 'first')
  })

  test('they are those of a new machine when they are reset, though there are snapshots', async () => {
    await host.vms.createSnapshot('home', { name: 'used' })
    await host.vms.resetNvram('home')
    expect(await readNvram(host, vmId)).toEqual(await readFile(TEMPLATE))
    await host.vms.revertSnapshot('home', 'used')
    expect(await readNvram(host, vmId)).toEqual(variables)
    await host.vms.removeSnapshot('home', 'used')
  })

  test('they are plain again with it', async () => {
    await host.vms.decrypt('home', {})
    expect((await filesOf(vmId)).filter((name) => name !== 'snapshots')).toEqual(PLAIN)
    expect(await readFile(`${rootOf(vmId)}/nvram.fd`)).toEqual(variables)
  })
})

describe('encrypted firmware variables', () => {
  let vmId: string
  let volume: string

  beforeAll(async () => {
    vmId = await makeVm('damaged', 'kp')
    volume = `${rootOf(vmId)}/nvram.luks`
  })

  const damages: Readonly<Record<string, () => Promise<unknown>>> = {
    'are missing': () => rm(volume),
    'are missing, with plain ones in their place': async () => {
      await rm(volume)
      await copyFile(TEMPLATE, `${rootOf(vmId)}/nvram.fd`)
    },
    'are cut short': () => truncate(volume, 2 * 1024 * 1024),
    'are longer than they were': () => truncate(volume, 4 * 1024 * 1024),
    'are a plain file': () => copyFile(TEMPLATE, volume),
    'are a link': async () => {
      await rename(volume, join(files, 'linked'))
      await symlink(join(files, 'linked'), volume)
    },
    'have another way of encryption': async () => {
      const octets = await readFile(volume)
      octets.write('cipher_null\0', 8, 'latin1')
      await writeFile(volume, octets)
    },
    'have another key in every slot': async () => {
      const octets = await readFile(volume)
      octets.fill(7, 4096, 2 * 1024 * 1024)
      await writeFile(volume, octets)
    },
  }

  for (const [what, damage] of Object.entries(damages)) {
    test(`are refused when they ${what}`, async () => {
      const kept = await readFile(volume)
      await damage()
      await refused(host.vms.start('damaged'), 'VM_NVRAM_CORRUPT')
      await refused(host.vms.decrypt('damaged', {}), 'VM_NVRAM_CORRUPT')
      expect(await host.vms.show('damaged')).toMatchObject({ state: 'stopped' })
      // the way on: those of a new machine
      expect(await host.vms.resetNvram('damaged')).toMatchObject({ nvramEncrypted: true })
      expect(await readNvram(host, vmId)).toEqual(await readFile(TEMPLATE))
      await writeFile(volume, kept, { mode: 0o600 })
      await refused(host.vms.start('damaged'), 'VM_NVRAM_CORRUPT')
      await host.vms.resetNvram('damaged')
      await rm(`${rootOf(vmId)}/nvram.fd`, { force: true })
    })
  }

  test('start when they are those of a new machine, and are not reset meanwhile', async () => {
    await host.vms.start('damaged')
    await refused(host.vms.resetNvram('damaged'), 'VM_RUNNING')
    await refused(host.vms.resetNvram('nobody'), 'VM_NOT_FOUND')
    await host.vms.stop('damaged', { graceSeconds: 0 })
  })
})

test('a VM is not made with a file that cannot be firmware variables, and nothing of it remains', async () => {
  const pipe = join(files, 'pipe')
  execFileSync('mkfifo', [pipe])
  const odd = join(files, 'odd')
  await writeFile(odd, Buffer.alloc(1000))
  const before = await directoriesOf(host)
  for (const variables of [pipe, odd, files, join(files, 'nothing')]) {
    await using other = host.restart({ firmware: { ...DEFAULT_FIRMWARE, variables } })
    for (const more of [{}, { provider: 'kp', vtpm: false }]) {
      const request = { name: 'odd', disks: [], ...more }
      await refused(other.create(request), 'VM_NVRAM_CORRUPT')
    }
  }
  expect(await directoriesOf(host)).toEqual(before)
})

describe('an encrypted VM whose variables an agent of before left plain', () => {
  let vmId: string
  let variables: Buffer

  beforeAll(async () => {
    variables = await markedVariables()
    vmId = await makeVm('before', 'kp')
    await asOfBefore(host, vmId, variables)
  })

  test('is what it was when its next start is cut off before they are encrypted', async () => {
    expect(await host.vms.show('before')).toMatchObject({ nvramEncrypted: false })
    await startAndDie(host, 'before', 'home: commit')
    await host.restart().recover()
    expect(await filesOf(vmId)).toEqual(['home.enc', 'keys.json', 'nvram.fd', 'vm.json'])
    expect(await readFile(`${rootOf(vmId)}/nvram.fd`)).toEqual(variables)
  })

  test('has them encrypted when that is cut off after it', async () => {
    await host.vms.createSnapshot('before', { name: 'plain' })
    await startAndDie(host, 'before', 'home: place')
    await host.restart().recover()
    expect((await filesOf(vmId)).filter((name) => name !== 'snapshots')).toEqual(ENCRYPTED)
    expect(await readNvram(host, vmId)).toEqual(variables)
    expect(await host.vms.show('before')).toMatchObject({ nvramEncrypted: true })
  })

  test('starts, and goes back to a snapshot of before, whose variables are encrypted at the next start', async () => {
    await host.vms.start('before')
    await host.vms.stop('before', { graceSeconds: 0 })
    await host.vms.revertSnapshot('before', 'plain')
    expect((await filesOf(vmId)).filter((name) => name !== 'snapshots')).toEqual([
      ...['home.enc', 'keys.json', 'nvram.fd', 'vm.json'],
    ])
    await host.vms.start('before')
    await host.vms.stop('before', { graceSeconds: 0 })
    expect((await filesOf(vmId)).filter((name) => name !== 'snapshots')).toEqual(ENCRYPTED)
  })
})
