import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { copyFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  attestNow,
  createVm,
  recryptVm,
  showVm,
  startVm,
  stopVm,
  type VmDetails,
} from '../../../src/api/host-agent.js'
import { revokeHost } from '../../../src/api/hosts.js'
import {
  admitStart,
  defineInLibvirt,
  endAdmission,
  mendVtpm,
  showDomain,
  startInLibvirt,
  undefineInLibvirt,
} from '../../../src/api/libvirt.js'
import { HOST, type LibvirtHost, openLibvirtHost, PROVIDER, schemaProblem } from './fixture.js'

const MIB = 1024 * 1024
const params = { vm: 'web1' }
const QUERY_NODES = '{"execute":"query-named-block-nodes"}'
const body = {}

let host: LibvirtHost
let vmId: string
let folder: string
let state: string

beforeAll(async () => {
  host = await openLibvirtHost()
  const made = await host.ended(
    await host.agent.call(createVm, {
      body: {
        ...{ name: 'web1', provider: PROVIDER, memoryMib: 128 },
        disks: [{ name: 'root', sizeOctets: MIB }],
      },
    }),
  )
  vmId = made.vm?.vmId ?? ''
  folder = join(host.vmDirectory, vmId)
  state = join(host.libvirt.swtpmDirectory, vmId, 'tpm2', 'tpm2-00.permall')
})
afterAll(() => host[Symbol.asyncDispose]())

const virsh = (...args: string[]) => host.libvirt.virsh(...args)
const secrets = async () => (await virsh('secret-list', '--ephemeral')).text.split('\n').slice(2)
const domainState = async () => (await virsh('domstate', vmId)).text
const started = () => host.agent.call(startInLibvirt, { params, body })

/** Polls, bounded: what follows a hook is done when the hook has its answer. */
async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  for (const endMs = Date.now() + 20_000; Date.now() < endMs; await delay(50)) {
    if (await isSo()) return
  }
  throw new Error(`${what} did not come`)
}

describe('the domain of a VM', () => {
  test('fits the schema of libvirt, before it is defined', async () => {
    const { xml } = await host.agent.call(showDomain, { params })
    const file = join(host.libvirt.folder, 'web1.xml')
    writeFileSync(file, xml)
    expect(await schemaProblem(file)).toBeUndefined()
    expect(xml).toContain("<encryption format='luks'>")
    expect(xml).toContain("persistent_state='yes'")
  })

  test('is not started by libvirt as long as the agent runs the VM', async () => {
    await expect(started()).rejects.toMatchObject({ code: 'VM_NOT_IN_LIBVIRT' })
  })
})

describe('a VM that is defined in libvirt', () => {
  let defined: VmDetails
  beforeAll(async () => {
    defined = await host.agent.call(defineInLibvirt, { params, body })
  })

  test('is a domain that is shut off, and no longer the agent’s to change', async () => {
    expect(defined).toMatchObject({ state: 'stopped', vmId })
    expect(await domainState()).toBe('shut off')
    const recrypt = await host.ended(await host.agent.call(recryptVm, { params, body }))
    expect(recrypt.error?.code).toBe('VM_IN_LIBVIRT')
    await expect(host.agent.call(defineInLibvirt, { params, body })).rejects.toMatchObject({
      code: 'VM_IN_LIBVIRT',
    })
  })

  test('has the state of its virtual TPM where libvirt looks for it, and nowhere else', () => {
    expect(existsSync(state)).toBe(true)
    expect(existsSync(join(folder, 'vtpm/tpm2-00.permall'))).toBe(false)
  })

  test('is not started by another client without an admission, with the reason in the error', async () => {
    const { exitCode, text } = await virsh('start', 'web1')
    expect(exitCode).not.toBe(0)
    expect(text).toMatch(
      /keys of VM web1 are not here: start it by sigillo-agent libvirt start web1/,
    )
    expect(await domainState()).toBe('shut off')
  })

  test('starts, with the same virtual TPM, and its secrets are gone when it has started', async () => {
    const before = await readFile(state)
    expect(await started()).toMatchObject({ state: 'running' })
    expect(await domainState()).toBe('running')
    expect(await secrets()).toEqual([])
    const { text } = await virsh('qemu-monitor-command', 'web1', '{"execute":"query-tpm"}')
    expect(text).toContain('tpm-crb')
    // swtpm of libvirt took the state that we encrypted, and did not make another
    expect(host.libvirt.hooked()).toContain('web1 started begin')
    expect(before.length).toBeGreaterThan(4000)
  })

  test('has its firmware variables encrypted while it runs', async () => {
    const { text } = await virsh('qemu-monitor-command', 'web1', QUERY_NODES)
    const nodes = JSON.parse(text).return as readonly { file: string; drv: string }[]
    const drivers = nodes.filter(({ file }) => file.includes('nvram.luks')).map(({ drv }) => drv)
    expect(drivers.sort()).toEqual(['file', 'luks'])
    expect(readdirSync(folder)).not.toContain('nvram.fd')
  })

  test('runs as a user of libvirt, with no key in clear on a command line', async () => {
    const { text } = await virsh('dumpxml', 'web1', '--security-info')
    expect(text).not.toMatch(/[0-9a-f]{64}/)
    await expect(started()).rejects.toMatchObject({ code: 'VM_RUNNING' })
    await expect(host.agent.call(undefineInLibvirt, { params, body })).rejects.toMatchObject({
      code: 'VM_RUNNING',
    })
  })

  test('is seen as stopped when it ended, and its virtual TPM is the one to start from', async () => {
    await virsh('destroy', 'web1')
    await until(
      'the end',
      async () => (await host.agent.call(showVm, { params })).state === 'stopped',
    )
    const record = JSON.parse(readFileSync(join(folder, 'vtpm.json'), 'utf8'))
    expect(record.state).toBe('stopped')
  })
})

describe('a VM whose start was admitted', () => {
  test('is started by another client, and has no key in libvirt after that', async () => {
    await host.agent.call(admitStart, { params, body: { seconds: 600 } })
    expect((await secrets()).length).toBe(3)
    const { exitCode, text } = await virsh('start', 'web1')
    expect(text).toContain('started')
    expect(exitCode).toBe(0)
    await until('the end of the admission', async () => (await secrets()).join('') === '')
    const stopped = await host.ended(
      await host.agent.call(stopVm, { params, body: { graceSeconds: 0 } }),
    )
    expect(stopped.vm?.state).toBe('stopped')
    expect(await domainState()).toBe('shut off')
  })

  test('is started and stopped by the commands for VMs of the agent too', async () => {
    const ran = await host.ended(await host.agent.call(startVm, { params, body }))
    expect(ran.vm?.state).toBe('running')
    expect(await domainState()).toBe('running')
    expect((await secrets()).join('')).toBe('')
    await host.ended(await host.agent.call(stopVm, { params, body: { graceSeconds: 0 } }))
    expect(await domainState()).toBe('shut off')
  })

  test('has none after a command, or its time, or a restart of the agent', async () => {
    await host.agent.call(admitStart, { params, body: { seconds: 600 } })
    await host.agent.call(endAdmission, { params })
    expect((await secrets()).join('')).toBe('')
    await host.agent.call(admitStart, { params, body: { seconds: 1 } })
    await until('the end of the admission', async () => (await secrets()).join('') === '')
    await host.agent.call(admitStart, { params, body: { seconds: 600 } })
    await host.restartAgent()
    expect((await secrets()).join('')).toBe('')
  })

  test('hands its keys to no client of libvirt', async () => {
    await host.agent.call(admitStart, { params, body: { seconds: 600 } })
    const [line = ''] = await secrets()
    const { text } = await virsh('secret-get-value', line.trim().split(/\s+/)[0] ?? '')
    expect(text).toMatch(/secret is private/)
    await host.agent.call(endAdmission, { params })
  })

  test('is not started as a domain that was changed to open a volume as it lies there', async () => {
    const { xml } = await host.agent.call(showDomain, { params })
    const changed = join(host.libvirt.folder, 'changed.xml')
    const encryption = /<encryption format[^>]*><secret[^>]*><\/encryption>/g
    const [ofNvram = '', ofRoot = ''] = xml.match(encryption) ?? []
    for (const [wrong, reason] of [
      [xml.replace(ofRoot, ''), /expected disk root as raw with the encryption luks/],
      [xml.replace(ofNvram, ''), /expected the NVRAM \S+ with the encryption luks/],
      [xml.replace('nvram.luks', 'disk-root.luks'), /expected the NVRAM/],
    ] as const) {
      writeFileSync(changed, wrong)
      expect(await virsh('define', changed)).toMatchObject({ exitCode: 0 })
      await host.agent.call(admitStart, { params, body: { seconds: 600 } })
      expect((await virsh('start', 'web1')).text).toMatch(reason)
      await host.agent.call(endAdmission, { params })
    }
    writeFileSync(changed, xml)
    await virsh('define', changed)
  })

  test('is refused an admission with firmware variables that are not its own', async () => {
    const volume = join(folder, 'nvram.luks')
    const kept = await readFile(volume)
    writeFileSync(volume, await readFile('/usr/share/OVMF/OVMF_VARS_4M.fd'))
    await expect(started()).rejects.toMatchObject({ code: 'VM_NVRAM_CORRUPT' })
    expect(await secrets()).toEqual([])
    writeFileSync(volume, kept)
  })

  test('is refused an admission with an older state of its virtual TPM, or with none', async () => {
    const now = await readFile(state)
    await started()
    await virsh('destroy', 'web1')
    await until(
      'the end',
      async () => (await host.agent.call(showVm, { params })).state === 'stopped',
    )
    const newest = `${state}.newest`
    await copyFile(state, newest)
    writeFileSync(state, now)
    const same = (await readFile(newest)).equals(now)
    if (!same) await expect(started()).rejects.toMatchObject({ code: 'VTPM_STATE_ROLLBACK' })
    writeFileSync(state, '')
    await expect(started()).rejects.toMatchObject({ code: 'VTPM_STATE_TRUNCATED' })
    await expect(host.agent.call(undefineInLibvirt, { params, body })).rejects.toMatchObject({
      code: 'VTPM_STATE_TRUNCATED',
    })
    await host.agent.call(mendVtpm, { params, body: { how: 'restore' } })
    expect((await readFile(newest)).equals(await readFile(state))).toBe(true)
    expect(await secrets()).toEqual([])
  })
})

describe('on a host that is not to have keys', () => {
  test('no VM of Sigillo starts while the agent does not answer, and every other domain does', async () => {
    await host.stopAgent()
    const { exitCode, text } = await virsh('start', 'web1')
    expect(exitCode).not.toBe(0)
    expect(text).toMatch(/sigillo-agent: error/)
    const other = join(host.libvirt.folder, 'other.xml')
    writeFileSync(
      other,
      "<domain type='qemu'><name>other</name><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>",
    )
    expect((await virsh('create', other)).exitCode).toBe(0)
    await virsh('destroy', 'other')
    await host.restartAgent()
  })

  test('a revoked host starts none, by the agent or by libvirt, with the reason in the error', async () => {
    const revoked = { params: { hostId: HOST }, body: { reason: 'stolen' } }
    await host.site.admin.call(revokeHost, revoked)
    await host.agent.call(attestNow, { body: {} })
    const refusal = await started().catch((error: { code: string }) => error.code)
    expect(refusal).toMatch(/REVOKED|REFUSED/)
    const { text } = await virsh('start', 'web1')
    expect(text).toContain('sigillo-agent: error')
    expect(await domainState()).toBe('shut off')
    expect(await secrets()).toEqual([])
    expect(readdirSync(folder)).not.toContain('libvirt-secret.xml')
  })
})
