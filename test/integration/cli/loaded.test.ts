import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

// What a command loads is most of the time that it takes to start: packages that it has no use for are not loaded. A time would
// tell more of the machine than of the command.

/** A module that tells the URL of each module that is loaded after it. */
const TELL = moduleOf(`
  import { register } from 'node:module'
  register(${JSON.stringify(
    moduleOf(`
      import { writeSync } from 'node:fs'
      export const load = (url, context, next) => {
        writeSync(2, 'loaded ' + url + '\\n')
        return next(url, context)
      }
    `),
  )})
`)

function moduleOf(source: string): string {
  return `data:text/javascript,${encodeURIComponent(source)}`
}

/** Packages whose code is in the files that a command line loads. */
async function packagesLoadedBy(program: 'main' | 'agent-main', ...args: readonly string[]) {
  const file = `dist/src/cli/${program}.js`
  const { stderr } = await promisify(execFile)(process.execPath, ['--import', TELL, file, ...args])
  const files = [...stderr.matchAll(/^loaded (file:.*)$/gm)].map(([, url = '']) => url)
  expect(files.length).toBeGreaterThan(1)
  // the bundler says where each part of a file is from
  const parts = files.flatMap((url) => [
    ...readFileSync(fileURLToPath(url), 'utf8').matchAll(
      /^\s*\/\/ node_modules\/((?:@[^/]+\/)?[^/]+)/gm,
    ),
  ])
  return [...new Set(parts.map(([, name]) => name))].sort()
}

test.each([
  ['main', ['--version'], ['commander']],
  ['main', ['vm', 'list', '--help'], ['commander', 'smol-toml', 'typebox', 'undici']],
  ['agent-main', ['vm', 'list', '--help'], ['commander', 'smol-toml', 'typebox', 'undici']],
  ['agent-main', ['libvirt', 'hook', '--help'], ['commander', 'smol-toml', 'typebox', 'undici']],
] as const)('a command loads what it needs alone: %s %j', async (program, args, packages) => {
  expect(await packagesLoadedBy(program, ...args)).toEqual(packages)
})
