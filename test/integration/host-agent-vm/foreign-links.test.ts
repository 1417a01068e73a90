import { execFileSync, spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { pathsOf, type VmPaths } from '../../../src/host-agent/vm/layout.js'
import { settleChange } from '../../../src/host-agent/vm/pending-change.js'
import { identify } from '../../../src/host-agent/vm/processes.js'
import { DEFAULT_PROGRAMS } from '../../../src/host-agent/vm/programs.js'
import { createTestHost, type TestHost } from './support.js'

// Somebody who can write where the VMs lie (storage that several hosts share) puts links there that lead out of them.

let host: TestHost
let outside: string
let paths: VmPaths

beforeEach(async () => {
  outside = mkdtempSync(join(tmpdir(), 'sigillo-outside-'))
  mkdirSync(join(outside, 'folder'))
  writeFileSync(join(outside, 'folder/secret.pem'), 'secret of the host')
  writeFileSync(join(outside, 'secret'), 'secret of the host')
  host = await createTestHost()
  const { vmId } = await host.vms.create({
    ...{ name: 'vm', provider: 'kp', vtpm: false, memoryMib: 64 },
    disks: [{ name: 'root', sizeOctets: 1024 * 1024 }],
  })
  paths = pathsOf(`${host.directory}/${vmId}`)
})
afterEach(async () => {
  expect(readFileSync(join(outside, 'secret'), 'utf8')).toBe('secret of the host')
  expect(readFileSync(join(outside, 'folder/secret.pem'), 'utf8')).toBe('secret of the host')
  await host[Symbol.asyncDispose]()
  rmSync(outside, { recursive: true })
})

/** Names and contents of the files that are outside, where nothing of the VM may go. */
const copiesOfSecret = (directory: string): readonly string[] =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => readFileSync(file, 'latin1').includes('secret of the host'))

describe('a VM that is deleted', () => {
  test('takes no key slot of a volume that a link in the place of its disk leads to', async () => {
    const volume = join(outside, 'volume')
    renameSync(paths.disk('root'), volume)
    symlinkSync(volume, paths.disk('root'))
    await host.vms.delete('vm')
    execFileSync('cryptsetup', ['isLuks', volume])
    expect(execFileSync('cryptsetup', ['luksDump', volume]).toString()).toContain('Slot 0: ENABLED')
    expect(existsSync(paths.root)).toBe(false)
  })

  test('takes no snapshots that a link leads to', async () => {
    symlinkSync(outside, paths.snapshots)
    await host.vms.delete('vm').catch(() => undefined)
    expect(readdirSync(outside).sort()).toEqual(['folder', 'secret'])
  })

  test('does not wait for a writer of a pipe in the place of its disk', async () => {
    rmSync(paths.disk('root'))
    execFileSync('mkfifo', [paths.disk('root'), `${paths.root}/disk-other.luks`])
    await host.vms.delete('vm')
    expect(existsSync(paths.root)).toBe(false)
  })
})

describe('a change that was left unfinished', () => {
  test.each(['old', 'new'])(
    'erases nothing in a directory that a link `%s` leads to',
    async (name) => {
      mkdirSync(paths.change)
      symlinkSync(outside, `${paths.change}/${name}`)
      mkdirSync(`${outside}/vtpm`)
      writeFileSync(`${outside}/vtpm/tpm2-00.permall`, 'secret of the host')
      await settleChange(DEFAULT_PROGRAMS, paths).catch(() => undefined)
      expect(readFileSync(`${outside}/vtpm/tpm2-00.permall`, 'utf8')).toBe('secret of the host')
    },
  )

  test('makes no file shorter or longer that a link in the place of a disk leads to', async () => {
    rmSync(paths.disk('root'))
    symlinkSync(join(outside, 'secret'), paths.disk('root'))
    mkdirSync(paths.change)
    const resize = [{ file: 'disk-root.luks', octets: 3 }]
    const commit = { format: 1, put: [], drop: [], resize }
    writeFileSync(`${paths.change}/commit.json`, JSON.stringify(commit))
    await expect(settleChange(DEFAULT_PROGRAMS, paths)).rejects.toMatchObject({
      code: 'VM_CHANGE_CORRUPT',
    })
  })

  test('makes no disk shorter', async () => {
    mkdirSync(paths.change)
    const resize = [{ file: 'disk-root.luks', octets: 3 }]
    const commit = { format: 1, put: [], drop: [], resize }
    writeFileSync(`${paths.change}/commit.json`, JSON.stringify(commit))
    await expect(settleChange(DEFAULT_PROGRAMS, paths)).rejects.toMatchObject({
      code: 'VM_CHANGE_CORRUPT',
    })
  })
})

describe('a VM whose directories are links', () => {
  test.each(['vtpm', 'snapshots', 'change', 'run'] as const)('is refused: %s', async (name) => {
    symlinkSync(outside, paths[name])
    await expect(host.vms.show('vm')).rejects.toMatchObject({ code: 'VM_DESCRIPTOR_CORRUPT' })
  })

  test('is refused where its certificates lie elsewhere, before any is copied', async () => {
    mkdirSync(paths.vtpm)
    symlinkSync(join(outside, 'folder'), paths.vtpmCertificates)
    await expect(host.vms.createSnapshot('vm', { name: 'one' })).rejects.toMatchObject({
      code: 'VM_DESCRIPTOR_CORRUPT',
    })
    expect(copiesOfSecret(host.directory)).toEqual([])
  })
})

test('a snapshot copies no file that a link in the place of one leads to', async () => {
  rmSync(paths.nvram)
  symlinkSync(join(outside, 'secret'), paths.nvram)
  await expect(host.vms.createSnapshot('vm', { name: 'one' })).rejects.toThrow()
  expect(copiesOfSecret(host.directory)).toEqual([])
})

test('a VM is not started with a link in the place of its firmware variables', async () => {
  rmSync(paths.nvram)
  symlinkSync(join(outside, 'secret'), paths.nvram)
  await expect(host.vms.start('vm')).rejects.toMatchObject({ code: 'VM_NVRAM_CORRUPT' })
})

test('a plain VM is neither started nor encrypted with such a link', async () => {
  const { vmId } = await host.vms.create({ name: 'plain', disks: [] })
  const { plainNvram } = pathsOf(`${host.directory}/${vmId}`)
  const secret = join(outside, 'secret')
  writeFileSync(join(outside, 'variables'), readFileSync(plainNvram))
  for (const target of [secret, join(outside, 'variables')]) {
    rmSync(plainNvram)
    symlinkSync(target, plainNvram)
    for (const attempt of [
      () => host.vms.start('plain'),
      () => host.vms.encrypt('plain', { provider: 'kp' }),
    ]) {
      await expect(attempt()).rejects.toMatchObject({ code: 'VM_NVRAM_CORRUPT' })
    }
  }
})

test('a record of a run that names a process of somebody else ends none, and keeps nobody from the VM', async () => {
  const other = spawn('sleep', ['1000'])
  try {
    const qemu = await identify(other.pid ?? 0)
    mkdirSync(paths.run)
    const record = { format: 1, accelerator: 'tcg', qemu, swtpm: qemu }
    writeFileSync(paths.runRecord, JSON.stringify(record))
    expect(await host.vms.show('vm')).toMatchObject({ state: 'stopped' })
    await expect(host.vms.stop('vm', { graceSeconds: 0 })).rejects.toMatchObject({
      code: 'VM_STOPPED',
    })
    await host.vms.delete('vm')
    expect([other.exitCode, other.signalCode]).toEqual([null, null])
    expect(await identify(other.pid ?? 0)).toEqual(qemu)
  } finally {
    other.kill('SIGKILL')
  }
})

test('a VM that runs is known to run, also where the record of its run names another process', async () => {
  await host.vms.start('vm')
  const { pid } = await host.vms.show('vm')
  const record = JSON.parse(readFileSync(paths.runRecord, 'utf8'))
  writeFileSync(paths.runRecord, JSON.stringify({ ...record, qemu: await identify(process.pid) }))
  expect(await host.vms.show('vm')).toMatchObject({ state: 'running', pid })
  await host.vms.stop('vm', { graceSeconds: 0 })
  expect(await identify(pid ?? 0)).toBeUndefined()
})
