import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { expect, test } from 'vitest'
import { SEALED_COLUMNS } from '../src/server/index.js'
import { openStore } from '../src/store/index.js'

/** Which folder may import which. A change here needs a reason in the same commit. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  'src/core': [],
  'src/tpm': ['src/core'],
  'src/eventlog': ['src/core', 'src/tpm'],
  'src/ima': ['src/core', 'src/tpm'],
  // reference values of others: a format of its own, with the names that a TPM has for hashes
  'src/corim': ['src/core', 'src/tpm'],
  'src/pki': ['src/core'],
  'src/tokens': ['src/core'],
  'src/kmip': ['src/core'],
  'src/api': ['src/core'],
  // what storage policies ask of VMs: rules alone, which the control plane refuses by and hosts do
  'src/storage-policies': ['src/core'],
  // the wrapped form of keys, which the key provider and hosts have in common
  'src/envelope': ['src/core', 'src/api'],
  // key servers that services use: their settings, tests, attributes
  'src/key-servers': ['src/core', 'src/api', 'src/kmip', 'src/pki', 'src/store'],
  // what root keys are sealed by: passphrases, shares, the TPM and the key server of the authority
  'src/seals': ['src/core', 'src/tpm', 'src/kmip', 'src/store'],
  'src/http': ['src/core', 'src/api', 'src/tokens', 'src/pki'],
  'src/store': ['src/core'],
  // who people are and what they may do: asked by services inside their own transactions
  'src/people': ['src/core', 'src/api', 'src/http', 'src/tokens', 'src/store'],
  // the verifier: rules alone, so that it can judge evidence anywhere
  // (pki: a guest shows the certificate of its virtual TPM with each evidence)
  'src/appraisal': [
    ...['src/core', 'src/tpm', 'src/eventlog', 'src/ima', 'src/tokens', 'src/api', 'src/pki'],
  ],
  'src/attestation': [
    ...['src/core', 'src/tpm', 'src/eventlog', 'src/pki', 'src/tokens', 'src/api', 'src/http'],
    ...['src/store', 'src/appraisal', 'src/ima', 'src/corim'],
  ],
  'src/key-provider': [
    ...['src/core', 'src/pki', 'src/tokens', 'src/kmip', 'src/api', 'src/http', 'src/store'],
    ...['src/envelope', 'src/key-servers'],
  ],
  // the control plane issues the certificates of virtual TPMs (pki) and reads their public areas (tpm)
  'src/control-plane': [
    ...['src/core', 'src/tpm', 'src/pki', 'src/tokens', 'src/kmip', 'src/api', 'src/http'],
    ...['src/store', 'src/key-servers', 'src/storage-policies', 'src/people'],
  ],
  'src/host-agent': [
    ...['src/core', 'src/tpm', 'src/eventlog', 'src/ima', 'src/pki', 'src/tokens', 'src/api'],
    ...['src/http', 'src/envelope', 'src/storage-policies'],
  ],
  // one process mounts the services; it is the only folder that knows all three
  'src/server': [
    ...['src/core', 'src/api', 'src/http', 'src/pki', 'src/store', 'src/tokens', 'src/tpm'],
    ...['src/attestation', 'src/key-provider', 'src/control-plane', 'src/envelope', 'src/seals'],
    ...['src/kmip', 'src/people'],
  ],
  'src/cli': [
    ...['src/core', 'src/tpm', 'src/eventlog', 'src/pki', 'src/tokens', 'src/api', 'native'],
    // the two commands that start a process, `sigillo serve` and `sigillo-agent run`, harden it and start these
    ...['src/http', 'src/server', 'src/host-agent', 'src/appraisal', 'src/ima', 'src/corim'],
    // `sigillo kmip`: the reference key server, and frames printed
    'src/kmip',
  ],
  'src/console': ['src/api', 'src/core'],
  native: ['src/core', 'src/tpm'],
  // the lab boots a TPM from an event log and issues endorsement certificates of its own
  swtpm: ['src/core', 'src/tpm', 'src/eventlog', 'src/pki'],
}

/** Single files that may import one folder more than their own folder may. */
const EXCEPTIONS: Readonly<Record<string, readonly string[]>> = {
  'src/host-agent/main.ts': ['native'],
}

/** The one folder (or file) that may name a library. */
const DOORS: Readonly<Record<string, readonly string[]>> = {
  'ffi-napi': ['native/ffi.ts'],
  'ref-napi': ['native/ffi.ts'],
  jose: ['src/tokens/'],
  '@node-rs/argon2': ['src/people/adapters/password-hasher.ts'],
  '@peculiar/x509': ['src/pki/'],
  'better-sqlite3': ['src/store/'],
  commander: ['src/cli/'],
  'prom-client': ['src/http/'],
}

/** What pure rules may not touch. */
const NOT_IN_DOMAIN = [
  'fastify',
  'kysely',
  'node:fs',
  'node:net',
  'node:http',
  'node:child_process',
  'undici',
]

interface Import {
  readonly file: string
  readonly specifier: string
}

const files = ['src', 'native', 'swtpm'].flatMap((folder) =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') || name.endsWith('.tsx'))
    .map((name) => join(folder, name)),
)

const imports: readonly Import[] = files.flatMap((file) =>
  [...readFileSync(file, 'utf8').matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].flatMap((match) =>
    match[1] === undefined ? [] : [{ file, specifier: match[1] }],
  ),
)

const ours = imports.flatMap(({ file, specifier }) =>
  specifier.startsWith('.')
    ? [{ file, from: folderOf(file), to: folderOf(normalize(join(dirname(file), specifier))) }]
    : [],
)

function folderOf(file: string): string {
  const [top, second] = relative('.', file).split('/')
  return top === 'src' ? `src/${second}` : (top ?? '')
}

test('the files of the project are seen', () => {
  expect(files.length).toBeGreaterThan(10)
  expect(ours.length).toBeGreaterThan(10)
})

test('imports point only where the table says', () => {
  const wrong = ours.filter(
    ({ file, from, to }) =>
      from !== to && !MAY_IMPORT[from]?.includes(to) && !EXCEPTIONS[file]?.includes(to),
  )
  expect(wrong).toEqual([])
})

test('each library is named behind its one door', () => {
  const wrong = imports.filter(({ file, specifier }) => {
    const doors = DOORS[specifier]
    return doors !== undefined && !doors.some((door) => file.startsWith(door))
  })
  expect(wrong).toEqual([])
})

test('domain rules touch no network, file, database or process', () => {
  const wrong = imports.filter(
    ({ file, specifier }) =>
      file.includes('/domain/') && NOT_IN_DOMAIN.some((name) => specifier.startsWith(name)),
  )
  expect(wrong).toEqual([])
})

test('the environment is read in core/config alone', () => {
  const wrong = files.filter(
    (file) => file !== 'src/core/config.ts' && /process\.env\b/.test(readFileSync(file, 'utf8')),
  )
  expect(wrong).toEqual([])
})

test('domain rules take the time as an argument', () => {
  const wrong = files.filter(
    (file) =>
      file.includes('/domain/') &&
      /Date\.now|new Date\(\)|performance\.now/.test(readFileSync(file, 'utf8')),
  )
  expect(wrong).toEqual([])
})

test('every sealed column is one that a change of the root key seals again', async () => {
  await using store = await openStore({ file: ':memory:' })
  const tables = await store.tables().introspection.getTables()
  const found = tables.flatMap(({ name, columns }) =>
    columns
      .filter((column) => column.name.includes('sealed') && name !== 'root_key_seals')
      .map((column) => `${name}.${column.name}`),
  )
  const listed = Object.values(SEALED_COLUMNS)
    .flat()
    .map(({ table, column }) => `${table}.${column}`)
  // a new one goes to the `sealed-columns.ts` of its service
  expect(found.toSorted()).toEqual([...new Set(listed)].toSorted())
})
