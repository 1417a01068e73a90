import type { TSchema } from 'typebox'
import { Value } from 'typebox/value'

/** What a check of a value against a schema reports; the part of it that is told. */
interface SchemaError {
  readonly keyword: string
  /** Where in the schema it is, as the fragment of a URI: `#/properties/name`. */
  readonly schemaPath: string
  readonly instancePath: string
  readonly message: string
  readonly params: object
}

/** Objects of several kinds, told apart by what one member of them says. */
interface Choice {
  readonly member: string
  readonly kinds: ReadonlyMap<string, TSchema>
}

const MAX_PATH_CHARACTERS = 100

/**
 * Says which member of a value is wrong and what was expected, to be written behind the name of the whole:
 * `/pcrs/3 must be integer`. Where the schema has kinds, it is told of the one that the value says it is:
 * ` of kind vm.stop: /request/graceSeconds must be >= 0`. Names of the value are untrusted: they are quoted and short.
 *
 * @returns undefined for a value that fits
 */
export function misfitOf(schema: TSchema, value: unknown): string | undefined {
  const choice = choiceOf(schema)
  const kind = choice && textOf(value, choice.member)
  if (choice && kind !== undefined) {
    const { member, kinds } = choice
    const chosen = kinds.get(kind)
    if (!chosen) return `/${member} must be ${[...kinds.keys()].join(' or ')}`
    const misfit = misfitOf(chosen, value)
    return misfit === undefined ? undefined : ` of ${member} ${kind}: ${misfit.trimStart()}`
  }
  const errors = Value.Errors(schema, value)
  const [error] = errors
  if (!error) return undefined
  const path = JSON.stringify(error.instancePath)
    .slice(1, MAX_PATH_CHARACTERS + 1)
    .replace(/"$/, '')
  return `${path} ${expectation(schema, error, errors)}`
}

function expectation(schema: TSchema, error: SchemaError, errors: readonly SchemaError[]): string {
  if (error.keyword === 'boolean') return 'is not allowed'
  if (error.keyword === 'pattern') return `${error.message}${descriptionOf(schema, error)}`
  if (error.keyword !== 'const') return error.message
  // One error for each word that a choice has
  const allowed = errors.flatMap(({ keyword, instancePath, params }) =>
    keyword === 'const' && instancePath === error.instancePath && 'allowedValue' in params
      ? [String(params.allowedValue)]
      : [],
  )
  return `must be ${allowed.join(' or ')}`
}

/** What the schema says in words of what has this pattern: ` (UUID in lower case)`. */
function descriptionOf(schema: TSchema, { schemaPath }: SchemaError): string {
  let found: unknown = schema
  for (const part of schemaPath.split('/').slice(1)) {
    found = (found as Readonly<Record<string, unknown>> | undefined)?.[part]
  }
  const { description } = (found ?? {}) as { readonly description?: unknown }
  return typeof description === 'string' ? ` (${description})` : ''
}

/** The kinds of a union, where one member has another word in each of them. */
function choiceOf(schema: TSchema): Choice | undefined {
  const { anyOf } = schema as { readonly anyOf?: readonly TSchema[] }
  for (const member of Object.keys((anyOf?.[0] && propertiesOf(anyOf[0])) ?? {})) {
    const kinds = new Map<string, TSchema>()
    for (const variant of anyOf ?? []) {
      const word = propertiesOf(variant)?.[member]?.const
      if (typeof word === 'string') kinds.set(word, variant)
    }
    if (kinds.size === anyOf?.length) return { member, kinds }
  }
  return undefined
}

function propertiesOf(
  schema: TSchema,
): Readonly<Record<string, { readonly const?: unknown }>> | undefined {
  return (
    schema as { readonly properties?: Readonly<Record<string, { readonly const?: unknown }>> }
  ).properties
}

function textOf(value: unknown, member: string): string | undefined {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, member)) return undefined
  const text = (value as Readonly<Record<string, unknown>>)[member]
  return typeof text === 'string' ? text : undefined
}
