import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readDisk, type TaskView } from '../../../src/api/host-agent.js'
import {
  adoptDomain,
  type DomainAdopt,
  showDomain,
  startInLibvirt,
  undefineInLibvirt,
} from '../../../src/api/libvirt.js'
import { fromBase64url } from '../../../src/core/bytes.js'
import { parsePlainVtpmState } from '../../../src/host-agent/vm/vtpm-state.js'
import { type LibvirtHost, openLibvirtHost, PROVIDER, schemaProblem } from './fixture.js'

const MIB = 1024 * 1024
const OPEN = '11111111-1111-4111-8111-111111111111'
const LOCKED = '22222222-2222-4222-8222-222222222222'
const DISK_SECRET = '33333333-3333-4333-8333-333333333333'
const VTPM_SECRET = '44444444-4444-4444-8444-444444444444'
const PASSPHRASE = 'a passphrase of before'
const body = {}

let host: LibvirtHost
let files: string
const content = randomBytes(2 * MIB)

beforeAll(async () => {
  host = await openLibvirtHost()
  files = join(host.libvirt.folder, 'lib')
  writeFileSync(join(files, 'plain.raw'), content)
  run('qemu-img', 'convert', '-O', 'qcow2', join(files, 'plain.raw'), join(files, 'open.qcow2'))
})
afterAll(() => host[Symbol.asyncDispose]())

const virsh = (...args: string[]) => host.libvirt.virsh(...args)
const run = (program: string, ...args: string[]) => execFileSync(program, args, { stdio: 'ignore' })
const statePath = (vmId: string) => join(host.libvirt.swtpmDirectory, vmId, 'tpm2/tpm2-00.permall')
const digestOf = (file: string) => createHash('sha256').update(readFileSync(file)).digest('hex')

/** Text in a file that only root reads. */
function privateFile(name: string, text: string): string {
  const path = join(host.libvirt.folder, name)
  writeFileSync(path, text, { mode: 0o600 })
  return path
}

async function define(xml: string): Promise<void> {
  const file = join(host.libvirt.folder, 'domain.xml')
  writeFileSync(file, xml)
  expect((await virsh('define', file)).text).toContain('defined')
}

async function adopt(vmId: string, more: Partial<DomainAdopt> = {}): Promise<TaskView> {
  const { text: xml } = await virsh('dumpxml', '--inactive', vmId)
  const request = { xml, provider: PROVIDER, ...more }
  return host.ended(await host.agent.call(adoptDomain, { body: request }))
}

const codeOf = ({ error }: TaskView) => error?.code

/** What a guest sees of a disk of a VM that the agent runs again. */
async function diskOf(vm: string, disk: string): Promise<Buffer> {
  const parts: Uint8Array[] = []
  for (let offset = 0; offset < content.length; offset += MIB / 2) {
    const read = { params: { vm, disk }, body: { offset, length: MIB / 2 } }
    parts.push(fromBase64url((await host.agent.call(readDisk, read)).data))
  }
  return Buffer.concat(parts)
}

function domainXml(vmId: string, name: string, disk: string, tpm: string): string {
  return `<domain type='qemu'>
  <name>${name}</name><uuid>${vmId}</uuid>
  <description>kept &amp; as it is</description>
  <metadata><site:owner xmlns:site='urn:site'>team 7</site:owner></metadata>
  <memory unit='MiB'>128</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <devices>${disk}
    <disk type='file' device='cdrom'><target dev='sdb' bus='sata'/></disk>
    ${tpm}<interface type='user'><mac address='52:54:00:12:34:56'/></interface>
  </devices>
</domain>`
}

describe('a domain with a plain disk and a plain virtual TPM', () => {
  const plainDisk = () =>
    `<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='${files}/open.qcow2'/><target dev='vda' bus='virtio'/></disk>`
  const tpm = "<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>"
  let before: Buffer
  let image: string

  beforeAll(async () => {
    await define(domainXml(OPEN, 'Old Name', plainDisk(), tpm))
    // its virtual TPM is made by the first start
    expect((await virsh('start', OPEN)).text).toContain('started')
  })

  test('is not adopted while it runs, under a name that is none, or with snapshots', async () => {
    expect(codeOf(await adopt(OPEN, { name: 'web1' }))).toBe('VM_RUNNING')
    await virsh('destroy', OPEN)
    expect(codeOf(await adopt(OPEN))).toBe('LIBVIRT_DOMAIN')
    expect((await virsh('snapshot-create-as', OPEN, 's1')).exitCode).toBe(0)
    expect(codeOf(await adopt(OPEN, { name: 'web1' }))).toBe('LIBVIRT_DOMAIN')
    await virsh('snapshot-delete', OPEN, 's1')
    expect(codeOf(await adopt(OPEN, { name: 'web1', provider: 'nobody' }))).toBe('NOT_FOUND')
    expect(readdirSync(host.vmDirectory).filter((name) => name !== 'releases.json')).toEqual([])
  })

  test('becomes an encrypted VM with its id, and its disk stays as it was', async () => {
    before = parsePlainVtpmState(readFileSync(statePath(OPEN))).use((o) => Buffer.from(o))
    image = digestOf(join(files, 'open.qcow2'))
    const task = await adopt(OPEN, { name: 'web1' })
    expect(task.error).toBeUndefined()
    expect(task.vm).toMatchObject({ vmId: OPEN, provider: PROVIDER, vtpm: true, state: 'stopped' })
    expect(task.vm?.disks).toEqual([{ name: 'vda', sizeOctets: 2 * MIB, format: 'luks1' }])
    expect(digestOf(join(files, 'open.qcow2'))).toBe(image)
    expect(readFileSync(statePath(OPEN)).includes(before.subarray(0, 64))).toBe(false)
    const again = await adopt(OPEN, { name: 'again' })
    expect(again.error?.message).toContain('is a VM of Sigillo already')
  })

  test('keeps all of its description but disks, TPM and whose it is', async () => {
    const { text: xml } = await virsh('dumpxml', '--inactive', OPEN)
    expect(xml).toContain('<description>kept &amp; as it is</description>')
    expect(xml).toContain('team 7')
    expect(xml).toContain('52:54:00:12:34:56')
    expect(xml).toMatch(/<name>Old Name<\/name>/)
    expect(xml).toMatch(/<disk type='file' device='cdrom'>/)
    expect(xml).toMatch(/<target dev='vda' bus='virtio'\/>/)
    expect(xml).toMatch(/<driver name='qemu' type='raw' cache='none'\/>/)
    expect(xml).toMatch(/<tpm model='tpm-tis'>/)
    expect(xml).toMatch(/persistent_state='yes'/)
    expect(xml).not.toContain('open.qcow2')
    const file = join(host.libvirt.folder, 'adopted.xml')
    writeFileSync(file, (await host.agent.call(showDomain, { params: { vm: 'web1' } })).xml)
    expect(await schemaProblem(file)).toBeUndefined()
  })

  test('starts with its keys, and with the virtual TPM that it had', async () => {
    const params = { vm: 'web1' }
    expect((await virsh('start', OPEN)).text).toContain('keys of VM web1 are not here')
    expect(await host.agent.call(startInLibvirt, { params, body })).toMatchObject({
      state: 'running',
    })
    await virsh('destroy', OPEN)
  })

  test('has the octets that it had', async () => {
    await host.agent.call(undefineInLibvirt, { params: { vm: 'web1' }, body })
    expect((await diskOf('web1', 'vda')).equals(content)).toBe(true)
  })
})

describe('a domain that is encrypted already', () => {
  const disk = () =>
    `<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${files}/locked.luks'><encryption format='luks'><secret type='passphrase' uuid='${DISK_SECRET}'/></encryption></source><target dev='sda' bus='sata'/></disk>`
  const tpm = `<tpm model='tpm-crb'><backend type='emulator' version='2.0'><encryption secret='${VTPM_SECRET}'/></backend></tpm>`

  beforeAll(async () => {
    const passphrase = privateFile('pass', PASSPHRASE)
    const volume = join(files, 'locked.luks')
    writeFileSync(volume, Buffer.alloc(4 * MIB))
    const cheap = ['--type', 'luks1', '--pbkdf-force-iterations', '1000']
    run('cryptsetup', 'luksFormat', '-q', ...cheap, '--key-file', passphrase, volume)
    run(
      ...(['qemu-img', 'convert', '-n', '--object', `secret,id=k,file=${passphrase}`] as const),
      ...['--image-opts', '--target-image-opts', `driver=raw,file.filename=${files}/plain.raw`],
      `driver=luks,key-secret=k,file.filename=${volume}`,
    )
    for (const [uuid, usage] of [
      [DISK_SECRET, `type='volume'><volume>${volume}</volume>`],
      [VTPM_SECRET, "type='vtpm'><name>locked</name>"],
    ]) {
      const xml = `<secret ephemeral='yes'><uuid>${uuid}</uuid><usage ${usage}</usage></secret>`
      await virsh('secret-define', privateFile('secret.xml', xml))
      await virsh('secret-set-value', uuid ?? '', '--plain', '--file', passphrase)
    }
    await define(domainXml(LOCKED, 'locked', disk(), tpm))
    expect((await virsh('start', LOCKED)).text).toContain('started')
    await virsh('destroy', LOCKED)
  })

  test('is adopted with its passphrases alone, and leaves nothing behind without', async () => {
    const wrong = privateFile('wrong', 'another')
    const right = join(host.libvirt.folder, 'pass')
    const open = privateFile('open', PASSPHRASE)
    chmodSync(open, 0o644)
    const before = readdirSync(host.vmDirectory)
    const passphrases = (file: string, vtpm?: string) => ({
      diskPassphrases: [{ disk: 'sda', file }],
      ...(vtpm === undefined ? {} : { vtpmPassphraseFile: vtpm }),
    })
    expect(codeOf(await adopt(LOCKED))).toBe('LIBVIRT_DOMAIN')
    expect(codeOf(await adopt(LOCKED, passphrases(open, right)))).toBe('FILE_MODE')
    expect(codeOf(await adopt(LOCKED, passphrases(wrong, right)))).toBe('VM_IMAGE')
    expect(codeOf(await adopt(LOCKED, passphrases(right)))).toBe('VTPM_STATE_CORRUPT')
    expect(codeOf(await adopt(LOCKED, passphrases(right, wrong)))).toBe('VTPM_STATE_CORRUPT')
    expect(readdirSync(host.vmDirectory).filter((name) => !before.includes(name))).toEqual(
      before.includes('releases.json') ? [] : ['releases.json'],
    )
    expect((await virsh('start', LOCKED)).text).toContain('started')
    await virsh('destroy', LOCKED)
  })

  test('gets keys of its own, under which it starts and has the octets that it had', async () => {
    const file = join(host.libvirt.folder, 'pass')
    const task = await adopt(LOCKED, {
      diskPassphrases: [{ disk: 'sda', file }],
      vtpmPassphraseFile: file,
    })
    expect(task.error).toBeUndefined()
    await virsh('secret-undefine', DISK_SECRET)
    await virsh('secret-undefine', VTPM_SECRET)
    const params = { vm: 'locked' }
    expect(await host.agent.call(startInLibvirt, { params, body })).toMatchObject({
      state: 'running',
    })
    await virsh('destroy', LOCKED)
    await host.agent.call(undefineInLibvirt, { params, body })
    expect((await diskOf('locked', 'sda')).equals(content)).toBe(true)
    expect(existsSync(join(files, 'locked.luks'))).toBe(true)
  })
})
