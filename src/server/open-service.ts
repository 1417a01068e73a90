import type { Static } from 'typebox'
import { METRICS } from '../api/metrics.js'
import { type Attestation, openAttestation } from '../attestation/index.js'
import { openControlPlane } from '../control-plane/index.js'
import type { Clock } from '../core/clock.js'
import type { Logger } from '../core/logger.js'
import {
  type App,
  addHealthRoutes,
  addOpenApiRoute,
  type CallerAccess,
  createApp,
  createRegistry,
  type HostAccess,
  quiet,
  type Registry,
} from '../http/index.js'
import { openKeyProvider } from '../key-provider/index.js'
import { idempotentAnswers, type RootKey, type Store } from '../store/index.js'
import type { AuthorityConfig } from './config.js'
import { DisposalStack } from './disposal-stack.js'
import type { TpmSealerFor } from './sealers.js'
import type { ServiceName } from './serve.js'
import type { OpenService } from './service-keeper.js'

const BODY_LIMIT_OCTETS = 64 * 1024
const TICK_EVERY_MS = 2_000

export interface ServiceDeps {
  readonly store: Store
  readonly config: Static<typeof AuthorityConfig>
  readonly publicUrl: string
  readonly issuer: string
  readonly build: string
  readonly doors: { readonly callers: CallerAccess; readonly hosts: HostAccess }
  readonly clock: Clock
  readonly logger: Logger
  readonly tpmSealerFor: TpmSealerFor
  /** Told when the attestation service is there, and when it is gone. */
  readonly onAttestation: (attestation: Attestation | undefined) => void
}

/**
 * Opens a service under its root key: its keys, its routes, and what it does every few seconds.
 *
 * Disposing of it takes no new requests into account: they must go elsewhere by then. It ends rounds and streams, waits for
 * requests under way, and drops the keys.
 */
export async function openService(
  service: ServiceName,
  rootKey: RootKey,
  deps: ServiceDeps,
): Promise<OpenService> {
  const { store, config, doors, clock, logger } = deps
  const stack = new DisposalStack()
  try {
    const registry = createRegistry()
    const app = await createApp({
      logger,
      name: service,
      bodyLimitOctets: BODY_LIMIT_OCTETS,
      registry,
      publicRequestsPerMinute: config.server.publicRequestsPerMinute,
      idempotency: idempotentAnswers(store, { service, rootKey, clock }),
      ...doors,
    })
    const insecureTest = await addService(service, { rootKey, app, registry, stack }, deps)
    addHealthRoutes(app, {
      prefix: `/${service}`,
      state: () => 'ok',
      ...(insecureTest ? { insecureTest } : {}),
      metrics: { registry, access: { needs: METRICS[service].needs, service } },
    })
    addOpenApiRoute(app, `/${service}/v1/openapi.json`, {
      title: `Sigillo ${service}`,
      version: deps.build,
      serverUrl: deps.publicUrl,
    })
    stack.defer(() => closeApp(app))
    await app.ready()
    return { app, [Symbol.asyncDispose]: () => stack.dispose() }
  } catch (error) {
    await stack.dispose()
    throw error
  }
}

/** @returns whether trust anchors for tests are accepted, of a service that has any */
async function addService(
  service: ServiceName,
  opened: {
    readonly rootKey: RootKey
    readonly app: App
    readonly registry: Registry
    readonly stack: DisposalStack
  },
  deps: ServiceDeps,
): Promise<(() => boolean) | undefined> {
  const { rootKey, app, registry, stack } = opened
  const { store, config, doors, clock, logger } = deps
  switch (service) {
    case 'attestation': {
      const attestation = stack.use(
        await openAttestation({
          ...{ store, rootKey, clock, logger },
          config: config.attestation,
          issuer: deps.issuer,
          audiences: [deps.publicUrl],
          build: deps.build,
        }),
      )
      deps.onAttestation(attestation)
      stack.defer(() => deps.onAttestation(undefined))
      attestation.addRoutes(app, doors)
      stack.use(startTicking(service, attestation, clock, logger))
      return () => attestation.hasTestAnchors()
    }
    case 'key-provider': {
      const { build } = deps
      const keyProvider = stack.use(
        await openKeyProvider({
          ...{ store, rootKey, registry, build, clock, logger },
          config: config.keyProvider,
          tombstoneFile: `${config.store.file}.tombstones`,
          tpm: { sealer: deps.tpmSealerFor, pcrs: config.seal.tpmPcrs },
        }),
      )
      keyProvider.addRoutes(app, doors)
      stack.use(startTicking(service, keyProvider, clock, logger))
      return undefined
    }
    case 'control-plane': {
      const { build } = deps
      const controlPlane = stack.use(
        await openControlPlane({
          ...{ store, rootKey, registry, build, clock, logger },
          config: config.controlPlane,
          publicUrl: config.server.publicUrl,
        }),
      )
      controlPlane.addRoutes(app, doors)
      stack.use(startTicking(service, controlPlane, clock, logger))
      return undefined
    }
  }
}

/** Streams end when the app begins to close. */
export async function closeApp(app: App): Promise<void> {
  const closing = app.close()
  await quiet(app)
  await closing
}

/** Lets a service do what is due, every few seconds, one round after the other. */
function startTicking(
  service: ServiceName,
  { tick }: { readonly tick: (nowMs: number) => Promise<void> },
  clock: Clock,
  logger: Logger,
): AsyncDisposable {
  let round: Promise<void> | undefined
  const timer = setInterval(() => {
    round ??= tick(clock.nowMs())
      .catch((err: unknown) => {
        logger.error({ event: `${service}.tick-failed`, err }, 'a round of the service failed')
      })
      .finally(() => {
        round = undefined
      })
  }, TICK_EVERY_MS)
  timer.unref()
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await round
    },
  }
}
