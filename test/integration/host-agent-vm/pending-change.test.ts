import {
  link,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { isThere } from '../../../src/host-agent/vm/files.js'
import { pathsOf } from '../../../src/host-agent/vm/layout.js'
import {
  commitChange,
  settleChange,
  stageChange,
} from '../../../src/host-agent/vm/pending-change.js'
import { DEFAULT_PROGRAMS } from '../../../src/host-agent/vm/programs.js'

const COMMIT = {
  format: 1,
  put: ['disk-a.luks', 'keys.json', 'home.enc', 'vm.json'],
  drop: ['disk-a.raw', 'home.json'],
  resize: [{ file: 'disk-b.raw', octets: 100 }],
}
/** What happens to the files one after the other; a process can end before each of them. */
const MOVES: readonly (readonly ['link' | 'rename', string, string])[] = [
  ['rename', 'change/new/disk-a.luks', 'disk-a.luks'],
  ['link', 'keys.json', 'change/old/keys.json'],
  ['rename', 'change/new/keys.json', 'keys.json'],
  ['rename', 'change/new/home.enc', 'home.enc'],
  ['link', 'vm.json', 'change/old/vm.json'],
  ['rename', 'change/new/vm.json', 'vm.json'],
  ['rename', 'disk-a.raw', 'change/old/disk-a.raw'],
  ['rename', 'home.json', 'change/old/home.json'],
]
const DONE = {
  'disk-a.luks': 'new luks',
  'disk-b.raw': 'b'.padEnd(100, '\0'),
  'home.enc': 'new home',
  'keys.json': 'new keys',
  'vm.json': 'new vm',
}

async function makeVm(): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'sigillo-change-'))
  for (const [name, content] of [
    ...[['disk-a.raw', 'old raw'] as const, ['disk-b.raw', 'b'] as const],
    ...[['keys.json', 'old keys'] as const, ['home.json', 'old home'] as const],
    ['vm.json', 'old vm'] as const,
  ]) {
    await writeFile(join(root, name), content)
  }
  const staged = await stageChange(pathsOf(root))
  await writeFile(`${staged.root}/disk-a.luks`, 'new luks')
  await writeFile(`${staged.root}/keys.json`, 'new keys')
  await writeFile(`${staged.root}/home.enc`, 'new home')
  await writeFile(`${staged.root}/vm.json`, 'new vm')
  return root
}

async function contentOf(root: string): Promise<Record<string, string>> {
  const names = (await readdir(root)).sort()
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await readFile(join(root, name), 'utf8')])),
  )
}

test.each(MOVES.map((_, count) => count).concat(MOVES.length))(
  'a change that was committed and interrupted after %s moves is completed, once and again',
  async (count) => {
    const root = await makeVm()
    await writeFile(`${root}/change/commit.json`, JSON.stringify(COMMIT))
    await mkdir(`${root}/change/old/vtpm`, { recursive: true })
    for (const [move, from, to] of MOVES.slice(0, count)) {
      await (move === 'link' ? link : rename)(join(root, from), join(root, to))
    }
    expect(await settleChange(DEFAULT_PROGRAMS, pathsOf(root))).toBe('completed')
    expect(await contentOf(root)).toEqual(DONE)
    expect(await settleChange(DEFAULT_PROGRAMS, pathsOf(root))).toBe('none')
    await rm(root, { recursive: true })
  },
)

test('a change that was not committed is undone', async () => {
  const root = await makeVm()
  expect(await settleChange(DEFAULT_PROGRAMS, pathsOf(root))).toBe('undone')
  expect(await contentOf(root)).toEqual({
    ...{ 'disk-a.raw': 'old raw', 'disk-b.raw': 'b', 'home.json': 'old home' },
    ...{ 'keys.json': 'old keys', 'vm.json': 'old vm' },
  })
  await rm(root, { recursive: true })
})

test('a change is committed in one go where nothing interrupts it', async () => {
  const root = await makeVm()
  const steps: string[] = []
  const { format: _, ...change } = COMMIT
  await commitChange(DEFAULT_PROGRAMS, pathsOf(root), change, (step) => steps.push(step))
  expect(steps).toEqual(['commit', 'place', 'erase'])
  expect(await contentOf(root)).toEqual(DONE)
  await rm(root, { recursive: true })
})

test.each([
  ['names a file outside of the VM', { ...COMMIT, drop: ['../../etc/passwd'] }],
  ['names another file', { ...COMMIT, put: ['run/run.json'] }],
  ['is of another format', { ...COMMIT, format: 2 }],
  ['has a member too many', { ...COMMIT, also: 1 }],
])('a record of a change that %s is refused, and nothing is done', async (_, record) => {
  const root = await makeVm()
  await writeFile(`${root}/change/commit.json`, JSON.stringify(record))
  await expect(settleChange(DEFAULT_PROGRAMS, pathsOf(root))).rejects.toMatchObject({
    code: 'VM_CHANGE_CORRUPT',
  })
  expect(await readFile(`${root}/vm.json`, 'utf8')).toBe('old vm')
  await rm(root, { recursive: true })
})

test('something has a name where a link leads nowhere, and nothing below a file', async () => {
  const root = await mkdtemp(join(tmpdir(), 'sigillo-change-'))
  await symlink(join(root, 'none'), join(root, 'link'))
  await writeFile(join(root, 'file'), '')
  const isThereIn = (name: string) => isThere(join(root, name))
  expect(await Promise.all(['link', 'file'].map(isThereIn))).toEqual([true, true])
  expect(await Promise.all(['none', 'none/a', 'file/a'].map(isThereIn))).toEqual([
    ...[false, false, false],
  ])
  await expect(isThereIn('a'.repeat(300))).rejects.toMatchObject({ code: 'ENAMETOOLONG' })
  await rm(root, { recursive: true })
})
