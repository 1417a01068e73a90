import type { FastifySchemaCompiler } from 'fastify'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { PlatformError } from '../core/errors.js'

/**
 * Compiles schemas into checks that change nothing: no coercion, no defaults, no removal of members.
 *
 * The one exception: text in a query becomes a number or boolean where the schema wants one and the text is exactly
 * one, since a query has nothing but text.
 */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = ({
  schema,
  httpPart = 'body',
}) => {
  const validator = Compile(schema)
  const kinds = httpPart === 'querystring' ? kindsOf(schema) : new Map<string, string>()
  return (input: unknown) => {
    const value = kinds.size > 0 ? convertQuery(input, kinds) : input
    if (validator.Check(value)) return { value }
    return { error: invalid(httpPart, validator.Errors(value)) }
  }
}

interface SchemaError {
  readonly keyword: string
  readonly instancePath: string
  readonly message: string
  readonly params: object
}

/** Says which member is wrong and what was expected, with untrusted names quoted and short. */
function invalid(httpPart: string, errors: readonly SchemaError[]): PlatformError {
  const [error] = errors
  const where = JSON.stringify(error?.instancePath ?? '')
    .slice(1, 101)
    .replace(/"$/, '')
  const what = error ? describe(error, errors) : 'is wrong'
  return new PlatformError('REQUEST_INVALID', `${httpPart}${where} ${what}`)
}

function describe(error: SchemaError, errors: readonly SchemaError[]): string {
  if (error.keyword === 'boolean') return 'is not allowed'
  if (error.keyword !== 'const') return error.message
  // One error for each word that a choice has
  const allowed = errors.flatMap(({ keyword, instancePath, params }) =>
    keyword === 'const' && instancePath === error.instancePath && 'allowedValue' in params
      ? [String(params.allowedValue)]
      : [],
  )
  return `must be ${allowed.join(' or ')}`
}

function kindsOf(schema: TSchema): ReadonlyMap<string, string> {
  const { properties } = schema as { readonly properties?: Readonly<Record<string, unknown>> }
  return new Map(
    Object.entries(properties ?? {}).flatMap(([name, property]): [string, string][] => {
      const { type } = property as { readonly type?: unknown }
      return type === 'integer' || type === 'boolean' ? [[name, type]] : []
    }),
  )
}

function convertQuery(input: unknown, kinds: ReadonlyMap<string, string>): unknown {
  if (typeof input !== 'object' || input === null) return input
  return Object.fromEntries(
    Object.entries(input).map(([name, text]: [string, unknown]) => [
      name,
      convertText(text, kinds.get(name)),
    ]),
  )
}

function convertText(text: unknown, kind: string | undefined): unknown {
  if (typeof text !== 'string') return text
  if (kind === 'integer' && /^(0|[1-9]\d{0,14})$/.test(text)) return Number(text)
  if (kind === 'boolean' && (text === 'true' || text === 'false')) return text === 'true'
  return text
}
