import { X509Certificate } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PlatformError } from '../../../src/core/errors.js'
import { changeAndDie } from './killed.js'
import {
  createCertifier,
  createTestHost,
  directoriesOf,
  findKeys,
  findWideModes,
  processesNaming,
  type TestHost,
  watchForLeaks,
} from './support.js'

const MIB = 1024 * 1024
const IS_SLOW = process.env['SLOW'] === '1'
const WITHOUT = ['disk-root.luks', 'home.enc', 'keys.json', 'nvram.luks', 'vm.json']
const WITH = [...WITHOUT, 'vtpm', 'vtpm-backup.permall', 'vtpm.json']

let host: TestHost
let folder: string

beforeAll(async () => {
  host = await createTestHost()
  const { vmId } = await host.vms.create({
    ...{ name: 'vm', provider: 'kp', vtpm: false, memoryMib: 128 },
    disks: [{ name: 'root', sizeOctets: MIB }],
  })
  folder = `${host.directory}/${vmId}`
})

afterAll(() => host[Symbol.asyncDispose]())

async function files(): Promise<readonly string[]> {
  return (await readdir(folder)).sort()
}

describe('a virtual TPM is not added', () => {
  test('to a VM whose home is plain', async () => {
    await host.vms.create({ name: 'plain', disks: [] })
    await expect(host.vms.addVtpm('plain')).rejects.toMatchObject({ code: 'VM_HOME_PLAIN' })
    await host.vms.delete('plain')
  })

  test('to a VM that runs', async () => {
    await host.vms.start('vm')
    await expect(host.vms.addVtpm('vm')).rejects.toMatchObject({ code: 'VM_RUNNING' })
    await host.vms.stop('vm', { graceSeconds: 0 })
  })

  test('when the authority refuses its certificate, and the VM is as it was', async () => {
    const certifier = await createCertifier()
    const refusing = host.restart({
      certifier: {
        ...certifier,
        certify: async () => {
          throw new PlatformError('FORBIDDEN', 'not for this host')
        },
      },
    })
    await expect(refusing.addVtpm('vm')).rejects.toMatchObject({ code: 'FORBIDDEN' })
    expect(await files()).toEqual(WITHOUT)
    expect((await host.vms.listKeys()).map(({ object }) => object)).toEqual(['home', 'disk-root'])
    expect(processesNaming(host.directory)).toEqual([])
  })

  test('when the task is cancelled before it is done', async () => {
    const controller = new AbortController()
    const onProgress = (step: string) => {
      if (step === 'vtpm: manufacture') controller.abort(new PlatformError('TASK_CANCELLED', 'no'))
    }
    const { signal } = controller
    await expect(host.vms.addVtpm('vm', { onProgress, signal })).rejects.toMatchObject({
      code: 'TASK_CANCELLED',
    })
    expect(await files()).toEqual(WITHOUT)
  })
})

test.each(IS_SLOW ? ['keys', 'manufacture', 'commit'] : ['commit'])(
  'an agent that is killed at the step %s leaves the VM without one, and no key or process',
  async (step) => {
    await host.vms.settleReleases()
    const before = host.keys.released.length
    await changeAndDie(host, 'addVtpm', 'vm', `vtpm: ${step}`)
    await expect.poll(() => processesNaming(host.directory), { timeout: 2000 }).toEqual([])
    await using next = host.restart()
    await next.recover()
    expect(await files()).toEqual(WITHOUT)
    await next.settleReleases()
    const released = host.keys.released.length - before
    expect(released).toBe(step === 'keys' ? 0 : 2)
    expect(await directoriesOf(host)).toHaveLength(1)
  },
)

test.each(IS_SLOW ? ['place', 'erase'] : ['place'])(
  'an agent that is killed at the step %s has added it when it recovers',
  async (step) => {
    await changeAndDie(host, 'addVtpm', 'vm', `vtpm: ${step}`)
    await using next = host.restart()
    await next.recover()
    expect(await files()).toEqual(WITH)
    expect(await next.start('vm')).toMatchObject({ state: 'running', vtpm: true })
    await next.stop('vm', { graceSeconds: 0 })
    await next.removeVtpm('vm')
    expect(await files()).toEqual(WITHOUT)
  },
)

describe('a virtual TPM that was added', () => {
  const steps: string[] = []
  let leaks: readonly string[]

  beforeAll(async () => {
    const watch = watchForLeaks(host)
    await host.vms.addVtpm('vm', { onProgress: (step) => steps.push(step) })
    leaks = await watch.stop()
  })

  test('came step by step, with no key in a file and no file for others', async () => {
    expect(steps).toEqual([
      ...['vtpm: keys', 'vtpm: manufacture', 'vtpm: commit', 'vtpm: place', 'vtpm: erase', 'done'],
    ])
    expect(leaks).toEqual([])
    expect(await findKeys(host.keys.seen, host.directory)).toEqual([])
    expect(await findWideModes(host.directory)).toEqual([])
    expect(await files()).toEqual(WITH)
  })

  test('has certificates for its VM, and keys of its own', async () => {
    const { vmId, vtpm, vtpmCertificates = [] } = await host.vms.show('vm')
    expect(vtpm).toBe(true)
    expect(vtpmCertificates.map((pem) => new X509Certificate(pem).subject)).toEqual([
      ...[`CN=${vmId} ek`, `CN=${vmId} ek`, `CN=${vmId} platform`],
    ])
    expect((await host.vms.listKeys()).map(({ object }) => object)).toEqual([
      ...['home', 'disk-root', 'vtpm', 'vtpm-migration'],
    ])
    expect(host.inventory.vms.get(vmId)).toMatchObject({ vtpm: true })
  })

  test('is there when the VM starts, and is not added twice', async () => {
    expect(await host.vms.start('vm')).toMatchObject({ state: 'running' })
    await host.vms.stop('vm', { graceSeconds: 0 })
    await expect(host.vms.addVtpm('vm')).rejects.toMatchObject({ code: 'VTPM_EXISTS' })
  })
})
