import { realpath } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/**
 * Whether a path that somebody gave is in one of the agent's own directories, or is one. Who asks for something on one VM could
 * else put something in the place of what is of another, or of the agent: they know where it is, and need not be on this host.
 *
 * Links on the way are followed, as they are when the path is used. Where its directory does not exist it is in none.
 */
export async function isClosed(path: string, directories: readonly string[]): Promise<boolean> {
  const parent = await realpath(dirname(path)).catch(() => undefined)
  if (parent === undefined) return false
  const real = join(parent, basename(path))
  for (const directory of directories) {
    const root = await realpath(directory).catch(() => directory)
    if (real === root || real.startsWith(`${root}/`)) return true
  }
  return false
}
