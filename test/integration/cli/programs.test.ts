import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { VM_TASKS } from '../../../src/api/vm-tasks.js'
import { asPhrase } from '../../../src/cli/output.js'
import { SIGILLO_TOPICS, sigilloProgram } from '../../../src/cli/sigillo.js'
import { AGENT_TOPICS, agentProgram } from '../../../src/cli/sigillo-agent.js'
import { freePort } from '../../helpers/free-port.js'
import { openTestSite, type TestSite } from '../../helpers/site.js'
import { run, sigillo } from './sigillo.js'

let site: TestSite
let folder: string

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sgl-cli-'))
  site = await openTestSite()
})
afterAll(async () => {
  await site[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true, force: true })
})

const onSite = (...args: readonly string[]) => run('main', ...args, '--site', site.folder)

/** Every command below another that does something by itself. */
function leavesOf(command: Command): readonly Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leavesOf)
}

describe('every command', () => {
  test.each([
    ['sigillo', sigilloProgram],
    ['sigillo-agent', agentProgram],
  ])('of %s has help with examples', async (_, programOf) => {
    const leaves = leavesOf(await programOf())
    expect(leaves.length).toBeGreaterThan(10)
    for (const leaf of leaves) {
      let help = ''
      leaf
        .configureOutput({
          writeOut: (text) => {
            help += text
          },
        })
        .outputHelp()
      expect(help).toContain('Usage:')
      expect(help).toContain('Examples:')
    }
  })

  test('for what hosts do with VMs is there: one for each kind of task', async () => {
    const told = leavesOf(await sigilloProgram()).map((leaf) => leaf.description())
    // given by `vm policies`, which plans it
    const missing = Object.entries(VM_TASKS).filter(
      ([kind, { summary }]) => kind !== 'vm.apply-policy' && !told.includes(asPhrase(summary)),
    )
    expect(missing.map(([kind]) => kind)).toEqual([])
  })

  test.each([...SIGILLO_TOPICS, ...AGENT_TOPICS])(
    'is found by its first word: $words',
    async ({ words, load }) => {
      const program = new Command()
      ;(await load())(program)
      expect(program.commands.map((command) => command.name())).toEqual(words)
    },
  )

  test.each(['main', 'agent-main'] as const)(
    'prints help and version as a process (%s)',
    async (program) => {
      expect(await run(program, '--help')).toMatchObject({ status: 0, err: '' })
      expect(await run(program, 'vm', '--help')).toMatchObject({ status: 0, err: '' })
      expect((await run(program, '--version')).out).toMatch(/^\d+\.\d+\.\d+/)
    },
  )

  test.each([
    ['no such command', ['frobnicate'], 2, 'unknown command'],
    ['no such option', ['host', 'list', '--frob'], 2, 'unknown option'],
    ['an argument missing', ['host', 'show'], 2, 'missing required argument'],
    ['a site that is not there', ['host', 'list', '--site', '/nonexistent'], 1, '/nonexistent'],
    ['no site', ['host', 'list'], 2, '--site'],
  ])('says what is wrong in one line: %s', async (_, args, status, words) => {
    const outcome = await sigillo(...args)
    expect(outcome.err).toContain(words)
    expect(outcome.err).not.toMatch(/ at .*\.js:/)
    expect(outcome).toMatchObject({ status, out: '' })
  })

  test.each([
    ['a size that is none', ['vm', 'disk', 'grow', 'a', 'b', '3Q'], 2, 'a size such as 512M'],
    [
      'a VM with a key provider and plain',
      ['vm', 'create', 'a', '--plain', '--provider', 'gold'],
      1,
      'either --provider or --plain',
    ],
    ['a disk without a size', ['vm', 'create', 'a', '--disk', 'root'], 2, 'NAME=SIZE such as'],
    ['a decryption by mistake', ['vm', 'decrypt', 'a'], 1, '--yes'],
    ['a name that is a way', ['vm', 'show', '..'], 1, "expected a value for vm, found '..'"],
    [
      'no agent on the socket',
      ['vm', 'list', '--socket', '/nonexistent.sock'],
      1,
      'socket /nonexistent.sock: connect ENOENT /nonexistent.sock (AGENT_UNREACHABLE)',
    ],
  ])('of the agent says what is wrong: %s', async (_, args, status, words) => {
    const outcome = await run('agent-main', ...args)
    expect(outcome.err).toContain(words)
    expect(outcome).toMatchObject({ status, out: '' })
  })
})

describe('sigillo against a running authority', () => {
  test('lists nothing on a new site, as text and as JSON', async () => {
    for (const [command, member] of [
      [['host', 'list'], 'hosts'],
      [['ticket', 'list'], 'tickets'],
      [['anchor', 'list'], 'anchors'],
      [['image', 'list'], 'baseImages'],
      [['cluster', 'list'], 'clusters'],
      [['vm', 'list'], 'vms'],
      [['provider', 'list'], 'providers'],
    ] as const) {
      const json = await onSite(...command, '--json')
      expect(json.err).toBe('')
      expect(JSON.parse(json.out)).toEqual({ [member]: [] })
      const text = await onSite(...command)
      expect(text.status).toBe(0)
    }
  })

  test('answers unknown names with the code and a status of 1', async () => {
    const { status, err } = await onSite('host', 'show', 'nobody')
    expect([status, err]).toEqual([1, expect.stringContaining('NOT_FOUND')])
  })

  test('refuses a wrong token, a token file that others can read, and an authority that is not there', async () => {
    const token = join(folder, 'token')
    writeFileSync(token, 'sgl_op_wrong', { mode: 0o600 })
    const wrong = await onSite('host', 'list', '--token-file', token)
    expect([wrong.status, wrong.err]).toEqual([1, expect.stringContaining('UNAUTHENTICATED')])
    const open = join(folder, 'open-token')
    writeFileSync(open, 'sgl_op_wrong', { mode: 0o644 })
    const readable = await onSite('host', 'list', '--token-file', open)
    expect([readable.status, readable.err]).toEqual([1, expect.stringContaining('FILE_MODE')])
    const away = await onSite('host', 'list', '--url', `https://127.0.0.1:${await freePort()}`)
    expect([away.status, away.err]).toEqual([1, expect.stringContaining('AUTHORITY_UNREACHABLE')])
  })
})

describe('a new site', () => {
  test('is made once, for its owner alone, and serves until it is told to stop', async () => {
    const made = join(folder, 'new')
    const listen = `127.0.0.1:${await freePort()}`
    const init = await sigillo('init', made, '--listen', listen, '--json')
    expect(init).toMatchObject({ status: 0, err: '' })
    expect(statSync(made).mode & 0o777).toBe(0o700)
    for (const name of ['passphrase', 'tls.key', 'tls-ca.key', 'admin.token', 'sigillo.db']) {
      expect([name, statSync(join(made, name)).mode & 0o777]).toEqual([name, 0o600])
    }
    const again = await sigillo('init', made, '--listen', listen)
    expect([again.status, again.err]).toEqual([1, expect.stringContaining('CONFLICT')])

    const authority = spawn(process.execPath, ['dist/src/cli/main.js', 'serve', '--site', made], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { PATH: process.env['PATH'] },
    })
    let log = ''
    authority.stderr.setEncoding('utf8').on('data', (text: string) => {
      log += text
    })
    const gone = new Promise<number | null>((resolve) => authority.once('close', resolve))
    await expect.poll(() => log, { timeout: 30_000 }).toContain('authority.started')
    const taken = await sigillo('serve', '--site', made)
    expect([taken.status, taken.err]).toEqual([1, expect.stringContaining('LISTEN_FAILED')])
    expect((await sigillo('audit', 'attestation', 'verify', '--site', made)).status).toBe(0)
    authority.kill('SIGTERM')
    expect(await gone).toBe(0)
    for (const secret of ['passphrase', 'admin.token']) {
      expect(log).not.toContain(readFileSync(join(made, secret), 'utf8').trim())
    }
    expect(existsSync(join(made, 'sigillo.db-wal'))).toBe(false)
  })

  test('starts sealed with the wrong passphrase, and not at all with settings that do not exist', async () => {
    const made = join(folder, 'sealed')
    await sigillo('init', made, '--listen', `127.0.0.1:${await freePort()}`)
    const serve = () => {
      const child = spawn(process.execPath, ['dist/src/cli/main.js', 'serve', '--site', made], {
        stdio: 'ignore',
      })
      const ended = new Promise((resolve) => child.once('close', resolve))
      return { child, ended }
    }
    const status = () => sigillo('operator', 'status', '--site', made)
    const first = serve()
    await expect
      .poll(async () => (await status()).out, { timeout: 60_000, interval: 500 })
      .toMatch(/ok[\s\S]*ok[\s\S]*ok/)
    first.child.kill('SIGTERM')
    await first.ended

    writeFileSync(join(made, 'passphrase'), 'another passphrase, long enough\n', { mode: 0o600 })
    const second = serve()
    await expect
      .poll(async () => (await status()).out, { timeout: 60_000, interval: 500 })
      .toMatch(/ROOT_KEY_UNSEAL[\s\S]*ROOT_KEY_UNSEAL[\s\S]*ROOT_KEY_UNSEAL/)
    const refused = await sigillo('host', 'list', '--site', made)
    expect([refused.status, refused.err]).toEqual([1, expect.stringContaining('(SEALED)')])
    second.child.kill('SIGTERM')
    await second.ended

    writeFileSync(join(made, 'authority.toml'), '[server]\nlisen = "127.0.0.1:1"\n')
    const typo = await sigillo('serve', '--site', made)
    expect([typo.status, typo.err]).toEqual([1, expect.stringContaining('server.lisen')])
  })

  test('shows each setting with its value and where it came from', async () => {
    const { out } = await onSite('config', 'show', '--json')
    const settings = JSON.parse(out) as { path: string; source: string; value: unknown }[]
    const mode = settings.find(({ path }) => path === 'attestation.mode')
    expect(mode).toMatchObject({ value: 'lab', source: 'file' })
    expect(out).not.toContain(readFileSync(join(site.folder, 'passphrase'), 'utf8').trim())
  })
})
