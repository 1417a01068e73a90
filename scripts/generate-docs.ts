// Writes the pages of docs/ that are made of tables in the code. `--check` fails where a page is not up to date.
import { readFileSync, writeFileSync } from 'node:fs'
import { BUILT_IN_ROLES } from '../src/api/built-in-roles.js'
import { PRIVILEGES } from '../src/api/privileges.js'
import { describeSettings } from '../src/core/config.js'
import { ERROR_CODES } from '../src/core/error-codes.js'
import { AgentConfig } from '../src/host-agent/config.js'
import { AuthorityConfig } from '../src/server/index.js'
import { missingTests, vsphereTable } from './vsphere-features.js'

const pages: Readonly<Record<string, string>> = {
  'docs/errors.md': errorsPage(),
  'docs/features.md': featuresPage(),
  'docs/privileges.md': privilegesPage(),
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

function privilegesPage(): string {
  const rows = Object.entries(PRIVILEGES).map(
    ([name, { allows, checkedOn }]) => `| \`${name}\` | ${allows} | ${checkedOn} |`,
  )
  return [
    '# Privileges',
    '',
    'Made of `src/api/privileges.ts` by `npm run docs`. Names are those of vSphere, one to one. Who has a privilege on the site has',
    'it on every cluster and VM; on a cluster, on every VM of it.',
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
        `| \`${name}\` | ${description} | ${privileges.map((one) => `\`${one}\``).join(' ')} |`,
    ),
    '',
  ].join('\n')
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
