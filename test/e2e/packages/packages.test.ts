import { execFile } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createLab, type Lab } from '../../../swtpm/index.js'
import { measuredBoot } from '../../helpers/vectors.js'
import { bootMachine, type Machine } from './machine.js'

// The packages on a machine of their own, with systemd: authority and host agent as their users, without root. The TPM is a
// software TPM outside of the machine.

const SITE = '/var/lib/sigillo/site'
const LISTEN = '127.0.0.1:8440'
const EVENT_LOG = measuredBoot('04-shim-grub-sb-on-mskeys', 'binary_bios_measurements')

let machine: Machine
let lab: Lab

beforeAll(async () => {
  machine = await bootMachine()
  await buildPackages('0.1.0')
  const directory = join(machine.shared, 'lab')
  mkdirSync(directory)
  lab = await createLab({ directory })
  const tpm = await lab.manufacture('host-1', { ekCertificates: true })
  await tpm.boot(EVENT_LOG)
  writeFileSync(join(machine.shared, 'event-log'), EVENT_LOG)
  writeFileSync(join(machine.shared, 'anchors.pem'), lab.anchorsPem)
  await openToOthers(machine.shared)
  writeFileSync(
    join(machine.shared, 'agent.toml'),
    `hostId = "host-1"
[authority]
url = "https://${LISTEN}"
caFile = "/etc/sigillo/tls-ca.pem"
ticketFile = "/var/lib/sigillo-agent/ticket"
[tpm]
tcti = "${tpm.tcti}"
eventLogFile = "${machine.shared}/event-log"
`,
  )
})

afterAll(async () => {
  await lab?.[Symbol.asyncDispose]()
  await machine?.[Symbol.asyncDispose]()
})

test('the packages install, and nothing starts before there is a site and a configuration', async () => {
  await install('0.1.0')
  for (const unit of ['sigillo', 'sigillo-agent']) {
    expect(await machine.run('systemctl', 'is-enabled', unit)).toBe('enabled\n')
    await machine.run('systemctl', 'start', unit)
    expect(await property(unit, 'ActiveState')).toBe('inactive')
    expect(await property(unit, 'ConditionResult')).toBe('no')
  }
  expect(await machine.run('sigillo', '--version')).toBe('0.1.0\n')
})

test('the authority runs as a user of its own, who cannot become another and whose memory is not dumped', async () => {
  await machine.run(
    ...['runuser', '-u', 'sigillo', '--', 'sigillo', 'init', SITE, '--listen', LISTEN],
    ...['--mode', 'lab'],
  )
  await machine.run('systemctl', 'start', 'sigillo')
  await until(() => sigillo('cluster', 'create', 'lab'))
  await expectConfined('sigillo', 'sigillo')
})

test('an attested host runs an encrypted VM with a virtual TPM, and no process of it is of root', async () => {
  await sigillo('anchor', 'add', join(machine.shared, 'anchors.pem'), '--insecure-test')
  await sigillo('provider', 'create', 'gold', '--cluster', 'lab')
  const ticket = await sigillo('ticket', 'create', '--cluster', 'lab', '--host', 'host-1')
  writeFileSync(join(machine.shared, 'ticket'), ticket, { mode: 0o600 })
  const of = (mode: string) => ['install', '-o', 'sigillo-agent', '-g', 'sigillo-agent', '-m', mode]
  await machine.run(...of('0600'), `${machine.shared}/ticket`, '/var/lib/sigillo-agent/ticket')
  await machine.run(...of('0640'), `${machine.shared}/agent.toml`, '/etc/sigillo/agent.toml')
  await machine.run('install', '-m', '0644', `${SITE}/tls-ca.pem`, '/etc/sigillo/tls-ca.pem')
  await machine.run('systemctl', 'start', 'sigillo-agent')
  await until(async () => {
    await agent('attest').catch(() => undefined)
    return await sigillo('image', 'capture', 'debian-12', '--host', 'host-1')
  })
  await agent('attest')
  await agent('vm', 'create', 'web1', '--provider', 'gold', '--disk', 'root=8M', '--memory', '128')
  const { state, pid } = JSON.parse(await agent('vm', 'start', 'web1', '--json'))
  expect(state).toBe('running')
  await expectConfined('sigillo-agent', 'sigillo-agent')
  const owners = await machine.run('ps', '-o', 'user:32=', '-C', 'qemu-system-x86_64,swtpm')
  expect(new Set(owners.trim().split('\n'))).toEqual(new Set(['sigillo-agent']))
  expect(await limitOf(pid, 'Max core file size')).toBe('0')
})

test('an upgrade keeps site and VMs, and a VM runs on meanwhile', async () => {
  const before = JSON.parse(await agent('vm', 'show', 'web1', '--json'))
  await buildPackages('0.1.0+next')
  await install('0.1.0+next')
  expect(await machine.run('sigillo', '--version')).toBe('0.1.0+next\n')
  await until(() => sigillo('provider', 'list'))
  await until(() => agent('attest'))
  const after = JSON.parse(await agent('vm', 'show', 'web1', '--json'))
  expect(after).toEqual(before)
  expect(JSON.parse(await sigillo('host', 'show', 'host-1', '--json')).state).toBe('trusted')
  await agent('vm', 'stop', 'web1', '--grace', '0')
  expect(JSON.parse(await agent('vm', 'start', 'web1', '--json')).state).toBe('running')
  await agent('vm', 'stop', 'web1', '--grace', '0')
})

test('packages that are purged leave keys and VMs where they are', async () => {
  const said = await machine.run(
    ...['sh', '-c', 'dpkg --purge sigillo-agent sigillo sigillo-common 2>&1'],
  )
  expect(said).toContain('/var/lib/sigillo-agent is kept')
  expect(said).toContain('/var/lib/sigillo is kept')
  expect(await machine.run('ls', SITE)).toContain('sigillo.db')
  await expect(machine.run('systemctl', 'cat', 'sigillo.service')).rejects.toThrow('No files found')
})

test('a guest gets a package of its own: one script, and nothing of what authority and hosts have', async () => {
  const [file = '', ...more] = packageFiles('0.1.0').filter(isOfGuests)
  expect({ file, more }).toEqual({ file: expect.stringMatching(/_all\.deb$/), more: [] })
  const run = promisify(execFile)
  const { stdout: fields } = await run('dpkg-deb', ['--field', file, 'Architecture', 'Depends'])
  expect(fields).toBe('Architecture: all\nDepends: tpm2-tools (>= 5)\n')
  const { stdout: listed } = await run('dpkg-deb', ['--contents', file])
  const contents = listed.trim().split('\n')
  expect(
    contents.filter((line) => !/^(drwxr-xr-x|-rw[x-]r-[x-]r-[x-]) root\/root /.test(line)),
  ).toEqual([])
  expect(contents.flatMap((line) => (/^-.* \.(\/.*)$/.exec(line) ?? []).slice(1)).sort()).toEqual([
    '/usr/bin/sigillo-attest',
    ...['changelog.gz', 'copyright', 'guest-attestation.md'].map(
      (name) => `/usr/share/doc/sigillo-guest/${name}`,
    ),
    '/usr/share/man/man1/sigillo-attest.1.gz',
  ])

  await machine.run('dpkg', '--install', file)
  expect(await machine.run('dpkg', '--verify', 'sigillo-guest')).toBe('')
  await machine.run('sh', '-n', '/usr/bin/sigillo-attest')
  // This machine is no VM of a host
  const said = await machine.run('sh', '-c', 'sigillo-attest 2>&1; echo "status $?"')
  expect(said).toMatch(/no port org\.sigillo\.attestation\nstatus 1\n$/)
  expect(
    await machine.run(
      'sh',
      '-c',
      'zcat /usr/share/man/man1/sigillo-attest.1.gz | man -l --warnings - 2>&1 >/dev/null',
    ),
  ).toBe('')
  await machine.run('dpkg', '--purge', 'sigillo-guest')
  await expect(machine.run('ls', '/usr/share/doc/sigillo-guest')).rejects.toThrow('No such file')
})

test('systemd finds nothing wrong with the units, and little exposed', async () => {
  await install('0.1.0')
  const units = ['sigillo.service', 'sigillo-agent.service']
  await machine.run('systemd-analyze', 'verify', '--man=no', ...units)
  // Scale of systemd: 0 is most confined, 10 not at all. What is above is refused by the exit code.
  await machine.run('systemd-analyze', 'security', '--threshold=20', 'sigillo.service')
  await machine.run('systemd-analyze', 'security', '--threshold=35', 'sigillo-agent.service')
})

test.runIf(process.env['SLOW'])('packages of the same sources are the same octets', async () => {
  const first = await Promise.all(packageFiles('0.1.0').map(digestOf))
  await buildPackages('0.1.0')
  expect(await Promise.all(packageFiles('0.1.0').map(digestOf))).toEqual(first)
})

async function expectConfined(unit: string, user: string): Promise<void> {
  const pid = await property(unit, 'MainPID')
  const status = await machine.run('cat', `/proc/${pid}/status`)
  expect(status).toMatch(/^CapBnd:\t0+$/m)
  expect(status).toMatch(/^NoNewPrivs:\t1$/m)
  expect(status).toMatch(/^Seccomp:\t2$/m)
  expect((await machine.run('stat', '-c', '%U', `/proc/${pid}/task`)).trim()).toBe(user)
  expect(await limitOf(pid, 'Max core file size')).toBe('0')
}

async function limitOf(pid: string | number, name: string): Promise<string | undefined> {
  const limits = await machine.run('cat', `/proc/${pid}/limits`)
  const line = limits.split('\n').find((text) => text.startsWith(name))
  return line?.slice(name.length).trim().split(/\s+/)[0]
}

async function property(unit: string, name: string): Promise<string> {
  return (await machine.run('systemctl', 'show', '--value', '-p', name, unit)).trim()
}

function sigillo(...args: readonly string[]): Promise<string> {
  return machine.run('sigillo', ...args, '--site', SITE)
}

function agent(...args: readonly string[]): Promise<string> {
  return machine.run('sigillo-agent', ...args)
}

async function buildPackages(version: string): Promise<void> {
  const output = join(machine.shared, 'packages')
  await promisify(execFile)('scripts/package', ['--output', output, '--version', version])
}

function packageFiles(version: string): readonly string[] {
  const folder = join(machine.shared, 'packages')
  return readdirSync(folder)
    .filter((name) => name.includes(`_${version}_`))
    .map((name) => join(folder, name))
}

/** What authority and hosts need. */
async function install(version: string): Promise<void> {
  const files = packageFiles(version).filter((file) => !isOfGuests(file))
  await machine.run('dpkg', '--install', ...files)
}

function isOfGuests(file: string): boolean {
  return file.includes('/sigillo-guest_')
}

async function digestOf(file: string): Promise<string> {
  return (await promisify(execFile)('sha256sum', [file])).stdout
}

/** The TPM's socket is for root outside; inside another user asks it. */
async function openToOthers(folder: string): Promise<void> {
  chmodSync(folder, 0o755)
  await promisify(execFile)('chmod', ['-R', 'a+rwX', folder])
}

/** Some tries, a tenth of a second apart; the last one's error. */
async function until<T>(attempt: () => Promise<T>): Promise<T> {
  for (let left = 150; ; left -= 1) {
    try {
      return await attempt()
    } catch (error) {
      if (left === 0) throw error
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}
