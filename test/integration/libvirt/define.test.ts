import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, copyFile, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { view } from '../../../src/core/bytes.js'
import { PlatformError } from '../../../src/core/errors.js'
import { passphraseKey } from '../../../src/host-agent/libvirt/vtpm-move.js'
import {
  decryptVtpmState,
  parseVtpmState,
  verifyVtpmState,
} from '../../../src/host-agent/vm/vtpm-state.js'
import { type Libvirtd, startLibvirtd } from '../../helpers/libvirtd.js'
import { bundled } from '../../helpers/program.js'
import {
  asOfBefore,
  createTestHost,
  findKeys,
  findWideModes,
  processesNaming,
  readNvram,
  type TestHost,
} from '../host-agent-vm/support.js'

const MIB = 1024 * 1024
const AGENT = fileURLToPath(new URL('./agent-to-kill.ts', import.meta.url))

let libvirt: Libvirtd
let host: TestHost
let vmId: string
let folder: string
let there: string
let here: string

beforeAll(async () => {
  libvirt = await startLibvirtd()
  host = await createTestHost({
    libvirt: { uri: libvirt.uri, swtpmDirectory: libvirt.swtpmDirectory },
  })
  const disks = [
    { name: 'root', sizeOctets: MIB },
    { name: 'tools', sizeOctets: MIB, plain: true },
  ]
  const made = await host.vms.create({ name: 'vm', provider: 'kp', memoryMib: 128, disks })
  vmId = made.vmId
  folder = join(host.directory, vmId)
  here = join(folder, 'vtpm/tpm2-00.permall')
  there = join(libvirt.swtpmDirectory, vmId, 'tpm2/tpm2-00.permall')
})
afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await libvirt[Symbol.asyncDispose]()
})

const domainState = async () => (await libvirt.virsh('domstate', vmId)).text
const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  )

/** The plain state of the virtual TPM, from wherever it is. */
async function plainState(): Promise<Buffer> {
  const isHere = await exists(here)
  expect(await exists(there)).toBe(!isHere)
  const { keys } = JSON.parse(await readFile(join(folder, 'keys.json'), 'utf8'))
  const { wrapped } = keys.find(({ object }: { object: string }) => object === 'vtpm')
  const context = { vm: vmId, object: 'vtpm' }
  const [dek] = await host.keys.unwrap('kp', [{ wrapped, purpose: 'vtpm-state', context }])
  if (!dek) throw new Error('no key')
  const key = isHere ? dek : passphraseKey(dek)
  const state = parseVtpmState(await readFile(isHere ? here : there))
  expect(verifyVtpmState(state, key)).toBe(true)
  return decryptVtpmState(state, key).use((octets) => Buffer.from(view(octets)))
}

describe('a definition in libvirt', () => {
  test('is refused where the QEMU of libvirt cannot reach the VM', async () => {
    await expect(host.vms.defineInLibvirt('vm')).rejects.toMatchObject({
      code: 'LIBVIRT_DIRECTORY',
    })
    expect(await exists(here)).toBe(true)
    await chmod(dirname(host.directory), 0o711)
  })

  test('is refused of a VM that is not encrypted, runs, or is not there', async () => {
    await host.vms.create({ name: 'open', disks: [{ name: 'root', sizeOctets: MIB }] })
    await expect(host.vms.defineInLibvirt('open')).rejects.toMatchObject({ code: 'VM_PLAIN' })
    await host.vms.start('open')
    await expect(host.vms.defineInLibvirt('open')).rejects.toMatchObject({ code: 'VM_RUNNING' })
    await host.vms.stop('open', { graceSeconds: 0 })
    await expect(host.vms.defineInLibvirt('nobody')).rejects.toMatchObject({ code: 'VM_NOT_FOUND' })
    await expect(host.vms.undefineInLibvirt('vm')).rejects.toMatchObject({
      code: 'VM_NOT_IN_LIBVIRT',
    })
  })

  test('is refused without libvirt, and without the keys', async () => {
    const uri = 'qemu+unix:///system?socket=/nowhere'
    await using away = host.restart({
      libvirt: { uri, swtpmDirectory: libvirt.swtpmDirectory },
    })
    await expect(away.defineInLibvirt('vm')).rejects.toMatchObject({ code: 'LIBVIRT_UNREACHABLE' })
    await using none = host.restart({ programs: { virsh: 'no-such-virsh' } })
    await expect(none.defineInLibvirt('vm')).rejects.toMatchObject({ code: 'VM_PROCESS' })
    host.keys.refusal = new PlatformError('FORBIDDEN', 'not for this host')
    await expect(host.vms.defineInLibvirt('vm')).rejects.toMatchObject({ code: 'FORBIDDEN' })
    host.keys.refusal = undefined
    expect(await exists(here)).toBe(true)
    expect(await domainState()).toMatch(/failed to get domain/)
  })

  test('and its way back leave the virtual TPM, its identity and its secrets as they were', async () => {
    const before = await plainState()
    await host.vms.defineInLibvirt('vm')
    expect(await domainState()).toBe('shut off')
    expect(await exists(here)).toBe(false)
    expect((await plainState()).equals(before)).toBe(true)
    await host.vms.undefineInLibvirt('vm')
    expect(await domainState()).toMatch(/failed to get domain/)
    expect((await plainState()).equals(before)).toBe(true)
    expect(await exists(dirname(dirname(there)))).toBe(false)
    expect(await findWideModes(folder)).toEqual([])
    expect(await readdir(folder)).not.toContain('libvirt.json')
    await host.vms.start('vm')
    await host.vms.stop('vm', { graceSeconds: 0 })
  })

  test('leaves no key on the host in the clear', async () => {
    await host.vms.defineInLibvirt('vm')
    expect(await findKeys(host.keys.seen, host.directory)).toEqual([])
    expect(await findKeys(host.keys.seen, libvirt.folder)).toEqual([])
    await host.vms.undefineInLibvirt('vm')
  })

  test('is found again by the next agent, whose VM is deleted only when it is undefined there', async () => {
    await host.vms.defineInLibvirt('vm')
    await using next = host.restart()
    await next.recover()
    await expect(next.delete('vm')).rejects.toMatchObject({ code: 'VM_IN_LIBVIRT' })
    await expect(next.readDisk('vm', 'root', 0, 512)).rejects.toMatchObject({
      code: 'VM_IN_LIBVIRT',
    })
    await expect(next.start('vm')).rejects.toMatchObject({ code: 'LIBVIRT_REFUSED' })
    await next.undefineInLibvirt('vm')
  })
})

describe('an agent that is killed', () => {
  const cases = [
    ['defineInLibvirt', 'before', 'define'],
    ['defineInLibvirt', 'after', 'define'],
    ['undefineInLibvirt', 'before', 'undefine'],
    ['undefineInLibvirt', 'after', 'undefine'],
  ] as const

  test.each(cases)('in %s, %s virsh %s, goes on when it is told again', async (...which) => {
    const [operation, when, command] = which
    const before = await plainState()
    if (operation === 'undefineInLibvirt') await host.vms.defineInLibvirt('vm')
    await killAt(operation, when, command)
    await expect.poll(() => processesNaming(libvirt.uri), { timeout: 5000 }).toEqual([])
    await using next = host.restart()
    await next.recover()
    await expect(next.startInLibvirt('vm')).rejects.toMatchObject({ code: 'VM_NOT_IN_LIBVIRT' })
    await expect(next.recrypt('vm', {})).rejects.toMatchObject({ code: 'VM_IN_LIBVIRT' })
    await expect(next.createSnapshot('vm', { name: 'one' })).rejects.toMatchObject({
      code: 'VM_IN_LIBVIRT',
    })
    if (operation === 'defineInLibvirt') {
      await next.defineInLibvirt('vm')
      expect(await domainState()).toBe('shut off')
      expect((await plainState()).equals(before)).toBe(true)
    }
    await next.undefineInLibvirt('vm')
    expect(await domainState()).toMatch(/failed to get domain/)
    expect((await plainState()).equals(before)).toBe(true)
  })

  test('before it removed the state that it had moved, takes the newer of two', async () => {
    const before = await plainState()
    const old = `${folder}/old-state`
    await copyFile(here, old)
    await host.vms.defineInLibvirt('vm')
    const record = join(folder, 'libvirt.json')
    await copyFile(old, here)
    await writeFile(record, '{"format":1,"phase":"defining","running":false}')
    await host.vms.defineInLibvirt('vm')
    expect((await plainState()).equals(before)).toBe(true)
    await host.vms.undefineInLibvirt('vm')
    await rm(old)
  })
})

async function killAt(operation: string, when: string, command: string): Promise<void> {
  const files = await mkdtemp(join(tmpdir(), 'sgl-kill-'))
  await chmod(files, 0o755)
  try {
    const child = spawn(process.execPath, [bundled(AGENT)], {
      stdio: ['pipe', 'inherit', 'inherit'],
    })
    child.stdin.end(
      JSON.stringify({
        ...{ directory: host.directory, folder: files, operation, when, command },
        kek: Buffer.from(host.keys.kek).toString('base64url'),
        libvirt: { uri: libvirt.uri, swtpmDirectory: libvirt.swtpmDirectory },
      }),
    )
    const [exitCode, signal] = await once(child, 'exit')
    if (signal !== 'SIGKILL') throw new Error(`${command} never came: exit ${exitCode}`)
  } finally {
    await rm(files, { recursive: true })
  }
}

test('a VM whose firmware variables an agent of before left plain has them encrypted when it is defined', async () => {
  const made = await host.vms.create({ name: 'before', provider: 'kp', vtpm: false, disks: [] })
  const variables = await readFile('/usr/share/OVMF/OVMF_VARS_4M.fd')
  await asOfBefore(host, made.vmId, variables)
  await host.vms.defineInLibvirt('before')
  const files = await readdir(join(host.directory, made.vmId))
  expect(files.filter((name) => name.startsWith('nvram'))).toEqual(['nvram.luks'])
  expect(await readNvram(host, made.vmId)).toEqual(variables)
  await host.vms.undefineInLibvirt('before')
  await host.vms.start('before')
  await host.vms.stop('before', { graceSeconds: 0 })
  await host.vms.delete('before')
})
