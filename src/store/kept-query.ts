import {
  type Compilable,
  type CompiledQuery,
  DummyDriver,
  Kysely,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  type Transaction,
} from 'kysely'

/** Stands in a query for the value of a parameter. */
export type Parameters<P> = <N extends keyof P & string>(name: N) => P[N]

/**
 * A query whose text is made once, for what hosts ask for all day: building the text takes longer than running it.
 *
 * `build` runs when the query is first used, with markers in place of values. So it must not look at them, and a value may
 * only be where SQL has a parameter.
 */
export function keptQuery<T, P extends object, R>(
  build: (db: Kysely<T>, parameter: Parameters<P>) => Compilable<R>,
): (tx: Transaction<T>, parameters: P) => Promise<QueryResult<R>> {
  let kept: CompiledQuery<R> | undefined
  return (tx, parameters) => {
    kept ??= build(compiler as unknown as Kysely<T>, marker as Parameters<P>).compile()
    const values = kept.parameters.map((value) =>
      value instanceof Marker ? argument(parameters, value.name) : value,
    )
    return tx.executeQuery({ ...kept, parameters: values })
  }
}

class Marker {
  readonly name: string

  constructor(name: string) {
    this.name = name
  }
}

function marker(name: string): unknown {
  return new Marker(name)
}

function argument(parameters: object, name: string): unknown {
  if (!(name in parameters)) throw new TypeError(`no value for the parameter ${name}`)
  return parameters[name as keyof typeof parameters]
}

/** Makes text, and has no database. */
const compiler = new Kysely<unknown>({
  dialect: {
    createAdapter: () => new SqliteAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  },
})
