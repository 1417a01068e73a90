import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'

test('the pages that are made of tables in the code are up to date', () => {
  execFileSync(process.execPath, ['--import', 'tsx', 'scripts/generate-docs.ts', '--check'])
})

test('every link between documents leads to a file', () => {
  const pages = [
    ...readdirSync('.').filter((name) => name.endsWith('.md')),
    ...readdirSync('docs', { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.md'))
      .map((name) => join('docs', name)),
  ]
  const broken = pages.flatMap((page) =>
    [...readFileSync(page, 'utf8').matchAll(/\]\(([^)#:]+)\)/g)].flatMap(([, target = '']) =>
      existsSync(join(dirname(page), target)) ? [] : [`${page} → ${target}`],
    ),
  )
  expect(pages.length).toBeGreaterThan(8)
  expect(broken).toEqual([])
})

test('every page is found from the README', () => {
  const readme = readFileSync('README.md', 'utf8')
  const pages = readdirSync('docs').filter((name) => name.endsWith('.md'))
  expect(pages.filter((name) => !readme.includes(`(docs/${name})`))).toEqual([])
})
