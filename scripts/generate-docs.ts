// Writes the pages of docs/ that are made of tables in the code. `--check` fails where a page is not up to date.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { BUILT_IN_ROLES } from '../src/api/built-in-roles.js'
import { METRICS } from '../src/api/metrics.js'
import type { Needs } from '../src/api/needs.js'
import { PRIVILEGES, type Privilege } from '../src/api/privileges.js'
import { SealedService, sealOperations } from '../src/api/seal.js'
import { type KnownVm, VM_TASKS } from '../src/api/vm-tasks.js'
import { describeSettings } from '../src/core/config.js'
import { ERROR_CODES } from '../src/core/error-codes.js'
import { AgentConfig } from '../src/host-agent/config.js'
import { AuthorityConfig } from '../src/server/index.js'
import { missingTests, vsphereTable } from './vsphere-features.js'

const pages: Readonly<Record<string, string>> = {
  'docs/errors.md': errorsPage(),
  'docs/features.md': featuresPage(),
  'docs/privileges.md': privilegesPage(await operationsForPeople()),
  'docs/settings.md': settingsPage(),
}

const missing = missingTests()
if (missing.length > 0)
  throw new Error(`docs/features.md names tests that are not there: ${missing.join('; ')}`)
const stale = Object.entries(pages).filter(([file, text]) => readOrEmpty(file) !== text)
if (process.argv.includes('--check')) {
  for (const [file] of stale) process.stderr.write(`${file} is not up to date: npm run docs\n`)
  process.exitCode = stale.length > 0 ? 1 : 0
} else {
  for (const [file, text] of stale) writeFileSync(file, text)
}

function errorsPage(): string {
  const rows = Object.entries(ERROR_CODES).map(
    ([code, { status, title }]) => `| \`${code}\` | ${status} | ${title} |`,
  )
  return [
    '# Error codes',
    '',
    'Made of `src/core/error-codes.ts` by `npm run docs`. A code is never renamed. Errors are answered as problem documents',
    '(RFC 9457) with type `urn:sigillo:error:<code>`; findings of verifiers and items of a batch carry the same codes. Callers',
    'who are not known get `UNAUTHENTICATED` for every 401; the audit record has the code.',
    '',
    '| code | status | meaning |',
    '|---|---|---|',
    ...rows,
    '',
  ].join('\n')
}

function settingsPage(): string {
  const table = (schema: Parameters<typeof describeSettings>[0], prefix: string) => [
    '| setting | default | meaning | variable |',
    '|---|---|---|---|',
    ...describeSettings(schema, prefix).map(({ path, value, description, variable }) => {
      const shown = value === undefined ? '' : `\`${JSON.stringify(value)}\``
      return `| \`${path}\` | ${shown} | ${description} | \`${variable}\` |`
    }),
  ]
  return [
    '# Settings',
    '',
    'Made of the configuration schemas by `npm run docs`. Sources in order: defaults, the TOML file, the environment, flags. An',
    'unknown setting is refused. `config show` prints the effective values and where each came from.',
    '',
    '## Authority: `authority.toml`',
    '',
    ...table(AuthorityConfig, 'SIGILLO'),
    '',
    '## Host agent: `agent.toml`',
    '',
    ...table(AgentConfig, 'SIGILLO_AGENT'),
    '',
  ].join('\n')
}

interface ForPeople {
  readonly id: string
  readonly summary: string
  readonly path: string
  readonly needs: Needs
}

/** Every operation, stream and page of figures that says what people need, by the API that it is of. */
async function operationsForPeople(): Promise<ReadonlyMap<string, readonly ForPeople[]>> {
  const found = new Map<string, ForPeople[]>()
  const add = (value: unknown) => {
    if (typeof value !== 'object' || value === null || !('needs' in value)) return
    const operation = value as unknown as ForPeople
    const api = operation.path.split('/')[1] ?? ''
    found.set(api, [...(found.get(api) ?? []), operation])
  }
  for (const file of readdirSync('src/api').sort()) {
    const module = (await import(`../src/api/${file.replace(/ts$/, 'js')}`)) as object
    for (const value of Object.values(module)) add(value)
  }
  for (const { const: service } of SealedService.anyOf) {
    for (const operation of Object.values(sealOperations(service))) add(operation)
  }
  for (const figures of Object.values(METRICS)) add(figures)
  return found
}

function needsCells({ needs }: ForPeople): string {
  if (needs.on === 'self') return 'to be known | oneself'
  const where = { site: 'site', object: 'each object' }[needs.on]
  return `${codes(needs.privileges)} | ${where}`
}

function privilegesPage(operations: ReadonlyMap<string, readonly ForPeople[]>): string {
  const rows = Object.entries(PRIVILEGES).map(
    ([name, { allows, checkedOn }]) => `| \`${name}\` | ${allows} | ${checkedOn} |`,
  )
  return [
    '# Privileges',
    '',
    'Made of `src/api/privileges.ts` and `src/api/vm-tasks.ts` by `npm run docs`. Names are those of vSphere, one to one. Who has a',
    'privilege on the site has it on every cluster and VM; on a cluster, on every VM of it.',
    '',
    '| privilege | allows to | checked on |',
    '|---|---|---|',
    ...rows,
    '',
    '## Roles that every site has',
    '',
    '| role | is for | privileges |',
    '|---|---|---|',
    ...Object.entries(BUILT_IN_ROLES).map(
      ([name, { description, privileges }]) =>
        `| \`${name}\` | ${description} | ${codes(privileges)} |`,
    ),
    '',
    '## What each operation needs',
    '',
    'All privileges of its row. On the site: a role that was granted on the site. On each object: a role granted on the site, or on',
    'the cluster, a tag or the VM that the operation is about; lists show what the caller may see. An operation that is not here is',
    'for hosts, or for anybody.',
    '',
    ...[...operations].flatMap(([api, list]) => [
      `### ${api}`,
      '',
      '| operation | does | needs | on |',
      '|---|---|---|---|',
      ...list.map((one) => `| \`${one.id}\` | ${one.summary} | ${needsCells(one)} |`),
      '',
    ]),
    '## What each task needs',
    '',
    'Operations on VMs that are done by [tasks](tasks.md), by their kind. Checked on the VM; for kinds that make one, on its cluster what',
    'is for new VMs; for those without a VM, on the cluster of the host. The last column is needed beside that by what the request or',
    'the VM is: what becomes or is encrypted, decrypted, or moved.',
    '',
    '| kind | does | needs | may need beside that |',
    '|---|---|---|---|',
    ...Object.entries(VM_TASKS).map(([name, { summary, privileges }]) => {
      const { always, sometimes } = taskPrivileges(privileges as AskedPrivileges)
      return `| \`${name}\` | ${summary} | ${codes(always)} | ${codes(sometimes)} |`
    }),
    '',
  ].join('\n')
}

type AskedPrivileges = (request: object, vm: KnownVm | undefined) => readonly Privilege[]

/** What a kind of task needs in every case, and in some: of requests and VMs that differ in all that decides. */
function taskPrivileges(of: AskedPrivileges) {
  const vms = [undefined, 'gold'].map((provider) => ({
    ...{ vtpm: false, disks: [{ name: 'root', sizeOctets: 0, encrypted: provider !== undefined }] },
    ...(provider === undefined ? {} : { provider }),
  }))
  const wanted = [{ encrypted: true, provider: 'silver' }, { encrypted: false }]
  const requests = [{}, { plain: true }, { move: true }, ...wanted.map((home) => ({ home }))]
  const cases = vms.flatMap((vm) => requests.map((request) => of(request, vm)))
  const all = [...new Set(cases.flat())]
  const isInAll = (privilege: Privilege) => cases.every((one) => one.includes(privilege))
  return { always: all.filter(isInAll), sometimes: all.filter((one) => !isInAll(one)) }
}

function codes(privileges: readonly Privilege[]): string {
  return privileges.map((one) => `\`${one}\``).join(' ')
}

/** Written by hand but for the table beside vSphere, at its end. */
function featuresPage(): string {
  const heading = '## Beside vSphere'
  const [byHand = ''] = readOrEmpty('docs/features.md').split(heading)
  return [
    `${byHand}${heading}`,
    '',
    'Made of `scripts/vsphere-features.ts` by `npm run docs`, which finds each of the tests.',
    '',
    ...vsphereTable(),
    '',
  ].join('\n')
}

function readOrEmpty(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
