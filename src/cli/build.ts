import { readFileSync } from 'node:fs'

/** Version of this build, from the package that it is part of. */
export function buildVersion(): string {
  for (const candidate of ['../../package.json', '../../../package.json']) {
    const version = versionIn(new URL(candidate, import.meta.url))
    if (version !== undefined) return version
  }
  return 'unknown'
}

function versionIn(file: URL): string | undefined {
  try {
    const { name, version } = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>
    return name === 'sigillo' && typeof version === 'string' ? version : undefined
  } catch {
    return undefined
  }
}
