import type { FastifySchemaCompiler } from 'fastify'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { PlatformError } from '../core/errors.js'
import { lazily } from '../core/lazily.js'
import { misfitOf } from '../core/schema-errors.js'

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
  // compiled when the route is first called: all routes of a service together take long
  const validatorOf = lazily(() => Compile(schema))
  const kinds = httpPart === 'querystring' ? kindsOf(schema) : new Map<string, string>()
  return (input: unknown) => {
    const value = kinds.size > 0 ? convertQuery(input, kinds) : input
    if (validatorOf().Check(value)) return { value }
    const misfit = misfitOf(schema, value) ?? ' is wrong'
    return { error: new PlatformError('REQUEST_INVALID', `${httpPart}${misfit}`) }
  }
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
