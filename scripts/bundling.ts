import type { BuildOptions } from 'esbuild'
import { COMPILED_PACKAGES } from './compiled-packages.js'

/** How programs are bundled: those of dist, and those that tests start. */
export const BUNDLING = {
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  external: COMPILED_PACKAGES,
  // errors are known by the names of their classes
  keepNames: true,
  sourcemap: true,
  // CommonJS packages ask for modules of Node. Names of a banner must be in no module.
  banner: {
    js: "import { createRequire as requireOfBundle } from 'node:module'; const require = requireOfBundle(import.meta.url)",
  },
  logLevel: 'warning',
} as const satisfies BuildOptions
