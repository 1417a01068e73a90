import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { BOOT_MS, counting as countingIn } from '../../helpers/counting.js'
import { COUNTER_MAGIC, countingGuest } from '../../helpers/counting-guest.js'
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

const run = promisify(execFile)
const SLOW = process.env['SLOW'] === '1'
const shared = new SharedInventory()
const keys = new LocalKeys()

let files: string
let vmId: string
let a: TestHost
let b: TestHost
let inventoryOfB: MemoryInventory
let doors = 0

const hostOf = (
  inventory: MemoryInventory,
  change: { keys?: LocalKeys; directory?: string } = {},
) =>
  createTestHost({
    ...{ keys: change.keys ?? keys, inventory },
    ...(change.directory === undefined ? {} : { directory: change.directory }),
  })

beforeAll(async () => {
  files = await mkdtemp(join(tmpdir(), 'sigillo-live-'))
  await writeFile(join(files, 'guest.raw'), countingGuest())
  a = await hostOf(new MemoryInventory(shared, { hostId: 'host-a', cluster: 'lab' }))
  inventoryOfB = new MemoryInventory(shared, { hostId: 'host-b', cluster: 'lab' })
  b = await hostOf(inventoryOfB)
  const made = await a.vms.create({
    ...{ name: 'vm', provider: 'kp', memoryMib: 128 },
    disks: [
      { name: 'root', from: join(files, 'guest.raw') },
      { name: 'spare', sizeOctets: 1024 * 1024 },
      { name: 'data', sizeOctets: 1024 * 1024 },
    ],
  })
  vmId = made.vmId
  await a.vms.start('vm')
  await counting(a)
  // the guest goes on seeing the other disk where it is
  await a.vms.removeDisk('vm', 'spare')
  await a.vms.createSnapshot('vm', { name: 'kept' })
}, BOOT_MS)

afterAll(async () => {
  await a[Symbol.asyncDispose]()
  await b[Symbol.asyncDispose]()
  await rm(files, { recursive: true })
})

beforeEach(() => {
  doors += 1
})

/** Waits until the guest counts there, and goes on to. */
const counting = (host: TestHost, from = 0n) => countingIn(`${host.directory}/${vmId}`, from)

/** Has one host send the VM and another receive it, through a line that a test can tamper with. */
async function move(
  from: TestHost,
  to: TestHost,
  line?: (there: Buffer, number: number) => Buffer | undefined,
  back?: (here: Buffer) => Buffer | undefined,
): Promise<readonly [PromiseSettledResult<unknown>, PromiseSettledResult<unknown>]> {
  const inner = `${files}/in${doors}`
  const outer = line ? `${files}/out${doors}` : inner
  let listens: () => void = () => undefined
  const listening = new Promise<void>((resolve) => {
    listens = resolve
  })
  const received = to.vms.receive(
    { listen: `unix:${inner}` },
    { onProgress: (step) => (step === 'listen' ? listens() : undefined) },
  )
  await listening
  const server = line && createServer()
  server?.on('connection', (left) => {
    const right = connect(inner)
    let count = 0
    left.on('data', (chunk) => {
      const passed = line?.(chunk, count++)
      if (passed) right.write(passed)
      else left.destroy()
    })
    right.on('data', (chunk) => {
      const passed = back ? back(chunk) : chunk
      if (passed) left.write(passed)
      else left.destroy()
    })
    for (const [one, other] of [
      [left, right],
      [right, left],
    ] as const) {
      one.on('error', () => undefined)
      one.on('close', () => other.destroy())
    }
  })
  if (server) await new Promise<void>((resolve) => server.listen(outer, resolve))
  try {
    return await Promise.allSettled([from.vms.send('vm', { to: `unix:${outer}` }), received])
  } finally {
    server?.close()
  }
}

const failed = (code: string) => ({ status: 'rejected', reason: expect.objectContaining({ code }) })

/** The guest goes on where it was, and nothing of it is on the other host. */
async function expectStillAt(host: TestHost, other: TestHost, before: bigint): Promise<void> {
  await counting(host, before)
  expect(await host.vms.show('vm')).toMatchObject({ state: 'running' })
  expect((await host.vms.show('vm')).handedOverAt).toBeUndefined()
  expect(await directoriesOf(other)).toEqual([])
  expect(processesNaming(other.directory)).toEqual([])
}

describe('a VM that runs', () => {
  test('does not move to a host without its key, of another cluster, or without its storage', async () => {
    const before = await counting(a)
    const placeOf = (hostId: string, cluster = 'lab') =>
      new MemoryInventory(shared, { hostId, cluster })
    await using keyless = await hostOf(placeOf('host-c'), { keys: new LocalKeys() })
    expect(await move(a, keyless)).toMatchObject([failed('VM_LIVE'), failed('FORBIDDEN')])
    await expectStillAt(a, keyless, before)
    doors += 1000
    await using outside = await hostOf(placeOf('host-d', 'other'))
    expect(await move(a, outside)).toMatchObject([failed('VM_LIVE'), failed('VM_HAND_OVER')])
    await expectStillAt(a, outside, before)
    doors += 1000
    const volume = join(files, 'volume')
    await run('mkdir', [volume])
    await run('mount', ['-t', 'tmpfs', '-o', 'size=26m,mode=0700', 'tmpfs', volume])
    try {
      await using apart = await hostOf(placeOf('host-e'), { directory: `${volume}/vms` })
      expect(await move(a, apart)).toMatchObject([failed('VM_LIVE'), failed('VM_LIVE')])
      await expectStillAt(a, apart, before)
    } finally {
      await run('umount', [volume])
    }
  })

  test('goes on where it is when the line is cut, or somebody changes what is on it', async () => {
    const before = await counting(a)
    const cut = await move(a, b, (chunk, number) => (number < 100 ? chunk : undefined))
    expect(cut).toMatchObject([failed('VM_LIVE'), failed('VM_LIVE')])
    await expectStillAt(a, b, before)
    doors += 1000
    const flipped = await move(a, b, (chunk, number) => {
      const copy = Buffer.from(chunk)
      if (number === 60) copy[copy.length - 1] = (copy[copy.length - 1] ?? 0) ^ 1
      return copy
    })
    expect(flipped).toMatchObject([failed('VM_LIVE'), failed('VM_LIVE')])
    await expectStillAt(a, b, before)
  })

  test('goes on where it is when the control plane does not let the other host have it', async () => {
    const before = await counting(a)
    inventoryOfB.isAway = true
    const [sent, received] = await move(a, b)
    inventoryOfB.isAway = false
    expect(sent).toMatchObject(failed('VM_LIVE'))
    expect(received).toMatchObject(failed('AUTHORITY_UNREACHABLE'))
    await expectStillAt(a, b, before)
  })

  test('stays where it is when a snapshot of it was altered', async () => {
    const [kept] = await a.vms.listSnapshots('vm')
    const path = `${a.directory}/${vmId}/snapshots/${kept?.snapshotId}/snapshot.json`
    const text = await readFile(path, 'utf8')
    await writeFile(path, text.replace('"kept"', '"best"'))
    const before = await counting(a)
    expect(await move(a, b)).toMatchObject([failed('VM_LIVE'), failed('VM_SNAPSHOT_CORRUPT')])
    await writeFile(path, text)
    await expectStillAt(a, b, before)
  })

  test('moves with its memory, virtual TPM and snapshots while its guest goes on', async () => {
    const before = await counting(a)
    const line: Buffer[] = []
    const [sent, received] = await move(a, b, (chunk) => {
      if (line.length < 4000) line.push(chunk)
      return chunk
    })
    expect([sent, received]).toMatchObject([
      { status: 'fulfilled', value: { state: 'stopped', handedOverAt: expect.any(String) } },
      { status: 'fulfilled', value: { state: 'running', vmId } },
    ])
    await counting(b, await counting(b, before))
    expect(await b.vms.listSnapshots('vm')).toMatchObject([{ name: 'kept', memory: true }])
    expect(processesNaming(a.directory)).toEqual([])
    const text = Buffer.concat(line)
    expect(text.includes(COUNTER_MAGIC)).toBe(false)
    expect(keys.seen.some((key) => text.includes(key))).toBe(false)
    expect(await findKeys(keys.seen, b.directory)).toEqual([])
    expect(await findWideModes(b.directory)).toEqual([])
    await expect(a.vms.start('vm')).rejects.toMatchObject({ code: 'VM_EXPORTED' })
    await expect(a.vms.takeBack('vm')).rejects.toMatchObject({ code: 'VM_HAND_OVER' })
    await expect(b.vms.receive({ listen: 'nowhere' })).rejects.toMatchObject({
      code: 'REQUEST_INVALID',
    })
  })

  test('moves back, though the line is cut before the first host hears that it runs there', async () => {
    const before = await counting(b)
    const kinds: number[] = []
    const [sent, received] = await move(
      b,
      a,
      (chunk) => chunk,
      (chunk) => {
        kinds.push(chunk[4] ?? 0)
        return kinds.length > 3 ? undefined : chunk
      },
    )
    // open, prepared, loaded, and running, which was lost
    expect(kinds).toEqual([0, 1, 4, 6])
    expect([sent, received]).toMatchObject([{ status: 'fulfilled' }, { status: 'fulfilled' }])
    await counting(a, before)
    expect(processesNaming(b.directory)).toEqual([])
    await b.vms.delete('vm')
    expect(await directoriesOf(b)).toEqual([])
  })

  for (const step of SLOW ? ['keys', 'copy', 'load', 'take'] : ['load']) {
    test(`goes on where it is when the agent of the other host is killed at the step ${step}`, async () => {
      const before = await counting(a)
      const path = `${files}/k${doors}`
      const killed = moveAndDie(
        { directory: b.directory, kek: keys.kek },
        { receive: `unix:${path}` },
        step,
      )
      while (!existsSync(path)) await delay(20)
      await expect(a.vms.send('vm', { to: `unix:${path}` })).rejects.toMatchObject({
        code: 'VM_LIVE',
      })
      await killed
      await counting(a, before)
      const next = b.restart()
      await next.recover()
      expect(processesNaming(b.directory)).toEqual([])
      // locked where it was made already: the control plane says whose it is
      for (const { name } of await next.list()) {
        await expect(next.start(name)).rejects.toMatchObject({ code: 'VM_EXPORTED' })
        await expect(next.takeBack(name)).rejects.toMatchObject({ code: 'VM_HAND_OVER' })
        await next.delete(name)
      }
      expect(await directoriesOf(b)).toEqual([])
      const read = await readFile(`${a.directory}/${vmId}/disk-root.luks`)
      expect(read.subarray(0, 4).toString('latin1')).toBe('LUKS')
    })
  }

  for (const step of SLOW ? ['prepare', 'copy', 'load'] : ['load']) {
    test(`goes on where it is when its own agent is killed at the step ${step}`, async () => {
      const before = await counting(a)
      const path = `${files}/s${doors}`
      const received = b.vms.receive({ listen: `unix:${path}` })
      const outcome = expect(received).rejects.toMatchObject({ code: 'VM_LIVE' })
      while (!existsSync(path)) await delay(20)
      await moveAndDie({ directory: a.directory, kek: keys.kek }, { send: `unix:${path}` }, step)
      await outcome
      const next = a.restart()
      await next.recover()
      await next[Symbol.asyncDispose]()
      await expectStillAt(a, b, before)
    })
  }

  test('waits, locked, when its own agent is killed before the other host hears that it may go on', async () => {
    const before = await counting(a)
    const path = `${files}/h${doors}`
    const received = b.vms.receive({ listen: `unix:${path}` })
    const outcome = expect(received).rejects.toMatchObject({ code: 'VM_LIVE' })
    while (!existsSync(path)) await delay(20)
    const host = { directory: a.directory, kek: keys.kek }
    await moveAndDie(host, { send: `unix:${path}` }, 'hand over')
    await outcome
    const next = a.restart()
    await next.recover()
    expect(await next.show('vm')).toMatchObject({ handedOverAt: expect.any(String) })
    await next.takeBack('vm')
    await next[Symbol.asyncDispose]()
    await expectStillAt(a, b, before)
  })

  test('has its disks, firmware variables, virtual TPM and snapshots when it is stopped and started where it moved to', async () => {
    await a.vms.stop('vm', { graceSeconds: 0 })
    const guest = await readFile(join(files, 'guest.raw'))
    const octets = await a.vms.readDisk('vm', 'root', 0, 1024 * 1024)
    expect(Buffer.from(octets).equals(guest.subarray(0, 1024 * 1024))).toBe(true)
    const variables = await readNvram(a, vmId)
    expect(variables.includes(Buffer.from('BootOrder', 'utf16le'))).toBe(true)
    await a.vms.start('vm')
    await a.vms.stop('vm', { graceSeconds: 0 })
    await expect(a.vms.send('vm', { to: 'localhost:1' })).rejects.toMatchObject({
      code: 'VM_STOPPED',
    })
    await a.vms.revertSnapshot('vm', 'kept')
    await counting(a)
  })
})
