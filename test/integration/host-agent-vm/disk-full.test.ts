import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, statfsSync, writeFileSync } from 'node:fs'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestHost, type TestHost } from './support.js'

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
  await run('mount', ['-t', 'tmpfs', '-o', 'size=20m,mode=0700', 'tmpfs', volume])
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
  expect(await readdir(host.directory)).toEqual([])
})

test.each([...['keys', 'home', 'root: format', 'root: fill', 'vtpm']])(
  'when the disk becomes full at the step %s, nothing of the VM remains',
  async (full) => {
    const ballast = `${volume}/ballast`
    const request = { name: 'vm', provider: 'kp', disks: [{ name: 'root', from: image }] }
    const attempt = host.vms.create(request, (step) => {
      if (step === full) takeAllRoom(ballast)
    })
    await expect(attempt).rejects.toMatchObject({ code: 'VM_DISK_FULL' })
    expect(await readdir(host.directory)).toEqual([])
    await rm(ballast)
  },
)

test('and a VM that fits is made afterwards', async () => {
  const disks = [{ name: 'root', from: image }]
  const vm = await host.vms.create({ name: 'vm', provider: 'kp', disks })
  expect(vm.disks).toEqual([{ name: 'root', sizeOctets: 8 * MIB, format: 'luks1' }])
})

function takeAllRoom(ballast: string): void {
  if (existsSync(ballast)) return
  const { bavail, bsize } = statfsSync(volume)
  writeFileSync(ballast, Buffer.alloc(bavail * bsize))
}
