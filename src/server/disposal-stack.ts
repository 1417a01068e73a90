/** Disposes what was opened, in reverse order: what the language will have as AsyncDisposableStack. */
export class DisposalStack {
  readonly #end: (() => unknown)[] = []

  use<T extends AsyncDisposable | Disposable>(resource: T): T {
    this.#end.push(() =>
      Symbol.asyncDispose in resource
        ? resource[Symbol.asyncDispose]()
        : resource[Symbol.dispose](),
    )
    return resource
  }

  defer(end: () => unknown): void {
    this.#end.push(end)
  }

  /** Goes on after one that fails, and then throws the first error. */
  async dispose(): Promise<void> {
    const errors: unknown[] = []
    for (let end = this.#end.pop(); end; end = this.#end.pop()) {
      try {
        await end()
      } catch (error) {
        errors.push(error)
      }
    }
    if (errors.length > 0) throw errors[0]
  }
}
