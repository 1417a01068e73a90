/** What a check of a value against a schema reports; the part of it that is told. */
export interface SchemaError {
  readonly keyword: string
  readonly instancePath: string
  readonly message: string
  readonly params: object
}

const MAX_PATH_CHARACTERS = 100

/** Says which member is wrong and what was expected: `/pcrs/3 must be integer`. Untrusted names are quoted and short. */
export function describeSchemaErrors(errors: readonly SchemaError[]): string {
  const [error] = errors
  if (!error) return ' is wrong'
  const path = JSON.stringify(error.instancePath)
    .slice(1, MAX_PATH_CHARACTERS + 1)
    .replace(/"$/, '')
  return `${path} ${expectation(error, errors)}`
}

function expectation(error: SchemaError, errors: readonly SchemaError[]): string {
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
