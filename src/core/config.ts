import { readFileSync } from 'node:fs'
import { parse as parseToml } from 'smol-toml'
import type { Static, TObject, TSchema } from 'typebox'
import { Value } from 'typebox/value'
import { messageOf, PlatformError } from './errors.js'

/** Where the value of one setting came from. */
export type SettingSource = 'default' | 'file' | 'environment' | 'flag'

/** One setting as `config show` prints it. `value` is undefined where the setting is optional and not set. */
export interface Setting {
  /** Path in the file: `attestation.nonceTtlSeconds`. */
  readonly path: string
  /** `SIGILLO_ATTESTATION_NONCE_TTL_SECONDS` */
  readonly variable: string
  readonly value: unknown
  readonly source: SettingSource
  readonly description: string
}

export interface LoadedConfig<S extends TObject> {
  readonly config: Static<S>
  readonly settings: readonly Setting[]
}

interface Leaf {
  readonly path: readonly string[]
  readonly schema: TSchema & { readonly description?: string; readonly default?: unknown }
}

/** The environment of the process; nothing else in the project reads it. */
export function environment(): Readonly<Record<string, string | undefined>> {
  return process.env
}

/**
 * Loads a configuration: defaults of the schema, then a TOML file, then the environment, then flags.
 *
 * Sections are objects one level deep. A key that the schema does not have is refused, wherever it comes from, as is
 * a value out of its bounds. Secrets are not settings: a setting names the file that holds one.
 *
 * @param options.prefix of environment variables: `SIGILLO` gives `SIGILLO_STORE_FILE` for `store.file`
 * @param options.flags values by path, as the command line gave them
 * @throws PlatformError `CONFIG_UNREADABLE` or `CONFIG_INVALID`
 */
export function loadConfig<S extends TObject>(
  schema: S,
  options: {
    readonly prefix: string
    readonly file?: string | undefined
    readonly env: Readonly<Record<string, string | undefined>>
    readonly flags?: Readonly<Record<string, unknown>>
  },
): LoadedConfig<S> {
  const leaves = leavesOf(schema)
  const known = new Map(leaves.map((leaf) => [leaf.path.join('.'), leaf]))
  const values = new Map<string, { value: unknown; source: SettingSource }>()
  for (const [path, leaf] of known) {
    if (leaf.schema.default !== undefined) {
      values.set(path, { value: leaf.schema.default, source: 'default' })
    }
  }
  for (const [path, value] of options.file ? settingsOfFile(options.file) : []) {
    if (!known.has(path)) {
      throw new PlatformError('CONFIG_INVALID', `${options.file}: there is no setting ${path}`)
    }
    values.set(path, { value, source: 'file' })
  }
  for (const [path, leaf] of known) {
    const text = options.env[variableOf(options.prefix, leaf.path)]
    if (text !== undefined)
      values.set(path, { value: parseText(leaf, text), source: 'environment' })
  }
  for (const [path, value] of Object.entries(options.flags ?? {})) {
    if (value === undefined) continue
    if (!known.has(path)) throw new TypeError(`no setting ${path}`)
    values.set(path, { value, source: 'flag' })
  }

  const config = nest(schema, values)
  const [error] = Value.Errors(schema, config)
  if (error?.keyword === 'required') {
    const where = error.instancePath.slice(1).replaceAll('/', '.')
    const names = error.params.requiredProperties.map((name) => (where ? `${where}.${name}` : name))
    throw new PlatformError(
      'CONFIG_INVALID',
      `expected a value for ${names.join(', ')}, found none`,
    )
  }
  if (error) {
    const path = error.instancePath.slice(1).replaceAll('/', '.')
    const source = values.get(path)?.source ?? 'nowhere'
    throw new PlatformError('CONFIG_INVALID', `setting ${path} (from ${source}) ${error.message}`)
  }
  const settings = leaves.map((leaf): Setting => {
    const path = leaf.path.join('.')
    const entry = values.get(path)
    return {
      path,
      variable: variableOf(options.prefix, leaf.path),
      value: entry?.value,
      source: entry?.source ?? 'default',
      description: leaf.schema.description ?? '',
    }
  })
  return { config: config as Static<S>, settings }
}

/** The settings of a schema without any values: the reference table in the documents is made of these. */
export function describeSettings(schema: TObject, prefix: string): readonly Setting[] {
  return leavesOf(schema).map((leaf) => ({
    path: leaf.path.join('.'),
    variable: variableOf(prefix, leaf.path),
    value: leaf.schema.default,
    source: 'default',
    description: leaf.schema.description ?? '',
  }))
}

function leavesOf(schema: TObject): readonly Leaf[] {
  return Object.entries(schema.properties).flatMap(([name, property]) =>
    isObjectSchema(property)
      ? Object.entries(property.properties).map(([inner, leaf]) => ({
          path: [name, inner],
          schema: leaf,
        }))
      : [{ path: [name], schema: property }],
  )
}

function isObjectSchema(schema: TSchema): schema is TObject {
  return 'properties' in schema
}

function variableOf(prefix: string, path: readonly string[]): string {
  const words = path.map((name) => name.replace(/([a-z0-9])([A-Z])/g, '$1_$2').toUpperCase())
  return [prefix, ...words].join('_')
}

function settingsOfFile(file: string): readonly (readonly [string, unknown])[] {
  let table: Record<string, unknown>
  try {
    table = parseToml(readFileSync(file, 'utf8'))
  } catch (cause) {
    throw new PlatformError('CONFIG_UNREADABLE', `cannot read ${file}: ${messageOf(cause)}`, {
      cause,
    })
  }
  return Object.entries(table).flatMap(([name, value]): [string, unknown][] =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.entries(value).map(([inner, leaf]) => [`${name}.${inner}`, leaf])
      : [[name, value]],
  )
}

function parseText(leaf: Leaf, text: string): unknown {
  const { type } = leaf.schema as { readonly type?: string }
  switch (type) {
    case 'integer':
      return /^-?\d+$/.test(text) ? Number(text) : text
    case 'boolean':
      return text === 'true' ? true : text === 'false' ? false : text
    case 'array':
      return text === '' ? [] : text.split(',').map((item) => parseItem(leaf, item))
    default:
      return text
  }
}

/** Items that are not as the schema has them stay text, which the schema then refuses. */
function parseItem(leaf: Leaf, text: string): unknown {
  const { items } = leaf.schema as { readonly items?: { readonly type?: string } }
  return items?.type === 'integer' && /^-?\d+$/.test(text) ? Number(text) : text
}

function nest(
  schema: TObject,
  values: ReadonlyMap<string, { readonly value: unknown }>,
): Record<string, unknown> {
  const config: Record<string, unknown> = {}
  for (const [name, property] of Object.entries(schema.properties)) {
    if (!isObjectSchema(property)) {
      const entry = values.get(name)
      if (entry) config[name] = entry.value
      continue
    }
    const section: Record<string, unknown> = {}
    for (const inner of Object.keys(property.properties)) {
      const entry = values.get(`${name}.${inner}`)
      if (entry) section[inner] = entry.value
    }
    config[name] = section
  }
  return config
}
