import { basename, join } from 'node:path'
import { buildSync } from 'esbuild'
import { BUNDLING } from '../../scripts/bundling.js'

const bundles = new Map<string, string>()

/**
 * The file to start a program of the tests by, with Node alone: bundled as ours are, once for each process that starts it,
 * until the next build. From its source it would take seconds of processor each time.
 *
 * @param source path of its TypeScript
 */
export function bundled(source: string): string {
  const known = bundles.get(source)
  if (known !== undefined) return known
  // below this folder, where Node finds the packages that are not in the bundle
  const outfile = join('dist/test', `${process.pid}-${basename(source, '.ts')}.js`)
  buildSync({ ...BUNDLING, entryPoints: [source], outfile, sourcemap: false })
  bundles.set(source, outfile)
  return outfile
}
