// The main job, end to end, on two software TPMs: what `scripts/demo` runs.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { createClient } from '../src/api/client.js'
import { unwrapKeys } from '../src/api/key-provider.js'
import { createDpopProof, generateSessionKeys } from '../src/tokens/index.js'
import { createLab, type Lab, type LabTpm, withOtherBootLoader } from '../swtpm/index.js'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const EVENT_LOG = join(
  root,
  'test/vectors/measured-boot/04-shim-grub-sb-on-mskeys/binary_bios_measurements',
)
const CLUSTER = 'lab'
const PROVIDER = 'gold'
const MESSAGE = 'The quick brown fox is written on an encrypted disk.\n'
const TIMEOUT_MS = 120_000

const { values: flags } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
  },
})

interface Step {
  readonly step: number
  readonly title: string
  readonly tookMs: number
  readonly facts: readonly string[]
}

/** Resolves at the first Ctrl-C or SIGTERM: the step that is done now is the last. */
let isInterrupted = false
const interrupted = new Promise<void>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      isInterrupted = true
      resolve()
    })
  }
})

const steps: Step[] = []
const started: { readonly name: string; readonly end: () => PromiseLike<void> }[] = []

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'sgl-demo-'))
  started.push({
    name: 'the folder',
    end: () => rm(folder, { recursive: true, force: true }),
  })
  const site = join(folder, 'site')
  const lab = await createLab({ directory: join(folder, 'lab') })
  started.push({ name: 'the software TPMs', end: () => lab[Symbol.asyncDispose]() })
  const port = await freePort()
  const sigillo = (...args: readonly string[]) => run('main', [...args, '--site', site])

  const good = new Uint8Array(readFileSync(EVENT_LOG))
  const bad = withOtherBootLoader(good, 'grubx64.efi', Buffer.from('another boot loader'))
  const hosts = await step('two hosts are manufactured and booted', async (fact) => {
    const a = await bootHost(lab, folder, 'host-a', good)
    const b = await bootHost(lab, folder, 'host-b', bad)
    fact('each has a TPM with EK certificates (RSA-2048 and P-384) of a lab authority')
    fact('host-a replayed a real boot: OVMF, shim, GRUB, Debian kernel, Secure Boot on')
    fact('host-b the same with another grubx64.efi')
    return { a, b }
  })

  await step('the authority starts: attestation, key provider, control plane', async (fact) => {
    await sigilloInit(site, port)
    const authority = start('main', ['serve', '--site', site])
    started.push({ name: 'the authority', end: authority.end })
    await until(() => healthy(site, port))
    fact(`https://127.0.0.1:${port}, SQLite, TLS, root keys sealed by a passphrase file`)
  })

  await step('trust anchors, a cluster, tickets', async (fact) => {
    const anchors = join(folder, 'lab-anchors.pem')
    await writeFile(anchors, lab.anchorsPem)
    const added = await sigillo('anchor', 'add', anchors, '--insecure-test', '--json')
    for (const { subject } of list(added, 'anchors')) fact(`trusted to endorse TPMs: ${subject}`)
    await sigillo('cluster', 'create', CLUSTER)
    for (const host of ['host-a', 'host-b']) {
      const ticket = await sigillo('ticket', 'create', '--cluster', CLUSTER, '--host', host)
      await writeFile(join(folder, host, 'ticket'), ticket, { mode: 0o600 })
    }
    fact('one ticket for each host')
  })

  await step('host-a is enrolled by credential activation', async (fact) => {
    await startAgent(folder, site, port, hosts.a)
    await agent(folder, 'host-a', ['attest']).catch(expectRefusal)
    const host = JSON.parse(await sigillo('host', 'show', 'host-a', '--json'))
    check(host.state === 'refused' && host.endorsement === 'ca', 'host-a is enrolled')
    fact(`TPM ${host.tpm}, EK ${short(host.ekFingerprint)}, AK name ${short(host.akName)}`)
    fact(`its first quote is genuine, and refused: ${reasonsOf(host)[0]}`)
  })

  await step('what host-a booted becomes the base image', async (fact) => {
    const image = JSON.parse(
      await sigillo('image', 'capture', 'debian-12', '--host', 'host-a', '--json'),
    )
    fact(`Secure Boot ${image.boot.secureBoot}, kernel ${image.boot.kernel}`)
    fact(`boots ${image.boot.bootApplications.map((x: { name: string }) => x.name).join(' > ')}`)
    fact(`command line: ${image.boot.commandLine}`)
  })

  await step('the quote of host-a is verified, a token is issued', async (fact) => {
    await agent(folder, 'host-a', ['attest'])
    const { lastVerdict } = JSON.parse(await sigillo('host', 'show', 'host-a', '--json'))
    check(lastVerdict.accepted === true, 'the verdict is accepted')
    const checks = new Set(lastVerdict.findings.map((f: { check: string }) => f.check))
    fact(`${checks.size} checks: ${[...checks].join(', ')}`)
    fact(
      `PCRs ${lastVerdict.bank}:${lastVerdict.pcrs.join(',')}; verified in ${lastVerdict.tookMs} ms`,
    )
    const status = JSON.parse(await agent(folder, 'host-a', ['status', '--json']))
    fact(`the whole attestation took ${status.lastAttestationMs} ms, the TPM included`)
    const claims = JSON.parse(await agent(folder, 'host-a', ['token', '--json']))
    const vector = claims.submods.host.ear_trustworthiness_vector
    fact(`token for ${claims.sub}: ${claims.exp - claims.iat} s, ${claims.submods.host.ear_status}`)
    fact(`  base image ${claims.sigillo.base_image}, vector ${JSON.stringify(vector)}`)
    fact(
      `  bound to key ${short(claims.cnf.jkt)} and to TPM key ${short(claims.sigillo.binding_key.name)}`,
    )
  })

  await step('a key provider is made and tried', async (fact) => {
    await sigillo('provider', 'create', PROVIDER, '--cluster', CLUSTER)
    for (const assurance of ['session', 'tpm']) {
      const times = JSON.parse(
        await agent(folder, 'host-a', [
          'key',
          'probe',
          PROVIDER,
          '--assurance',
          assurance,
          '--json',
        ]),
      )
      fact(
        `assurance ${assurance}: wrapped in ${times.wrapMs} ms, unwrapped in ${times.unwrapMs} ms`,
      )
    }
  })

  await step('an encrypted VM is made: LUKS disk, virtual TPM', async (fact) => {
    const image = join(folder, 'image.raw')
    const disk = Buffer.alloc(8 * 1024 * 1024)
    disk.write(MESSAGE, 1024 * 1024)
    await writeFile(image, disk)
    const vm = JSON.parse(
      await agent(folder, 'host-a', [
        ...['vm', 'create', 'web1', '--provider', PROVIDER, '--disk', `root=${image}`],
        ...['--disk', 'data=16M', '--memory', '256', '--json'],
      ]),
    )
    fact(`VM ${vm.vmId}, disks ${vm.disks.map((d: { name: string }) => d.name).join(', ')}`)
    const { keys } = JSON.parse(await agent(folder, 'host-a', ['key', 'list', '--json']))
    fact(`wrapped keys: ${keys.map((k: { object: string }) => k.object).join(', ')}`)
    const raw = await readFile(join(folder, 'host-a', 'vms', vm.vmId, 'disk-root.luks'))
    check(!raw.includes(MESSAGE), 'the message is not readable in the file')
    fact('the file on the host is LUKS, and the message cannot be found in it')
  })

  await step('the disk is opened with the unwrapped key, and read back', async (fact) => {
    for (const assurance of ['session', 'tpm']) {
      const data = await agent(folder, 'host-a', [
        ...['vm', 'read', 'web1', 'root', '--offset', '1M'],
        ...['--length', String(MESSAGE.length), '--assurance', assurance],
      ])
      check(data === MESSAGE, 'the data are those that were written')
      fact(`assurance ${assurance}: ${JSON.stringify(data.trim())}`)
    }
  })

  await step('the VM runs with its disks and its virtual TPM', async (fact) => {
    const vm = JSON.parse(await agent(folder, 'host-a', ['vm', 'start', 'web1', '--json']))
    check(vm.state === 'running', 'the VM runs')
    fact(`QEMU process ${vm.pid}, accelerator ${vm.accelerator}`)
    const { vms } = JSON.parse(await sigillo('vm', 'list', '--json'))
    check(vms[0]?.report.state === 'running', 'the control plane knows')
    fact(
      `the control plane lists ${vms[0].report.name} on ${vms[0].hostId}: ${vms[0].report.state}`,
    )
    const stop = () => agent(folder, 'host-a', ['vm', 'stop', 'web1', '--grace', '0'])
    if (flags.keep) started.push({ name: 'the VM', end: () => stop().then(() => undefined) })
    else await stop()
  })

  await step('REFUSED: host-b was booted with another boot loader', async (fact) => {
    await startAgent(folder, site, port, hosts.b)
    await agent(folder, 'host-b', ['attest']).then(unexpected, expectRefusal)
    const host = JSON.parse(await sigillo('host', 'show', 'host-b', '--json'))
    check(host.state === 'refused', 'host-b is refused')
    const { differences } = host.lastVerdict
    check(
      differences.some((d: string) => d.includes('grubx64.efi')),
      'the difference is named',
    )
    for (const reason of reasonsOf(host)) fact(reason)
    for (const difference of differences) fact(difference)
    await agent(folder, 'host-b', ['key', 'probe', PROVIDER]).then(unexpected, expectRefusal)
    fact('and it gets no key')
  })

  await step('REFUSED: a stolen token, replayed from elsewhere', async (fact) => {
    const { lastVerdict } = JSON.parse(await sigillo('host', 'show', 'host-a', '--json'))
    const token = await stealToken(agentOf('host-a').pid, lastVerdict.tokenId)
    fact(`token ${short(lastVerdict.tokenId)} was read out of the memory of the agent of host-a`)
    await replay(site, port, token)
    const { records } = JSON.parse(
      await sigillo('audit', 'key-provider', 'list', '--limit', '1000', '--json'),
    )
    const refusals = records.filter((r: { action: string }) => r.action === 'host.authenticate')
    check(refusals.length >= 2, 'both refusals are audited')
    for (const { detail } of refusals.slice(-2)) fact(`${detail.message} (${detail.code})`)
  })

  await step('REFUSED: a PCR of host-a is extended after its attestation', async (fact) => {
    await hosts.a.tpm.extend(8, Buffer.from('malware'))
    const probe = ['key', 'probe', PROVIDER]
    const error = await agent(folder, 'host-a', [...probe, '--assurance', 'tpm']).then(
      unexpected,
      expectRefusal,
    )
    check(error.includes('TPM_POLICY_FAIL'), 'the TPM refuses')
    fact(error.trim().replace(/^sigillo-agent: error: /, ''))
    await agent(folder, 'host-a', ['attest']).then(unexpected, expectRefusal)
    const host = JSON.parse(await sigillo('host', 'show', 'host-a', '--json'))
    fact(`at its next attestation: ${reasonsOf(host)[0]}`)
    await agent(folder, 'host-a', probe).then(unexpected, expectRefusal)
    fact('and the token that it had is worth nothing any more')
  })

  await step('every decision is in the audit chains', async (fact) => {
    for (const service of ['attestation', 'key-provider', 'control-plane']) {
      const verdict = JSON.parse(await sigillo('audit', service, 'verify', '--json'))
      check(verdict.intact === true, `the chain of ${service} is intact`)
      fact(`${service}: ${verdict.records} records, intact, head ${short(verdict.head)}`)
    }
  })

  if (flags.keep) await keepRunning(folder, site)
}

interface Host {
  readonly name: string
  readonly tpm: LabTpm
}

async function bootHost(lab: Lab, folder: string, name: string, log: Uint8Array): Promise<Host> {
  const tpm = await lab.manufacture(name)
  await tpm.boot(log)
  await mkdir(join(folder, name), { mode: 0o700 })
  await writeFile(join(folder, name, 'event.log'), log)
  return { name, tpm }
}

const agents = new Map<string, { readonly pid: number }>()

function agentOf(host: string): { readonly pid: number } {
  const found = agents.get(host)
  if (!found) throw new Error(`no agent of ${host}`)
  return found
}

async function startAgent(folder: string, site: string, port: number, host: Host): Promise<void> {
  const own = join(folder, host.name)
  const config = join(own, 'agent.toml')
  const lines = (members: Record<string, string>) =>
    Object.entries(members).map(([name, value]) => `${name} = ${JSON.stringify(value)}`)
  await writeFile(
    config,
    [
      ...lines({
        hostId: host.name,
        stateDirectory: join(own, 'state'),
        socket: join(own, 'agent.sock'),
        logLevel: 'error',
      }),
      '[authority]',
      ...lines({
        url: `https://127.0.0.1:${port}`,
        caFile: join(site, 'tls-ca.pem'),
        ticketFile: join(own, 'ticket'),
      }),
      '[tpm]',
      ...lines({ tcti: host.tpm.tcti, eventLogFile: join(own, 'event.log') }),
      '[vm]',
      ...lines({ directory: join(own, 'vms') }),
      '',
    ].join('\n'),
  )
  const daemon = start('agent-main', ['run', '--config', config])
  agents.set(host.name, { pid: daemon.pid })
  started.push({ name: `the agent of ${host.name}`, end: daemon.end })
  await until(async () => {
    await agent(folder, host.name, ['status'])
    return true
  })
}

const agent = (folder: string, host: string, args: readonly string[]) =>
  run('agent-main', [...args, '--socket', join(folder, host, 'agent.sock')])

const sigilloInit = (site: string, port: number) =>
  run('main', ['init', site, '--mode', 'lab', '--listen', `127.0.0.1:${port}`])

/** Uses a token with a key of one's own, and with no proof at all. Both must be refused. */
async function replay(site: string, port: number, token: string): Promise<void> {
  await using client = createClient({
    baseUrl: `https://127.0.0.1:${port}`,
    caPem: await readFile(join(site, 'tls-ca.pem'), 'utf8'),
  })
  const input = {
    params: { provider: PROVIDER },
    body: {
      assurance: 'session' as const,
      items: [
        { wrapped: 'sgl1.AAAA.AAAA', purpose: 'host' as const, context: { probe: 'stolen' } },
      ],
    },
  }
  const { dpop } = await generateSessionKeys()
  const proof = await createDpopProof({
    key: dpop,
    method: unwrapKeys.method,
    url: client.urlOf(unwrapKeys, input.params),
    accessToken: token,
    nowSeconds: Math.floor(Date.now() / 1000),
  })
  for (const headers of [{ dpop: proof }, {}]) {
    const outcome = await client
      .call(unwrapKeys, input, { authorization: `DPoP ${token}`, ...headers })
      .then(
        () => 'accepted',
        (error: { code?: string }) => error.code,
      )
    check(outcome === 'UNAUTHENTICATED', 'the stolen token is refused')
  }
}

/** Reads a token with this identifier out of the memory of a process, as malware with the rights of root would. */
async function stealToken(pid: number, tokenId: string): Promise<string> {
  const maps = (await readFile(`/proc/${pid}/maps`, 'utf8')).split('\n')
  const memory = await open(`/proc/${pid}/mem`, 'r')
  try {
    for (const line of maps) {
      const match = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line)
      if (!match) continue
      const [begin, end] = [
        Number.parseInt(match[1] ?? '', 16),
        Number.parseInt(match[2] ?? '', 16),
      ]
      const length = end - begin
      if (length > 512 * 1024 * 1024) continue
      const octets = Buffer.alloc(length)
      const read = await memory.read(octets, 0, length, begin).catch(() => undefined)
      if (!read) continue
      const text = octets.toString('latin1')
      for (const [token] of text.matchAll(/eyJ[\w-]{20,}\.eyJ[\w-]{200,}\.[\w-]{86}/g)) {
        const payload = Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8')
        if (payload.includes(tokenId)) return token
      }
    }
  } finally {
    await memory.close()
  }
  throw new Error('the token was not found in the memory of the agent')
}

function reasonsOf(host: {
  lastVerdict: {
    findings: { ok: boolean; pcr?: number; expected?: string; found?: string; code?: string }[]
  }
}): readonly string[] {
  return host.lastVerdict.findings
    .filter(({ ok }) => !ok)
    .map(({ pcr, expected, found, code }) => {
      const where = pcr === undefined ? '' : `PCR ${pcr}: `
      return `${where}expected ${expected}, found ${found} (${code})`
    })
}

async function step<T>(
  title: string,
  work: (fact: (text: string) => void) => Promise<T>,
): Promise<T> {
  if (isInterrupted) throw new Error(`interrupted before: ${title}`)
  const facts: string[] = []
  const begin = performance.now()
  const number = steps.length + 1
  const result = await work((text) => facts.push(text))
  const tookMs = Math.round(performance.now() - begin)
  steps.push({ step: number, title, tookMs, facts })
  if (!flags.json) {
    process.stdout.write(`${String(number).padStart(2)}. ${title} (${tookMs} ms)\n`)
    for (const fact of facts) process.stdout.write(`      ${fact}\n`)
  }
  return result
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(`expected that ${what}`)
}

function unexpected(output: string): never {
  throw new Error(`expected a refusal, got: ${output}`)
}

function expectRefusal(error: unknown): string {
  if (error instanceof CommandFailed) return error.output
  throw error
}

class CommandFailed extends Error {
  readonly output: string

  constructor(command: string, output: string) {
    super(`${command}: ${output}`)
    this.output = output
  }
}

/** Runs a command of the project as a user would, and gives its standard output. */
async function run(command: 'main' | 'agent-main', args: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, [join(root, `dist/src/cli/${command}.js`), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  let errors = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS)
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  clearTimeout(timer)
  if (code !== 0) throw new CommandFailed(args.join(' '), errors || output)
  return output
}

function start(command: 'main' | 'agent-main', args: readonly string[]) {
  const child = spawn(process.execPath, [join(root, `dist/src/cli/${command}.js`), ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    // Ctrl-C is for the demo, which ends the agents after their VMs
    detached: true,
  })
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-4000)
  })
  let ended = false
  const gone = new Promise<void>((resolve) => {
    child.once('close', (code) => {
      if (!ended) process.stderr.write(`demo: ${args[0]} ended with ${code}: ${errors}\n`)
      resolve()
    })
  })
  if (child.pid === undefined) throw new Error(`${command} did not start`)
  return {
    pid: child.pid,
    async end() {
      ended = true
      child.kill('SIGTERM')
      await gone
    },
  }
}

async function until(ready: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + TIMEOUT_MS
  for (;;) {
    const isReady = await ready().catch((error: unknown) => {
      if (Date.now() > deadline) throw error
      return false
    })
    if (isReady) return
    if (Date.now() > deadline) throw new Error('nothing answered in time')
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

async function healthy(site: string, port: number): Promise<boolean> {
  const { request, Agent } = await import('undici')
  const ca = await readFile(join(site, 'tls-ca.pem'), 'utf8')
  const dispatcher = new Agent({ connect: { ca } })
  const { statusCode, body } = await request(`https://127.0.0.1:${port}/health`, { dispatcher })
  await body.dump()
  await dispatcher.close()
  return statusCode === 200
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      const port = typeof address === 'object' && address ? address.port : 0
      server.close(() => resolve(port))
    })
  })
}

function list(json: string, member: string): readonly { subject: string }[] {
  return JSON.parse(json)[member]
}

function short(text: string): string {
  return text.length > 16 ? `${text.slice(0, 16)}…` : text
}

async function keepRunning(folder: string, site: string): Promise<void> {
  const say = (line: string) => process.stderr.write(`${line}\n`)
  say('\nIt runs until you press Ctrl-C. Talk to it:')
  say(`  npx sigillo host list --site ${site}`)
  say(`  npx sigillo host show host-b --site ${site}`)
  say(`  npx sigillo-agent status --socket ${join(folder, 'host-a', 'agent.sock')}`)
  say(`  npx sigillo-agent vm list --socket ${join(folder, 'host-a', 'agent.sock')}`)
  await interrupted
}

/** Ends everything, the last first, also when the end of one fails. */
async function endAll(): Promise<void> {
  for (let last = started.pop(); last; last = started.pop()) {
    const { name } = last
    await Promise.resolve(last.end()).catch((error: unknown) => {
      process.stderr.write(`demo: error: ${name} did not end in order: ${String(error)}\n`)
      process.exitCode = 1
    })
  }
}

try {
  await main()
  if (flags.json) process.stdout.write(`${JSON.stringify({ ok: true, steps }, null, 2)}\n`)
  else process.stdout.write('\nAll of that happened as told.\n')
} catch (error) {
  process.stderr.write(`demo: error: ${error instanceof Error ? error.message : String(error)}\n`)
  if (flags.json) process.stdout.write(`${JSON.stringify({ ok: false, steps }, null, 2)}\n`)
  process.exitCode = 1
} finally {
  await endAll()
}
