import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { toBase64url, utf8 } from '../../../src/core/bytes.js'
import { newUuid, randomOctets } from '../../../src/core/random.js'
import type { Secret } from '../../../src/core/secret.js'
import { LiveChannel } from '../../../src/host-agent/vm/live-channel.js'
import { type Offer, sealOffer } from '../../../src/host-agent/vm/live-offer.js'
import {
  createTestHost,
  directoriesOf,
  LocalKeys,
  MemoryInventory,
  SharedInventory,
  type TestHost,
} from './support.js'

// Somebody on the network comes first to the door that a host opens for a VM that moves while it runs.

const shared = new SharedInventory()
const keys = new LocalKeys()
let files: string
let host: TestHost
let vmId: string
let doors = 0
let path: string
let offer: Offer
let homeKey: Secret
let received: Promise<unknown>
let cancel: AbortController

beforeAll(async () => {
  files = await mkdtemp(join(tmpdir(), 'sigillo-door-'))
  const inventory = new MemoryInventory(shared, { hostId: 'host-a', cluster: 'lab' })
  host = await createTestHost({ keys, inventory })
  const made = await host.vms.create({
    ...{ name: 'vm', provider: 'kp', vtpm: false, memoryMib: 64 },
    disks: [{ name: 'root', sizeOctets: 1024 * 1024 }],
  })
  vmId = made.vmId
  const folder = `${host.directory}/${vmId}`
  const content = async (file: string) => toBase64url(await readFile(`${folder}/${file}`))
  const { keys: records } = JSON.parse(await readFile(`${folder}/keys.json`, 'utf8'))
  const { wrapped } = records.find((one: { object: string }) => one.object === 'home')
  const context = { vm: vmId, object: 'home' }
  const [key] = await keys.unwrap('kp', [{ wrapped, purpose: 'vm-home', context }])
  if (!key) throw new Error('expected the home key')
  homeKey = key
  offer = {
    ...{ format: 1, vmId, exportId: newUuid(), hostId: 'host-b', cluster: 'lab' },
    ...{ directory: '/nowhere', nonce: toBase64url(randomOctets(32)) },
    ...{ shape: { accelerator: 'tcg', machine: 'pc-q35-7.2', disks: [] }, snapshots: [] },
    files: [
      { file: 'vm.json', content: await content('vm.json') },
      { file: 'keys.json', content: await content('keys.json') },
      { file: 'home.enc', content: await content('home.enc') },
    ],
  }
})
afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await rm(files, { recursive: true })
})

beforeEach(async () => {
  doors += 1
  path = join(files, `door${doors}`)
  cancel = new AbortController()
  let listens: () => void = () => undefined
  const listening = new Promise<void>((resolve) => {
    listens = resolve
  })
  received = host.vms.receive(
    { listen: `unix:${path}` },
    { signal: cancel.signal, onProgress: (step) => (step === 'listen' ? listens() : undefined) },
  )
  received.catch(() => undefined)
  await listening
})
afterEach(async () => {
  cancel.abort(new Error('the test is over'))
  await received.catch(() => undefined)
})

async function call(): Promise<Socket> {
  const socket = connect(path)
  await new Promise((resolve) => socket.once('connect', resolve))
  return socket
}

describe('what was handed over', () => {
  beforeEach(async () => {
    await host.vms.export('vm', { directory: join(files, `export${doors}`), move: true })
  })
  afterEach(async () => {
    shared.owners.set(vmId, 'host-a')
    if ((await host.vms.show('vm')).handedOverAt) await host.vms.takeBack('vm')
  })

  test('is not taken back because somebody makes an offer who has not its key', async () => {
    using channel = new LiveChannel(await call())
    const forged = { offer, mac: toBase64url(randomOctets(32)) }
    await channel.send('open', utf8(JSON.stringify(forged)))
    await expect(received).rejects.toMatchObject({ code: 'VM_LIVE' })
    expect(shared.offers.has(vmId)).toBe(true)
  })

  test('is not removed for an offer that was made before, by somebody who heard it', async () => {
    shared.owners.set(vmId, 'host-b')
    const socket = await call()
    const channel = new LiveChannel(socket)
    await channel.send('open', utf8(JSON.stringify(sealOffer(offer, homeKey))))
    await channel.receive('open')
    // whoever has the key goes on with frames that are sealed
    await channel.send('begin', new Uint8Array(64))
    await expect(received).rejects.toMatchObject({ code: 'VM_LIVE' })
    expect(await directoriesOf(host)).toEqual([vmId])
    expect(existsSync(`${host.directory}/${vmId}/disk-root.luks`)).toBe(true)
    channel[Symbol.dispose]()
  })
})

test('who says nothing, or speaks slowly, keeps nobody from ending the wait', async () => {
  const socket = await call()
  socket.write(Buffer.from([0, 0, 1]))
  const reason = new Error('cancelled')
  await new Promise((resolve) => setImmediate(resolve))
  cancel.abort(reason)
  await expect(received).rejects.toBe(reason)
  socket.destroy()
})

describe('a connection between hosts', () => {
  let server: Server
  let mine: Socket
  let other: LiveChannel

  beforeEach(async () => {
    server = createServer()
    await new Promise<void>((resolve) => server.listen(join(files, `pair${doors}`), resolve))
    const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve))
    mine = connect(join(files, `pair${doors}`))
    other = new LiveChannel(await accepted)
  })
  afterEach(() => {
    mine.destroy()
    other[Symbol.dispose]()
    server.close()
  })

  test('is given up when the other side does not say what it has to in time', async () => {
    mine.write(Buffer.from([0, 0, 0]))
    const late = other.within(20, undefined, () => other.receive('begin'))
    await expect(late).rejects.toMatchObject({ code: 'VM_LIVE' })
  })

  test.each([
    ['open', 0, 8 * 1024 * 1024 + 1],
    ['prepared', 1, 17 * 1024],
    ['data', 2, 1024 * 1024 + 17],
    ['failed', 7, 17 * 1024],
    ['unknown', 99, 1],
  ])('takes no frame %s that is larger than it has to be', async (_, kind, octets) => {
    const header = Buffer.alloc(5)
    header.writeUInt32BE(octets, 0)
    header[4] = kind
    mine.write(header)
    await expect(other.receive('open', 'prepared', 'data')).rejects.toMatchObject({
      code: 'VM_LIVE',
      message: expect.stringContaining('expected a frame'),
    })
  })

  test('passes on why the other side failed, and not more than that', async () => {
    const say = async (failure: object) => {
      const content = Buffer.from(JSON.stringify(failure))
      const header = Buffer.alloc(5)
      header.writeUInt32BE(content.length, 0)
      header[4] = 7
      mine.write(Buffer.concat([header, content]))
      return other.receive('open').catch((error: unknown) => String(error))
    }
    expect(await say({ code: 'VM_EXISTS', message: 'it is here' })).toContain(
      'the other host failed: VM_EXISTS: it is here',
    )
    const long = { code: 'VM_EXISTS', message: 'x'.repeat(10_000) }
    expect(String(await say(long)).length).toBeLessThan(400)
    expect(await say({ code: 'no code\n', message: 'it is here' })).not.toContain('no code')
  })
})
