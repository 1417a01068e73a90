// Packages with compiled parts, which they load from beside themselves: not bundled into the programs. Run by itself, this
// prints the folders that they are in.
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const COMPILED_PACKAGES = ['@node-rs/argon2', 'better-sqlite3', 'ffi-napi', 'ref-napi']

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

/** Folders below this one of these packages and of all that they need, as far as they are installed. */
function foldersOfCompiledPackages(): ReadonlySet<string> {
  const folders = new Set<string>()
  const add = (name: string, from: string): void => {
    const folder = folderOf(name, from)
    if (folder === undefined || folders.has(folder)) return
    folders.add(folder)
    const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest
    const { dependencies, optionalDependencies } = manifest
    for (const needed of Object.keys({ ...dependencies, ...optionalDependencies })) {
      add(needed, folder)
    }
  }
  for (const name of COMPILED_PACKAGES) add(name, '.')
  return folders
}

/** Where Node finds a package that a module in `from` asks for. */
function folderOf(name: string, from: string): string | undefined {
  const folder = join(from, 'node_modules', name)
  if (existsSync(join(folder, 'package.json'))) return folder
  return from === '.' ? undefined : folderOf(name, dirname(from))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.stdout.write([...foldersOfCompiledPackages()].map((folder) => `${folder}\n`).join(''))
}
