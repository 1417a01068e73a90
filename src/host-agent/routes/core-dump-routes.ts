import { makeCoreDumpKey, openCoreDump } from '../../api/core-dumps.js'
import { fromBase64url, toBase64url } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { type App, addOperation } from '../../http/index.js'
import type { DumpKeeper } from '../core-dumps/dump-keys.js'
import { defaultProviderOf } from '../host-keys/default-provider.js'
import type { KeyKeeper } from '../host-keys/keeper.js'

const LOCAL = { access: 'local' } as const

/** Keys of core dumps, on the agent's socket. */
export function addCoreDumpRoutes(
  app: App,
  deps: {
    readonly dumps: DumpKeeper
    readonly keeper: Pick<KeyKeeper, 'ready' | 'defaultProvider'>
  },
): void {
  const { dumps, keeper } = deps
  addOperation(app, makeCoreDumpKey, LOCAL, async ({ body }) => {
    const provider = body.provider ?? (await defaultProviderOf(keeper))
    if (provider === undefined) {
      throw new PlatformError('AGENT_NO_PROVIDER', 'expected a key provider by name, or a default')
    }
    return dumps.make(provider)
  })
  addOperation(app, openCoreDump, LOCAL, async ({ body }) => {
    const key = await dumps.contentKey(fromBase64url(body.header))
    try {
      return { contentKey: toBase64url(key) }
    } finally {
      key.fill(0)
    }
  })
}
