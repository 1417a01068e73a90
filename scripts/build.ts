// Bundles the programs into dist/src. A command loads some files there instead of a thousand modules one by one, which took
// most of the time that a command takes. Types are not checked here.
import { chmodSync, readFileSync, rmSync } from 'node:fs'
import { build } from 'esbuild'
import { BUNDLING } from './bundling.js'

const { bin } = JSON.parse(readFileSync('package.json', 'utf8')) as { bin: Record<string, string> }
const programs = Object.values(bin)

for (const folder of ['src', 'test']) rmSync(`dist/${folder}`, { recursive: true, force: true })
await build({
  ...BUNDLING,
  entryPoints: [...programs.map(sourceOf), 'src/eventlog/worker.ts'],
  outbase: '.',
  outdir: 'dist',
  // as far below dist/src as the sources below src, so that what is found beside a file is found from there too
  chunkNames: 'src/chunks/[name]-[hash]',
  splitting: true,
})
// npm links them as they are
for (const program of programs) chmodSync(program, 0o755)

/** `dist/src/cli/main.js` is of `src/cli/main.ts`. */
function sourceOf(program: string): string {
  return program.replace(/^dist\//, '').replace(/\.js$/, '.ts')
}
