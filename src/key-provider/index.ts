import type { Static } from 'typebox'
import type { Clock } from '../core/clock.js'
import type { Logger } from '../core/logger.js'
import { newUuid, randomOctets } from '../core/random.js'
import { selfTest } from '../envelope/index.js'
import {
  type App,
  type CallerAccess,
  type HostAccess,
  hostRate,
  type Registry,
} from '../http/index.js'
import {
  auditLog,
  loadOrCreateServiceKey,
  type RootKey,
  type Sealer,
  type Store,
} from '../store/index.js'
import { sealAnswer } from '../tokens/index.js'
import { keyServerKeys } from './adapters/key-server-keys.js'
import { embeddedKeystore } from './adapters/keystore.js'
import { releaseMetrics } from './adapters/metrics.js'
import { AUDIT_CHAIN, keyProviderStore } from './adapters/store.js'
import { tombstoneFile } from './adapters/tombstone-file.js'
import { tpmKeys as openTpmKeys } from './adapters/tpm-keys.js'
import type { KeyProviderSection } from './config.js'
import { createDestruction } from './domain/destruction.js'
import { primaryKeyMaker } from './domain/new-version.js'
import { createProviderAdministration } from './domain/providers.js'
import { addHostRoutes } from './routes/host-routes.js'
import { addOperatorRoutes } from './routes/operator-routes.js'

export { KEY_PROVIDER_SEALED } from './adapters/sealed-columns.js'
export { KeyProviderSection } from './config.js'

const MAC_KEY_OCTETS = 32

/** The key provider service, ready to have its routes added to an app. Closing it ends connections to key servers and wipes keys. */
export interface KeyProvider extends AsyncDisposable {
  addRoutes(app: App, doors: { readonly hosts: HostAccess; readonly callers: CallerAccess }): void
  /** Makes and destroys the versions of primary keys that are due. Called every few seconds; one call at a time. */
  tick(nowMs: number): Promise<void>
}

/**
 * Opens the service after its self-tests.
 *
 * @param deps.rootKey unsealed; stays the caller's to dispose of
 * @throws PlatformError `KEY_SELF_TEST`, `KEY_TOMBSTONES`
 */
export async function openKeyProvider(deps: {
  readonly store: Store
  readonly rootKey: RootKey
  readonly config: Static<typeof KeyProviderSection>
  readonly registry: Registry
  /** Version of this program, for the attributes of keys. */
  readonly build: string
  readonly clock: Clock
  readonly logger: Logger
  /** Where it is kept what was destroyed, beside the database. */
  readonly tombstoneFile: string
  /** The TPM of the authority: seals to PCRs, and the PCRs where nobody says others. Not used before a provider has its key there. */
  readonly tpm: {
    readonly sealer: (pcrs: readonly number[]) => Sealer
    readonly pcrs: readonly number[]
  }
}): Promise<KeyProvider> {
  selfTest()
  const { clock, rootKey } = deps
  const store = keyProviderStore(deps.store)
  const keystore = embeddedKeystore(rootKey)
  const keyServers = keyServerKeys({ rootKey, keystore, clock, logger: deps.logger })
  const tpmKeys = openTpmKeys({ keystore, sealer: deps.tpm.sealer })
  const release = {
    ...{ store, keystore, keyServers, tpmKeys, seal: sealAnswer, random: randomOctets },
    metrics: releaseMetrics(deps.registry),
    monotonicMs: () => clock.monotonicMs(),
  }
  const rate = hostRate(deps.config.hostRequestsPerMinute)
  const keys = primaryKeyMaker({
    keystore,
    keyServers,
    tpmKeys,
    random: randomOctets,
    productVersion: deps.build,
  })
  const macKey = await loadOrCreateServiceKey(
    deps.store,
    rootKey,
    AUDIT_CHAIN,
    'tombstones',
    async () => randomOctets(MAC_KEY_OCTETS),
  )
  const tombstones = tombstoneFile(deps.tombstoneFile, macKey)
  const destruction = createDestruction({ store, keyServers, tpmKeys, tombstones })
  const again = await destruction.destroyAgain(clock.nowMs())
  if (again > 0) {
    deps.logger.warn(
      { event: 'key-provider.destroyed-again', versions: again },
      'the database is an older copy: versions of primary keys were destroyed again',
    )
  }
  const providers = createProviderAdministration({
    ...{ store, keys, keyServers, tpmKeys, destruction },
    tpmPcrs: deps.tpm.pcrs,
    newId: newUuid,
  })
  const audit = auditLog(deps.store, AUDIT_CHAIN)
  return {
    addRoutes(app, { hosts, callers }) {
      addHostRoutes(app, { release, hosts, rate, clock })
      addOperatorRoutes(app, { providers, audit, callers, clock })
    },
    async tick(nowMs) {
      await providers.rotateDue(nowMs)
      await destruction.destroyDue(nowMs)
    },
    async [Symbol.asyncDispose]() {
      await keyServers[Symbol.asyncDispose]()
      await tpmKeys[Symbol.asyncDispose]()
      macKey.dispose()
    },
  }
}
