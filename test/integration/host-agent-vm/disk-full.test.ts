import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, statfsSync, writeFileSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createTestHost, directoriesOf, type TestHost } from './support.js'

const run = promisify(execFile)
const MIB = 1024 * 1024

let host: TestHost
let root: string
let volume: string
let image: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'sigillo-full-'))
  volume = join(root, 'volume')
  image = join(root, 'image.raw')
  await writeFile(image, randomBytes(8 * MIB))
  await run('mkdir', [volume])
  await run('mount', ['-t', 'tmpfs', '-o', 'size=29m,mode=0700', 'tmpfs', volume])
  host = await createTestHost({ directory: `${volume}/vms` })
})

afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await run('umount', [volume])
  await rm(root, { recursive: true })
})

test('a VM that has no room is refused before anything is made', async () => {
  const disks = ['a', 'b', 'c'].map((name) => ({ name, from: image }))
  await expect(
    host.vms.create({ name: 'vm', provider: 'kp', vtpm: false, disks }),
  ).rejects.toMatchObject({ code: 'VM_DISK_FULL', message: expect.stringContaining('expected') })
  expect(await directoriesOf(host)).toEqual([])
})

test.each([...['keys', 'home', 'root: format', 'root: fill', 'vtpm']])(
  'when the disk becomes full at the step %s, nothing of the VM remains',
  async (full) => {
    const ballast = `${volume}/ballast`
    const request = { name: 'vm', provider: 'kp', disks: [{ name: 'root', from: image }] }
    const onProgress = (step: string) => {
      if (step === full) takeAllRoom(ballast)
    }
    const attempt = host.vms.create(request, { onProgress })
    await expect(attempt).rejects.toMatchObject({ code: 'VM_DISK_FULL' })
    expect(await directoriesOf(host)).toEqual([])
    await rm(ballast)
  },
)

test('and a VM that fits is made afterwards', async () => {
  const disks = [{ name: 'root', from: image }]
  const vm = await host.vms.create({ name: 'vm', provider: 'kp', disks })
  expect(vm.disks).toEqual([{ name: 'root', sizeOctets: 8 * MIB, format: 'luks1' }])
})

describe('a VM that is to be encrypted anew', () => {
  test('without room for a second copy is refused before anything is made', async () => {
    const [vm] = await host.vms.list()
    const ballast = `${volume}/ballast`
    const { bavail, bsize } = statfsSync(volume)
    writeFileSync(ballast, Buffer.alloc(bavail * bsize - 10 * MIB))
    const steps: string[] = []
    await expect(
      host.vms.recrypt('vm', {}, { onProgress: (step) => steps.push(step) }),
    ).rejects.toMatchObject({ code: 'VM_DISK_FULL' })
    expect(steps).toEqual([])
    await rm(ballast)
    expect(await host.vms.show('vm')).toMatchObject({ vmId: vm?.vmId })
  })

  test.each([...['keys', 'format', 'copy', 'verify', 'commit'].map((step) => `root: ${step}`)])(
    'is as it was when the disk becomes full at the step %s',
    async (full) => {
      const [vm] = await host.vms.list()
      const folder = `${host.directory}/${vm?.vmId}`
      const before = await digestsOf(folder)
      const ballast = `${volume}/ballast`
      const onProgress = (step: string) => {
        if (step === full) takeAllRoom(ballast)
      }
      const attempt = host.vms.recrypt('vm', { disks: ['root'] }, { onProgress })
      await expect(attempt).rejects.toMatchObject({ code: 'VM_DISK_FULL' })
      expect(await digestsOf(folder)).toEqual(before)
      await rm(ballast)
      expect((await host.vms.readDisk('vm', 'root', 0, 1)).length).toBe(1)
    },
  )
})

test('a VM that runs goes on when there is no room for a snapshot with its memory', async () => {
  const [vm] = await host.vms.list()
  await host.vms.start('vm')
  const steps: string[] = []
  const onProgress = (step: string) => steps.push(step)
  await expect(
    host.vms.createSnapshot('vm', { name: 'live' }, { onProgress }),
  ).rejects.toMatchObject({ code: 'VM_DISK_FULL', message: expect.stringContaining('expected') })
  expect(steps).toEqual(['check'])
  expect(await readdir(`${host.directory}/${vm?.vmId}/snapshots`)).toEqual([])
  expect(await host.vms.show('vm')).toMatchObject({ state: 'running' })
  await host.vms.stop('vm', { graceSeconds: 0 })
})

async function digestsOf(folder: string): Promise<readonly string[]> {
  const names = (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
  return Promise.all(
    names.sort().map(async (name) => {
      const digest = createHash('sha256')
        .update(await readFile(name))
        .digest('hex')
      return `${name} ${digest}`
    }),
  )
}

function takeAllRoom(ballast: string): void {
  if (existsSync(ballast)) return
  const { bavail, bsize } = statfsSync(volume)
  writeFileSync(ballast, Buffer.alloc(bavail * bsize))
}
