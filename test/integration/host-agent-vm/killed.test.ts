import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { VmCreate } from '../../../src/api/host-agent.js'
import { createAndDie } from './killed.js'
import {
  createTestHost,
  directoriesOf,
  findKeys,
  processesNaming,
  type TestHost,
} from './support.js'

const MIB = 1024 * 1024

let host: TestHost
let files: string
let request: VmCreate

beforeAll(async () => {
  host = await createTestHost()
  await host.vms.recover()
  files = await mkdtemp(join(tmpdir(), 'sigillo-images-'))
  const image = join(files, 'image.raw')
  await writeFile(image, randomBytes(64 * MIB))
  request = {
    ...{ name: 'vm', provider: 'kp', memoryMib: 64 },
    disks: [{ name: 'root', from: image }],
  }
})

afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await rm(files, { recursive: true })
})

describe('an agent that is killed while it makes a VM', () => {
  test.each([
    ...['check', 'keys', 'home', 'root: format', 'root: fill', 'root: verify', 'vtpm', 'commit'],
  ])('at the step %s leaves nothing after recovery', async (step) => {
    await createAndDie(host, request, step)
    await expect.poll(() => processesNaming(host.directory), { timeout: 2000 }).toEqual([])
    await using next = host.restart()
    await next.recover()
    expect(await directoriesOf(host)).toEqual([])
    expect(await next.list()).toEqual([])
  })

  test('in the middle of a copy, or of the making of the virtual TPM, leaves no program behind', async () => {
    for (const step of ['half of root: fill', 'certify']) {
      await createAndDie(host, request, step)
      await expect.poll(() => processesNaming(host.directory), { timeout: 2000 }).toEqual([])
      const [leftover] = await directoriesOf(host)
      expect(leftover).toMatch(/^\.new-/)
      expect(await findKeys(host.keys.seen, host.directory)).toEqual([])
      await using next = host.restart()
      await next.recover()
      expect(await directoriesOf(host)).toEqual([])
    }
  })

  test('after the last step has made it', async () => {
    await createAndDie(host, request, 'done')
    await using next = host.restart()
    await next.recover()
    expect(await next.show('vm')).toMatchObject({ name: 'vm', state: 'stopped' })
    expect([...host.inventory.vms.values()]).toMatchObject([{ name: 'vm' }])
    await next.delete('vm')
  })

  test('can make it when it runs again', async () => {
    const vm = await host.vms.create(request)
    expect(vm).toMatchObject({ name: 'vm', state: 'stopped' })
    expect((await host.vms.readDisk('vm', 'root', 0, 16)).length).toBe(16)
  })
})

test('a deletion that was interrupted is finished by recovery', async () => {
  const [vm] = await host.vms.list()
  const disk = await readFile(`${host.directory}/${vm?.vmId}/disk-root.luks`)
  expect(disk.subarray(0, 4).toString()).toBe('LUKS')
  await rename(`${host.directory}/${vm?.vmId}`, `${host.directory}/.old-${vm?.vmId}`)
  expect(await host.vms.list()).toEqual([])
  await using next = host.restart()
  await next.recover()
  expect(await directoriesOf(host)).toEqual([])
})
