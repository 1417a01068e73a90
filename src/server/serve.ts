import { readFileSync } from 'node:fs'
import type { Static } from 'typebox'
import { type Attestation, openAttestation } from '../attestation/index.js'
import { openControlPlane } from '../control-plane/index.js'
import type { Clock } from '../core/clock.js'
import { messageOf, PlatformError } from '../core/errors.js'
import type { Logger } from '../core/logger.js'
import { readSecretFile } from '../core/secret-file.js'
import {
  type App,
  addHealthRoutes,
  addOpenApiRoute,
  createApp,
  createRegistry,
  type HostAccess,
  hostAccess,
  type Listener,
  listen,
  operatorAccess,
  type TlsFiles,
} from '../http/index.js'
import { openKeyProvider } from '../key-provider/index.js'
import {
  appendAudit,
  createRootKey,
  type FoundationTables,
  findOperator,
  hasRootKey,
  idempotentAnswers,
  openStore,
  purgeExpired,
  type RootKey,
  type Store,
  unsealRootKey,
} from '../store/index.js'
import type { AuthorityConfig } from './config.js'
import { type KeysOf, localKeys, remoteKeys } from './token-trust.js'

export const SERVICES = ['attestation', 'key-provider', 'control-plane'] as const
export type ServiceName = (typeof SERVICES)[number]

const BODY_LIMIT_OCTETS = 64 * 1024
const PURGE_EVERY_MS = 60_000
const TICK_EVERY_MS = 2_000

/** A running authority. */
export interface Authority extends AsyncDisposable {
  readonly url: string
  /** Ends when everything is closed. */
  close(): Promise<void>
}

/**
 * Starts services in this process: opens the store, unseals their root keys, mounts their routes, listens.
 *
 * The services share the store and the listener, and nothing else.
 */
export async function startAuthority(options: {
  readonly config: Static<typeof AuthorityConfig>
  readonly services: readonly ServiceName[]
  readonly build: string
  readonly clock: Clock
  readonly logger: Logger
}): Promise<Authority> {
  const { config, clock, logger } = options
  const stack = new AsyncDisposableStackLike()
  try {
    const store = stack.use(await openStore({ file: config.store.file }))
    const publicUrl = publicUrlOf(config)
    const rootKeys = await unsealAll(store, options.services, config, clock)
    for (const key of rootKeys.values()) stack.use(key)

    const issuer = config.trust.issuer ?? `${publicUrl}/attestation`
    const attestation = rootKeys.has('attestation')
      ? stack.use(
          await openAttestation({
            store,
            rootKey: rootKeyOf(rootKeys, 'attestation'),
            config: config.attestation,
            issuer,
            audiences: [publicUrl],
            build: options.build,
            clock,
            logger,
          }),
        )
      : undefined
    const keysOf = await trustedKeys(config, issuer, attestation, clock)
    const apps = new Map<string, App>()
    for (const service of options.services) {
      const doors = doorsOf(service, { store, config, publicUrl, keysOf, clock })
      const registry = createRegistry()
      const rootKey = rootKeyOf(rootKeys, service)
      const app = await createApp({
        logger,
        name: service,
        bodyLimitOctets: BODY_LIMIT_OCTETS,
        registry,
        publicRequestsPerMinute: config.server.publicRequestsPerMinute,
        idempotency: idempotentAnswers(store, { service, rootKey, clock }),
        ...doors,
      })
      switch (service) {
        case 'attestation':
          attestation?.addRoutes(app, doors)
          break
        case 'key-provider': {
          const { build } = options
          const keyProvider = stack.use(openKeyProvider({ store, rootKey, build, clock, logger }))
          keyProvider.addRoutes(app, doors)
          stack.use(startTicking(service, keyProvider, clock, logger))
          break
        }
        case 'control-plane': {
          const controlPlane = await openControlPlane({
            store,
            rootKey,
            config: config.controlPlane,
            registry,
            clock,
          })
          controlPlane.addRoutes(app, doors)
          stack.use(startTicking(service, controlPlane, clock, logger))
          break
        }
      }
      addHealthRoutes(app, {
        prefix: `/${service}`,
        state: () => 'ok',
        ...(service === 'attestation' && attestation
          ? { insecureTest: () => attestation.hasTestAnchors() }
          : {}),
        metrics: { registry, access: { operator: ['administrator', 'auditor'], service } },
      })
      addOpenApiRoute(app, `/${service}/v1/openapi.json`, {
        title: `Sigillo ${service}`,
        version: options.build,
        serverUrl: publicUrl,
      })
      apps.set(service, app)
    }
    const root = await createApp({ logger, name: 'root', bodyLimitOctets: 1024 })
    addHealthRoutes(root, { prefix: '', state: () => 'ok' })
    apps.set('', root)

    const listener: Listener = stack.use(
      await listen(apps, config.server.listen, {
        tls: tlsOf(config),
        insecureLoopback: config.server.insecureLoopback,
      }),
    )
    const purge = setInterval(() => {
      purgeExpired(store, clock.nowMs()).catch((err: unknown) => {
        logger.error({ event: 'purge.failed', err }, 'expired records were not removed')
      })
    }, PURGE_EVERY_MS)
    purge.unref()
    stack.defer(() => clearInterval(purge))
    if (attestation) stack.use(startTicking('attestation', attestation, clock, logger))
    logger.info(
      { event: 'authority.started', url: listener.url, services: options.services },
      'authority started',
    )
    let closed: Promise<void> | undefined
    const close = (): Promise<void> => {
      closed ??= stack.dispose()
      return closed
    }
    return { url: listener.url, close, [Symbol.asyncDispose]: close }
  } catch (error) {
    await stack.dispose()
    throw error
  }
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

/** Disposes what was opened, in reverse order: what the language will have as AsyncDisposableStack. */
class AsyncDisposableStackLike {
  readonly #end: (() => void | PromiseLike<void>)[] = []

  use<T extends AsyncDisposable | Disposable>(resource: T): T {
    this.#end.push(() =>
      Symbol.asyncDispose in resource
        ? resource[Symbol.asyncDispose]()
        : resource[Symbol.dispose](),
    )
    return resource
  }

  defer(end: () => void): void {
    this.#end.push(end)
  }

  async dispose(): Promise<void> {
    for (let end = this.#end.pop(); end; end = this.#end.pop()) await end()
  }
}

function publicUrlOf({ server }: Static<typeof AuthorityConfig>): string {
  if (server.publicUrl !== undefined) return server.publicUrl
  if (server.listen.startsWith('unix:') || server.listen.endsWith(':0')) {
    throw new PlatformError(
      'CONFIG_INVALID',
      'expected server.publicUrl, which such an address does not tell',
    )
  }
  return `${server.insecureLoopback && !server.tlsKeyFile ? 'http' : 'https'}://${server.listen}`
}

/** Opens the root key of each service; a service without one gets one, under the passphrase. */
async function unsealAll(
  store: Store,
  services: readonly ServiceName[],
  config: Static<typeof AuthorityConfig>,
  clock: Clock,
): Promise<ReadonlyMap<ServiceName, RootKey>> {
  using passphrase = readSecretFile(config.seal.passphraseFile)
  const keys = new Map<ServiceName, RootKey>()
  for (const service of services) {
    const key = (await hasRootKey(store, service))
      ? await unsealRootKey(store, service, passphrase)
      : await createRootKey(store, service, passphrase, clock.nowMs())
    keys.set(service, key)
  }
  return keys
}

function rootKeyOf(keys: ReadonlyMap<ServiceName, RootKey>, service: ServiceName): RootKey {
  const key = keys.get(service)
  if (!key) throw new TypeError(`no root key for ${service}`)
  return key
}

async function trustedKeys(
  config: Static<typeof AuthorityConfig>,
  issuer: string,
  attestation: Attestation | undefined,
  clock: Clock,
): Promise<KeysOf> {
  if (attestation && config.trust.issuer === undefined) {
    return localKeys(issuer, () => attestation.verificationKeys())
  }
  const caPem = config.trust.caFile === undefined ? undefined : readText(config.trust.caFile)
  return remoteKeys({ issuer, caPem, clock })
}

function doorsOf(
  service: ServiceName,
  deps: {
    readonly store: Store
    readonly config: Static<typeof AuthorityConfig>
    readonly publicUrl: string
    readonly keysOf: KeysOf
    readonly clock: Clock
  },
) {
  const { store, config, publicUrl, clock } = deps
  const operators = operatorAccess({
    find: (token, name) => findOperator(store, { token, service: name, nowMs: clock.nowMs() }),
  })
  const hosts: HostAccess = hostAccess({
    publicUrl,
    audience: publicUrl,
    keysOf: deps.keysOf,
    clock,
    skewSeconds: config.trust.clockSkewSeconds,
    proofMaxAgeSeconds: config.trust.proofMaxAgeSeconds,
    onRefused: async ({ code, message, method, path, requestId }) => {
      await store.transaction<FoundationTables, unknown>((tx) =>
        appendAudit(tx, {
          chain: service,
          atMs: clock.nowMs(),
          actor: 'unknown',
          action: 'host.authenticate',
          subject: `route:${method} ${path}`,
          outcome: 'refused',
          detail: { code, message, requestId },
        }),
      )
    },
  })
  return { operators, hosts }
}

function tlsOf({ server }: Static<typeof AuthorityConfig>): TlsFiles | undefined {
  if (server.tlsCertificateFile === undefined || server.tlsKeyFile === undefined) return undefined
  using key = readSecretFile(server.tlsKeyFile)
  const keyPem = key.use((octets) => Buffer.from(octets).toString('utf8'))
  return { certPem: readText(server.tlsCertificateFile), keyPem }
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    throw new PlatformError('CONFIG_UNREADABLE', `cannot read ${file}: ${messageOf(cause)}`, {
      cause,
    })
  }
}
