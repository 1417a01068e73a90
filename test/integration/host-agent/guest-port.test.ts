import { chmodSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { getVtpmAuthority, reportVm, type VmReport } from '../../../src/api/control-plane.js'
import { addAnchors } from '../../../src/api/endorsement.js'
import { getGuest } from '../../../src/api/guests.js'
import { revokeVtpmCertificate } from '../../../src/api/vtpm-revocations.js'
import { listVtpmCertificates } from '../../../src/api/vtpm-states.js'
import { toBase64url } from '../../../src/core/bytes.js'
import { systemClock } from '../../../src/core/clock.js'
import type { Session } from '../../../src/host-agent/adapters/attester.js'
import { createAuthority } from '../../../src/host-agent/adapters/authority.js'
import { createVtpmCertifier } from '../../../src/host-agent/adapters/vtpm-certifier.js'
import { createGuestAnswers } from '../../../src/host-agent/guests/answer-guest.js'
import { type GuestDoor, openGuestDoor } from '../../../src/host-agent/guests/guest-door.js'
import type { Inventory, InventoryVm } from '../../../src/host-agent/vm/index.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import { bootGuest, type Challenge, moveVm, type TestGuest } from '../../helpers/guest.js'
import { bootHost, type TestHost, ticketFor, trustHost } from '../../helpers/host.js'
import { openTestSite, silent, type TestSite } from '../../helpers/site.js'

const VM_REPORT: VmReport = { name: 'web', state: 'running', disks: [], vtpm: true }

let site: TestSite
let lab: Lab
let hostA: TestHost
let hostB: TestHost
let onA: Session
let onB: Session
let guest: TestGuest
/** Of the virtual TPM, as the host has it. */
let certificates: readonly string[]

beforeAll(async () => {
  lab = await createLab()
  site = await openTestSite()
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  const { pem } = await site.anybody.call(getVtpmAuthority, {})
  await site.admin.call(addAnchors, { body: { pem, forVms: true } })
  hostA = await bootHost(lab, 'a')
  await trustHost(site, hostA, 'good')
  onA = await hostA.attest(site.anybody)
  hostB = await bootHost(lab, 'b')
  await hostB.enrol(site.anybody, await ticketFor(site))
  onB = await hostB.attest(site.anybody)
  guest = await bootGuest(lab, 'g')
  certificates = [pemOf(await guest.certify(site.anybody, onA))]
  await report(onA, guest.vmId)
}, 120_000)
afterAll(async () => {
  for (const one of [guest, hostA, hostB, site, lab]) await one?.[Symbol.asyncDispose]()
})

function pemOf(der: Uint8Array): string {
  const text = Buffer.from(der).toString('base64').replace(/.{64}/g, '$&\n')
  return `-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----\n`
}

const authorityOf = (session: Session) =>
  createAuthority(site.anybody, async () => session, systemClock)

const report = (session: Session, vmId: string) =>
  authorityOf(session).call(reportVm, { params: { vmId }, body: VM_REPORT })

const move = (from: Session, to: Session) =>
  moveVm({
    ...{ from: authorityOf(from), to: authorityOf(to), vmId: guest.vmId, report: VM_REPORT },
  })

/** The guest's end of a port, in the place of QEMU: a socket that the agent connects to. */
class Port {
  readonly #server: Server
  #socket: Socket | undefined
  #text = ''
  connections = 0
  readonly path: string

  constructor(path: string) {
    this.path = path
    this.#server = createServer((socket) => {
      this.#socket = socket
      this.connections += 1
      socket.setEncoding('utf8')
      socket.on('data', (text: string) => {
        this.#text += text
      })
      socket.on('error', () => undefined)
    })
  }

  async open(): Promise<void> {
    await new Promise<void>((done) => this.#server.listen(this.path, () => done()))
    chmodSync(this.path, 0o600)
  }

  async connected(times = 1): Promise<void> {
    await until(() => this.connections >= times)
  }

  write(text: string): void {
    this.#socket?.write(text)
  }

  hangUp(): void {
    this.#socket?.destroy()
  }

  /** The next line that the agent says. */
  async line(): Promise<Record<string, unknown>> {
    await until(() => this.#text.includes('\n'))
    const [line = '', ...rest] = this.#text.split('\n')
    this.#text = rest.join('\n')
    return JSON.parse(line)
  }

  async ask(request: object): Promise<Record<string, unknown>> {
    this.write(`${JSON.stringify({ id: '1', ...request })}\n`)
    return this.line()
  }

  async close(): Promise<void> {
    this.#socket?.destroy()
    await new Promise<void>((done) => this.#server.close(() => done()))
  }
}

async function until(holds: () => boolean): Promise<void> {
  for (const end = Date.now() + 30_000; !holds(); await delay(20)) {
    if (Date.now() > end) throw new Error('not within 30 s')
  }
}

let ports = 0
let port: Port
let door: GuestDoor
let told: string[]

const inventory = {
  report: async ({ vmId, state }: InventoryVm) => void told.push(`${vmId} ${state}`),
  forget: async (vmId: string) => void told.push(`${vmId} forgotten`),
} as Inventory

const vm = (state: 'running' | 'stopped', vtpm = true): InventoryVm => ({
  ...{ vmId: guest.vmId, name: 'web', state, vtpm, disks: [], keys: [] },
})

/** The agent of a host, as far as it is about guests, with the VM of the guest running on it. */
async function openDoor(hostId: string, session: Session): Promise<void> {
  const authority = authorityOf(session)
  door = openGuestDoor({
    answers: createGuestAnswers({
      ...{ hostId, authority, client: site.anybody, clock: site.clock },
      verifier: `${site.url}/attestation`,
      certifier: createVtpmCertifier(authority, site.anybody),
    }),
    places: { socketOf: () => port.path, certificatesOf: async () => certificates },
    clock: site.clock,
    logger: silent,
  })
  await door.watching(inventory).report(vm('running'))
  await port.connected()
}

beforeEach(async () => {
  ports += 1
  told = []
  port = new Port(join(lab.directory, `p${ports}`))
  await port.open()
})
afterEach(async () => {
  await door[Symbol.asyncDispose]()
  await port.close()
})

const keysOf = (one: TestGuest) => ({
  ekPublic: toBase64url(one.ek.publicArea),
  akPublic: toBase64url(one.ak.publicArea),
})

/** What a guest does: asks for a challenge and answers it. */
async function attestThroughPort(): Promise<Record<string, unknown>> {
  const challenge = await port.ask({ ask: 'challenge', ...keysOf(guest) })
  const given = challenge as unknown as Challenge
  const evidence = await guest.evidence(given, new Uint8Array())
  const { vmId: _vm, ekCertificate: _certificate, ...said } = evidence
  return port.ask({ ask: 'attest', ...said })
}

describe('the port of a VM', () => {
  test('takes a guest to a token, and the agent tells how it went', async () => {
    await openDoor('a', onA)
    expect(door.statusOf('web')).toEqual({ vmId: guest.vmId, connected: true })
    const answer = await attestThroughPort()
    expect(answer).toMatchObject({ id: '1', token: expect.stringMatching(/^eyJ/) })
    expect(door.statusOf('web').last).toMatchObject({ accepted: true })
    expect(() => door.statusOf('other')).toThrow(expect.objectContaining({ code: 'VM_NOT_FOUND' }))
  })

  test('is listened to while the VM runs, whoever hangs up', async () => {
    await openDoor('a', onA)
    port.hangUp()
    await port.connected(2)
    await door.watching(inventory).report(vm('stopped'))
    expect(door.statusOf('web')).toMatchObject({ connected: false })
    await door.watching(inventory).report(vm('running', false))
    expect(door.statusOf('web')).toMatchObject({ connected: false })
    await door.watching(inventory).forget(guest.vmId)
    expect(told.at(-1)).toBe(`${guest.vmId} forgotten`)
  })

  test('does not let a guest speak with the keys of another virtual TPM', async () => {
    await using other = await bootGuest(lab, 'o')
    await openDoor('a', onA)
    const answer = await port.ask({ ask: 'challenge', ...keysOf(other) })
    expect(answer).toMatchObject({ id: '1', error: 'GUEST_UNKNOWN_KEY' })
    expect(door.statusOf('web').last).toMatchObject({ accepted: false, code: 'GUEST_UNKNOWN_KEY' })
  })

  test('does not let a guest say which VM or host it is', async () => {
    await openDoor('a', onA)
    for (const more of [{ vmId: guest.vmId }, { host: {} }, { ekCertificate: '' }]) {
      const answer = await port.ask({ ask: 'challenge', ...keysOf(guest), ...more })
      expect(answer).toMatchObject({ error: 'REQUEST_INVALID' })
    }
  })

  test('bears what is no request: text, depth, lines without end, octets that are no text', async () => {
    await openDoor('a', onA)
    port.write('\n\n')
    for (const line of ['hello', '[]', '{"id":1}', '{"a":{"b":{"c":{"d":{"e":1}}}}}', '\xff\0']) {
      port.write(`${line}\n`)
      expect(await port.line()).toMatchObject({ error: 'REQUEST_INVALID' })
    }
    port.write(`${'x'.repeat(2 * 1024 * 1024 + 1)}\n`)
    expect(await port.line()).toMatchObject({ error: 'DECODE_TOO_LARGE' })
    expect(await port.ask({ ask: 'challenge', ...keysOf(guest) })).toHaveProperty('nonce')
  })

  test('does not let a guest ask without end', async () => {
    await openDoor('a', onA)
    const answers: unknown[] = []
    for (let asked = 0; asked < 32; asked += 1) {
      const request = { ask: 'challenge', ekPublic: 'AAAA', akPublic: 'AAAA' }
      answers.push((await port.ask(request))['error'])
    }
    expect(answers.slice(0, 30)).not.toContain('RATE_LIMITED')
    expect(answers.slice(30)).toEqual(['RATE_LIMITED', 'RATE_LIMITED'])
  })

  test('is of the new host when the VM moved: it has the key certified anew', async () => {
    await openDoor('b', onB)
    expect(await port.ask({ ask: 'challenge', ...keysOf(guest) })).toMatchObject({
      error: 'FORBIDDEN',
    })
    await move(onA, onB)
    site.clock.advance(2_000)
    expect(await attestThroughPort()).toHaveProperty('token')
    const { hostId } = await site.admin.call(getGuest, { params: { vmId: guest.vmId } })
    expect(hostId).toBe('b')
  })

  test('is of its first host again when the VM came back: after one refusal it has a newer certificate', async () => {
    await move(onB, onA)
    site.clock.advance(2_000)
    await openDoor('a', onA)
    expect(await attestThroughPort()).toMatchObject({ error: 'ATTESTATION_REFUSED' })
    expect(await attestThroughPort()).toHaveProperty('token')
    const { hostId } = await site.admin.call(getGuest, { params: { vmId: guest.vmId } })
    expect(hostId).toBe('a')
  })

  test('has a new certificate after one refusal when that of the virtual TPM was taken back', async () => {
    await openDoor('a', onA)
    const { certificates: all } = await site.admin.call(listVtpmCertificates, {
      query: { vmId: guest.vmId, revoked: false },
    })
    for (const { fingerprint } of all) {
      const input = { params: { fingerprint }, body: { reason: 'superseded' as const } }
      await site.admin.call(revokeVtpmCertificate, input)
    }
    expect(await port.ask({ ask: 'challenge', ...keysOf(guest) })).toMatchObject({
      error: 'ATTESTATION_REFUSED',
    })
    expect(await attestThroughPort()).toHaveProperty('token')
  })
})
