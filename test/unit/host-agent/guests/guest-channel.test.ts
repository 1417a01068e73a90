import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createLogger } from '../../../../src/core/logger.js'
import {
  type GuestChannel,
  openGuestChannel,
} from '../../../../src/host-agent/guests/guest-channel.js'

const MIB = 1024 * 1024

let folder: string
let server: Server
let port: Socket
let channel: GuestChannel
let replies: string
let nowMs: number
/** Ends the pause that the channel makes. */
let endPause: () => void
/** Resolves when the channel makes a pause. */
let pausing: Promise<void>

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sigillo-port-'))
  replies = ''
  nowMs = 0
  let began: () => void = () => undefined
  const nextPause = () => {
    pausing = new Promise((resolve) => {
      began = resolve
    })
  }
  nextPause()
  server = createServer()
  await new Promise<void>((resolve) => server.listen(join(folder, 'port'), resolve))
  const connected = new Promise<Socket>((resolve) => server.once('connection', resolve))
  channel = openGuestChannel({
    path: join(folder, 'port'),
    vmId: 'e0a2c3ff-0d0f-4a51-9d3f-2a8a9a0c8f11',
    answer: async () => ({ token: 'token', expiresAt: '2026-01-01T00:00:00.000Z' }),
    monotonicMs: () => nowMs,
    logger: createLogger({ name: 'test', level: 'silent' }),
    pause: () =>
      new Promise<void>((resolve) => {
        endPause = () => {
          nextPause()
          resolve()
        }
        began()
      }),
  })
  port = await connected
  port.setEncoding('utf8')
  port.on('data', (text: string) => {
    replies += text
  })
  port.on('error', () => undefined)
})
afterEach(async () => {
  const closed = channel[Symbol.asyncDispose]()
  endPause?.()
  await closed
  port.destroy()
  await new Promise((resolve) => server.close(resolve))
  rmSync(folder, { recursive: true })
})

const codes = () =>
  replies
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line).error)

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve))
}

test('a guest that floods its port with lines that are no requests is heard no more for a while', async () => {
  port.write('no request\n'.repeat(50_000))
  await pausing
  await until(() => codes().length === 31)
  expect(codes().slice(0, 30)).toEqual(Array(30).fill('REQUEST_INVALID'))
  expect(codes()[30]).toBe('RATE_LIMITED')
  endPause()
  await pausing
  await until(() => codes().length === 32)
})

test('a port that is closed with lines that were not answered is let go of', async () => {
  port.write('no request\n'.repeat(50_000))
  await pausing
  const closed = channel[Symbol.asyncDispose]()
  endPause()
  await closed
  expect(channel.isConnected).toBe(false)
})

test('what is far too long for a line is not read at the speed at which a guest can write', async () => {
  port.write(Buffer.alloc(3 * MIB, 'x'))
  await pausing
  port.write(Buffer.alloc(8 * MIB, 'x'))
  expect(port.writableLength).toBeGreaterThan(7 * MIB)
  endPause()
  await pausing
  expect(port.writableLength).toBeGreaterThan(3 * MIB)
})
