import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  cp,
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
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PlatformError } from '../../../src/core/errors.js'
import { moveAndDie } from './killed.js'
import {
  createTestHost,
  directoriesOf,
  findKeys,
  findWideModes,
  LocalKeys,
  MemoryInventory,
  processesNaming,
  readNvram,
  SharedInventory,
  type TestHost,
} from './support.js'

const SLOW = process.env['SLOW'] === '1'
const MIB = 1024 * 1024
const content = randomBytes(3 * MIB)
const shared = new SharedInventory()
const keys = new LocalKeys()

let files: string
let image: string
let a: TestHost
let b: TestHost

const hostOf = (hostId: string, change: { cluster?: string; keys?: LocalKeys } = {}) => {
  const place = { hostId, cluster: change.cluster ?? 'lab' }
  const inventory = new MemoryInventory(shared, place)
  return createTestHost({ keys: change.keys ?? keys, inventory })
}

beforeAll(async () => {
  files = await mkdtemp(join(tmpdir(), 'sigillo-exports-'))
  image = join(files, 'image.raw')
  await writeFile(image, content)
  a = await hostOf('host-a')
  b = await hostOf('host-b')
})

afterAll(async () => {
  await a[Symbol.asyncDispose]()
  await b[Symbol.asyncDispose]()
  await rm(files, { recursive: true })
})

const make = (name: string, vtpm = false) =>
  a.vms.create({
    ...{ name, provider: 'kp', memoryMib: 128, vtpm },
    disks: [
      { name: 'root', from: image },
      { name: 'tools', sizeOctets: MIB, plain: true },
    ],
  })

const refused = async (work: Promise<unknown>, code: string) =>
  expect(work).rejects.toMatchObject({ code })

describe('the directories of the agent', () => {
  test('take no export: there would be something of one VM in the place of something of another', async () => {
    const { vmId } = await make('closed')
    await symlink(a.directory, join(files, 'link'))
    for (const directory of [
      join(a.directory, vmId, 'exported.json'),
      join(a.directory, 'another'),
      join(files, 'link', vmId, 'receiving'),
    ]) {
      await refused(a.vms.export('closed', { directory }), 'VM_EXPORT_TARGET')
    }
    const elsewhere = a.restart({ closedDirectories: [join(files)] })
    const inState = elsewhere.export('closed', { directory: join(files, 'tasks') })
    await refused(inState, 'VM_EXPORT_TARGET')
    await elsewhere[Symbol.asyncDispose]()
    expect((await a.vms.show('closed')).state).toBe('stopped')
    await a.vms.delete('closed')
  })

  test('have no door for a VM that moves while it runs, and none is called there', async () => {
    const { vmId } = await make('closed')
    const listen = `unix:${join(a.directory, vmId, 'exported.json')}`
    await refused(a.vms.receive({ listen }), 'REQUEST_INVALID')
    const to = `unix:${join(a.directory, vmId, 'run/../lock.json')}`
    await refused(a.vms.send('closed', { to }), 'REQUEST_INVALID')
    await a.vms.delete('closed')
  })
})

describe('a VM that is moved', () => {
  test('has the same id, disks, firmware variables, virtual TPM and snapshots on the other host, and is locked on the first', async () => {
    const made = await make('vm', true)
    await a.vms.createSnapshot('vm', { name: 'cold' })
    await a.vms.start('vm')
    await a.vms.createSnapshot('vm', { name: 'live' })
    await a.vms.stop('vm', { graceSeconds: 0 })
    const snapshots = await a.vms.listSnapshots('vm')
    const before = await a.vms.show('vm')
    const directory = join(files, 'moved')
    const steps: string[] = []
    const moved = await a.vms.export(
      'vm',
      { directory, move: true },
      { onProgress: (step) => steps.push(step) },
    )
    expect(moved.handedOverAt).toBeDefined()
    expect(await a.vms.export('vm', { directory, move: true })).toEqual(moved)
    expect([...new Set(steps)].filter((step) => !step.startsWith('copy'))).toEqual([
      ...['check', 'offer', 'lock', 'finish', 'done'],
    ])
    expect(await findKeys(keys.seen, files)).toEqual([])
    expect(await findWideModes(directory)).toEqual([])
    const octets = await readFile(join(directory, 'disk-root.luks'))
    expect(octets.includes(content.subarray(0, 512))).toBe(false)

    for (const attempt of [
      () => a.vms.start('vm'),
      () => a.vms.decrypt('vm', {}),
      () => a.vms.clone('vm', { name: 'beside' }),
      () => a.vms.readDisk('vm', 'root', 0, 512),
      () => a.vms.export('vm', { directory: join(files, 'copy-of-moved') }),
    ]) {
      await refused(attempt(), 'VM_EXPORTED')
    }
    await refused(a.restart().start('vm'), 'VM_EXPORTED')

    await b.vms.import({ directory })
    const after = await b.vms.show('vm')
    expect(after.vmId).toBe(made.vmId)
    expect(after.vtpmCertificates).toEqual(before.vtpmCertificates)
    const read = await b.vms.readDisk('vm', 'root', MIB, MIB)
    expect(Buffer.from(read).equals(content.subarray(MIB, 2 * MIB))).toBe(true)
    expect(await readNvram(b, made.vmId)).toEqual(await readNvram(a, made.vmId))
    await b.vms.start('vm')
    await b.vms.stop('vm', { graceSeconds: 0 })

    expect(await b.vms.listSnapshots('vm')).toMatchObject(
      snapshots.map(({ allocatedOctets: _, ...snapshot }) => snapshot),
    )
    expect(await b.vms.revertSnapshot('vm', 'live')).toMatchObject({ state: 'running' })
    await b.vms.stop('vm', { graceSeconds: 0 })
    await b.vms.removeSnapshot('vm', 'live')
    await b.vms.revertSnapshot('vm', 'cold')
    expect(await findWideModes(b.directory)).toEqual([])

    await refused(a.vms.takeBack('vm'), 'VM_HAND_OVER')
    await refused(
      a.vms.export('vm', { directory: join(files, 'again'), move: true }),
      'VM_HAND_OVER',
    )
    await refused(a.vms.start('vm'), 'VM_EXPORTED')
  })

  test('keeps its keys when what is left on the first host is deleted', async () => {
    await a.vms.settleReleases()
    const released = keys.released.length
    await a.vms.delete('vm')
    await a.vms.settleReleases()
    expect(keys.released.length).toBe(released)
    expect(await directoriesOf(a)).toEqual([])
    await b.vms.start('vm')
    await b.vms.stop('vm', { graceSeconds: 0 })
  })

  test('is not imported twice, and can go back', async () => {
    await refused(b.vms.import({ directory: join(files, 'moved') }), 'VM_EXISTS')
    await refused(a.vms.import({ directory: join(files, 'moved') }), 'VM_HAND_OVER')
    const directory = join(files, 'back')
    await b.vms.export('vm', { directory, move: true })
    await a.vms.import({ directory })
    await a.vms.start('vm')
    await a.vms.stop('vm', { graceSeconds: 0 })
    await b.vms.delete('vm')
    await a.vms.delete('vm')
  })

  test('is taken back while no host took it; what was exported is of no use then', async () => {
    await make('kept')
    const directory = join(files, 'withdrawn')
    await a.vms.export('kept', { directory, move: true })
    await a.vms.takeBack('kept')
    await refused(a.vms.takeBack('kept'), 'VM_HAND_OVER')
    await a.vms.start('kept')
    await a.vms.stop('kept', { graceSeconds: 0 })
    await refused(b.vms.import({ directory }), 'VM_HAND_OVER')
    expect(await directoriesOf(b)).toEqual([])

    const second = join(files, 'second')
    await a.vms.export('kept', { directory: second, move: true })
    await a.vms.export('kept', { directory: join(files, 'third'), move: true })
    await refused(b.vms.import({ directory: second }), 'VM_HAND_OVER')
    await b.vms.import({ directory: join(files, 'third') })
    await a.vms.delete('kept')
    await b.vms.delete('kept')
  })
})

describe('a copy of the files of a VM, on another host', () => {
  test('is not started beside the original, not changed, and deleted without harm to it', async () => {
    const { vmId } = await make('twice')
    await cp(`${a.directory}/${vmId}`, `${b.directory}/${vmId}`, { recursive: true })
    const released = keys.released.length
    for (const attempt of [
      () => b.vms.start('twice'),
      () => b.vms.recrypt('twice', {}),
      () => b.vms.clone('twice', { name: 'third' }),
      () => b.vms.rewrapKeys(undefined),
      () => b.vms.export('twice', { directory: join(files, 'twice'), move: true }),
    ]) {
      await refused(attempt(), 'VM_HAND_OVER')
    }
    await b.vms.delete('twice')
    await b.vms.settleReleases()
    expect(await directoriesOf(b)).toEqual([])
    expect(keys.released.length).toBe(released)
    await a.vms.start('twice')
    await a.vms.stop('twice', { graceSeconds: 0 })
    await a.vms.delete('twice')
  })
})

describe('a copy', () => {
  const directory = () => join(files, 'copied')

  test('leaves the VM as it is, and is not imported beside it', async () => {
    await make('copied')
    const vm = await a.vms.export('copied', { directory: directory() })
    expect(vm.handedOverAt).toBeUndefined()
    await a.vms.start('copied')
    await a.vms.stop('copied', { graceSeconds: 0 })
    await refused(b.vms.import({ directory: directory() }), 'VM_HAND_OVER')
    await refused(a.vms.import({ directory: directory() }), 'VM_EXISTS')
    expect(await directoriesOf(b)).toEqual([])
  })

  test('is put back when the VM is deleted', async () => {
    await a.vms.delete('copied')
    await b.vms.import({ directory: directory() })
    const read = await b.vms.readDisk('copied', 'root', 0, 512)
    expect(Buffer.from(read).equals(content.subarray(0, 512))).toBe(true)
    await b.vms.delete('copied')
  })
})

describe('an export', () => {
  test('is refused while a snapshot of the VM is damaged, and made when that is removed', async () => {
    await make('marked')
    await a.vms.createSnapshot('marked', { name: 'bad' })
    const { vmId } = await a.vms.show('marked')
    const [bad] = await a.vms.listSnapshots('marked')
    await rm(`${a.directory}/${vmId}/snapshots/${bad?.snapshotId}/nvram.luks`)
    const directory = join(files, 'marked')
    await refused(a.vms.export('marked', { directory }), 'VM_SNAPSHOT_CORRUPT')
    await a.vms.removeSnapshot('marked', 'bad')
    await a.vms.export('marked', { directory })
    await a.vms.delete('marked')
  })

  test('is refused for a VM that runs, a plain one, and a directory that is there', async () => {
    await make('vm')
    const to = (directory: string) => a.vms.export('vm', { directory })
    await refused(to(files), 'VM_EXPORT_TARGET')
    await refused(to('relative'), 'VM_EXPORT_TARGET')
    await refused(to(`${files}/../x`), 'VM_EXPORT_TARGET')
    await refused(to(`${files}/no/such`), 'VM_EXPORT_TARGET')
    await refused(to(`${files}/with\0zero`), 'VM_EXPORT_TARGET')
    await writeFile(join(files, 'foreign.unfinished'), 'of somebody')
    await refused(to(`${files}/foreign`), 'VM_EXPORT_TARGET')
    await a.vms.create({ name: 'plain', disks: [{ name: 'root', sizeOctets: MIB, plain: true }] })
    await refused(a.vms.export('plain', { directory: join(files, 'p') }), 'VM_HOME_PLAIN')
    await a.vms.start('vm')
    await refused(to(join(files, 'running')), 'VM_RUNNING')
    await a.vms.stop('vm', { graceSeconds: 0 })
    await refused(a.vms.export('none', { directory: join(files, 'n') }), 'VM_NOT_FOUND')
  })

  test('that is cancelled, or that the control plane does not answer, leaves all as it was', async () => {
    const directory = join(files, 'cancelled')
    const cancel = new AbortController()
    const cancelled = new PlatformError('TASK_CANCELLED', 'the task was cancelled')
    const onProgress = (step: string) => {
      if (step === 'copy disk-root.luks') cancel.abort(cancelled)
    }
    const { signal } = cancel
    await refused(
      a.vms.export('vm', { directory, move: true }, { onProgress, signal }),
      'TASK_CANCELLED',
    )
    const away = a.restart({
      inventory: Object.assign(new MemoryInventory(shared), { isAway: true }),
    })
    await refused(away.export('vm', { directory, move: true }), 'AUTHORITY_UNREACHABLE')
    expect((await readdir(files)).filter((name) => name.startsWith('cancelled'))).toEqual([])
    await a.vms.start('vm')
    await a.vms.stop('vm', { graceSeconds: 0 })
  })
})

describe('an import', () => {
  let good: string
  beforeAll(async () => {
    good = join(files, 'good')
    await a.vms.createSnapshot('vm', { name: 'kept' })
    await a.vms.export('vm', { directory: good, move: true })
  })

  const attempts: Readonly<Record<string, (directory: string) => Promise<unknown>>> = {
    'without a manifest': (directory) => rm(join(directory, 'manifest.json')),
    'whose disk has another octet': async (directory) => {
      const path = join(directory, 'disk-root.luks')
      const octets = await readFile(path)
      octets[3 * MIB] = (octets[3 * MIB] ?? 0) ^ 1
      await writeFile(path, octets)
    },
    'whose disk is a sparse file of a TiB': (directory) =>
      truncate(join(directory, 'disk-root.luks'), 2 ** 40),
    'whose manifest allows another disk': (directory) =>
      edit(directory, (manifest) => {
        for (const part of manifest.parts) {
          if (part.file === 'disk-root.luks') part.sha256 = '0'.repeat(64)
        }
      }),
    'whose manifest says that it is a copy': (directory) =>
      edit(directory, (manifest) => {
        manifest.move = false
      }),
    'with a part outside of the VM': (directory) =>
      edit(directory, (manifest) => {
        manifest.parts.push({ file: '../../x', octets: 1, dataOctets: 1, sha256: '0'.repeat(64) })
      }),
    'with a part twice': (directory) =>
      edit(directory, (manifest) => {
        manifest.parts.push(manifest.parts[0] as never)
      }),
    'with a part that the VM does not have': (directory) =>
      edit(directory, ({ parts }) => {
        parts.push({ file: 'home.enc', octets: 1, dataOctets: 1, sha256: '0'.repeat(64) })
        parts.splice(0, 1)
      }),
    'without a part': (directory) => rm(join(directory, 'nvram.luks')),
    'whose part is a link': async (directory) => {
      await rename(join(directory, 'nvram.luks'), join(directory, 'elsewhere'))
      await symlink('elsewhere', join(directory, 'nvram.luks'))
    },
    'whose part is a pipe': async (directory) => {
      await rm(join(directory, 'nvram.luks'))
      execFileSync('mkfifo', [join(directory, 'nvram.luks')])
    },
    'with a manifest of ten MiB': (directory) =>
      writeFile(join(directory, 'manifest.json'), ' '.repeat(10 * MIB)),
    'without a part of a snapshot': async (directory) => {
      const name = (await readdir(directory)).find((found) => /^snapshots.*home\.enc$/.test(found))
      await rm(join(directory, name ?? ''))
    },
    'whose manifest hides a snapshot': (directory) =>
      edit(directory, ({ parts }) => {
        const kept = parts.filter(({ file }) => !file.startsWith('snapshots/'))
        parts.splice(0, parts.length, ...kept)
      }),
    'whose snapshot is told of as another': async (directory) => {
      const name = (await readdir(directory)).find((found) => found.endsWith('+snapshot.json'))
      const path = join(directory, name ?? '')
      await writeFile(path, (await readFile(path, 'utf8')).replace('"kept"', '"best"'))
    },
    'with wrapped keys that were changed': async (directory) => {
      const path = join(directory, 'keys.json')
      await writeFile(path, `${await readFile(path, 'utf8')} `)
    },
  }

  for (const [what, change] of Object.entries(attempts)) {
    test(`of an export ${what} is refused, and nothing of it stays`, async () => {
      const directory = join(files, 'bad')
      await cp(good, directory, { recursive: true })
      await change(directory)
      await refused(b.vms.import({ directory }), 'VM_EXPORT_CORRUPT')
      expect(await directoriesOf(b)).toEqual([])
      await rm(directory, { recursive: true })
    })
  }

  test('is refused on a host without the key, and on one of another cluster', async () => {
    await using strange = await hostOf('host-c', { keys: new LocalKeys() })
    await refused(strange.vms.import({ directory: good }), 'FORBIDDEN')
    expect(await directoriesOf(strange)).toEqual([])
    await using outside = await hostOf('host-d', { cluster: 'other' })
    await refused(outside.vms.import({ directory: good }), 'VM_HAND_OVER')
    expect(await directoriesOf(outside)).toEqual([])
  })

  test('is refused for a path that is none, and where a VM has the name', async () => {
    await refused(b.vms.import({ directory: 'good' }), 'REQUEST_INVALID')
    await refused(b.vms.import({ directory: join(files, 'nothing') }), 'VM_EXPORT_CORRUPT')
    await b.vms.create({ name: 'vm', provider: 'kp', vtpm: false, disks: [] })
    await refused(b.vms.import({ directory: good }), 'VM_EXISTS')
    await b.vms.delete('vm')
  })

  test('succeeds after all of that', async () => {
    await b.vms.settleReleases()
    const released = keys.released.length
    await b.vms.import({ directory: good })
    expect((await b.vms.readDisk('vm', 'tools', 0, 512)).length).toBe(512)
    expect(keys.released.length).toBe(released)
    await a.vms.delete('vm')
    await b.vms.delete('vm')
  })
})

describe('an agent that is killed', () => {
  const unfinished = async () =>
    (await readdir(files)).filter((name) => name.endsWith('.unfinished') && !/foreign/.test(name))

  const whenExporting = ['check', 'copy disk-root.luks', 'offer', 'lock', 'finish']
  for (const step of SLOW ? whenExporting : ['lock', 'finish']) {
    test(`while it exports, at the step ${step}, is followed by one that does it again`, async () => {
      await make('vm')
      const directory = join(files, `killed-${step.replaceAll(/[ .]/g, '-')}`)
      const host = { directory: a.directory, kek: keys.kek }
      await moveAndDie(host, { export: { name: 'vm', directory } }, step)
      const next = a.restart()
      await next.recover()
      await refused(b.vms.import({ directory }), 'VM_EXPORT_CORRUPT')
      await next.export('vm', { directory, move: true })
      expect(await unfinished()).toEqual([])
      await b.vms.import({ directory })
      await next.delete('vm')
      await b.vms.delete('vm')
      expect(processesNaming(a.directory)).toEqual([])
    })
  }

  const whenImporting = ['keys', 'check', 'copy disk-root.luks', 'verify', 'take', 'commit']
  for (const step of SLOW ? whenImporting : ['take', 'commit']) {
    test(`while it imports, at the step ${step}, leaves nothing, and releases no key`, async () => {
      await make('vm')
      const directory = join(files, `imported-${step.replaceAll(/[ .]/g, '-')}`)
      await a.vms.export('vm', { directory, move: true })
      for (const { vms } of [a, b]) await vms.settleReleases()
      const released = keys.released.length
      await moveAndDie({ directory: b.directory, kek: keys.kek }, { import: directory }, step)
      const next = b.restart()
      await next.recover()
      await next.settleReleases()
      expect(await directoriesOf(b)).toEqual([])
      expect(keys.released.length).toBe(released)
      await next.import({ directory })
      await a.vms.delete('vm')
      await next.delete('vm')
      expect(processesNaming(b.directory)).toEqual([])
    })
  }
})

interface Manifest {
  move: boolean
  readonly parts: { file: string; octets: number; dataOctets: number; sha256: string }[]
}

async function edit(directory: string, change: (manifest: Manifest) => void): Promise<void> {
  const path = join(directory, 'manifest.json')
  const sealed = JSON.parse(await readFile(path, 'utf8'))
  change(sealed.manifest)
  await writeFile(path, JSON.stringify(sealed))
}
