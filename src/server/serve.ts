import type { Static } from 'typebox'
import { ATTESTATION_SEALED, type Attestation } from '../attestation/index.js'
import { CONTROL_PLANE_SEALED, placeOfVm } from '../control-plane/index.js'
import type { Clock } from '../core/clock.js'
import { PlatformError } from '../core/errors.js'
import type { Logger } from '../core/logger.js'
import { readText } from '../core/read-file.js'
import { readSecretFile } from '../core/secret-file.js'
import {
  type App,
  actorOf,
  addHealthRoutes,
  addOpenApiRoute,
  type CallerAccess,
  callerAccess,
  createApp,
  type HostAccess,
  hostAccess,
  type Listener,
  listen,
  type Refusal,
  type TlsFiles,
} from '../http/index.js'
import { KEY_PROVIDER_SEALED } from '../key-provider/index.js'
import { openPeople, type People } from '../people/index.js'
import {
  appendAudit,
  type FoundationTables,
  openStore,
  purgeExpired,
  type SealedColumn,
  type Sealer,
  type Store,
  sharedSealedColumns,
} from '../store/index.js'
import type { AuthorityConfig } from './config.js'
import { DisposalStack } from './disposal-stack.js'
import { closeApp, openService, type ServiceDeps } from './open-service.js'
import { SealAdministration } from './seal-administration.js'
import { addSealRoutes } from './seal-routes.js'
import { type ConfiguredKind, configuredSealers, configuredTpm, type OpenTpm } from './sealers.js'
import { ServiceKeeper } from './service-keeper.js'
import { type KeysOf, localKeys, remoteKeys } from './token-trust.js'

export const SERVICES = ['attestation', 'key-provider', 'control-plane'] as const
export type ServiceName = (typeof SERVICES)[number]

/** What each service keeps sealed under its root key. */
export const SEALED_COLUMNS: Readonly<Record<ServiceName, readonly SealedColumn[]>> = {
  attestation: [...sharedSealedColumns('attestation'), ...ATTESTATION_SEALED],
  'key-provider': [...sharedSealedColumns('key-provider'), ...KEY_PROVIDER_SEALED],
  'control-plane': [...sharedSealedColumns('control-plane'), ...CONTROL_PLANE_SEALED],
}

const SMALL_BODY_OCTETS = 4 * 1024
const PURGE_EVERY_MS = 60_000
const LOOK_FOR_CHANGES_EVERY_MS = 5_000

/** A running authority. */
export interface Authority extends AsyncDisposable {
  readonly url: string
  /** Ends when everything is closed. */
  close(): Promise<void>
}

/**
 * Starts services in this process: opens the store, listens, and opens each service that can be unsealed without anybody.
 *
 * A service that cannot is there all the same: it says that it is sealed and answers nothing else, and operators unseal it.
 * The services share the store and the listener, and nothing else.
 */
export async function startAuthority(options: {
  readonly config: Static<typeof AuthorityConfig>
  readonly services: readonly ServiceName[]
  readonly build: string
  readonly clock: Clock
  readonly logger: Logger
  /** For seals of kind `tpm`, and primary keys that the TPM seals. */
  readonly openTpm?: OpenTpm
}): Promise<Authority> {
  const { config, clock, logger, build } = options
  const stack = new DisposalStack()
  try {
    const store = stack.use(await openStore({ file: config.store.file }))
    const publicUrl = publicUrlOf(config)
    const issuer = config.trust.issuer ?? `${publicUrl}/attestation`
    let attestation: Attestation | undefined
    const keysOf = options.services.includes('attestation')
      ? trustedKeys(config, issuer, () => attestation, clock)
      : trustedKeys(config, issuer, undefined, clock)

    const apps = new Map<string, App>()
    const people = stack.use(
      openPeople({ store, config: config.people, oidc: config.oidc, placeOfVm, clock }),
    )
    const callers = callersOf(store, people, clock)
    const peopleApp = await openPeopleApp(people, callers, { config, logger, build, publicUrl })
    stack.defer(() => closeApp(peopleApp))
    apps.set('people', peopleApp)
    const operatorApp = await createApp({
      logger,
      name: 'operator',
      bodyLimitOctets: SMALL_BODY_OCTETS,
      publicRequestsPerMinute: config.server.publicRequestsPerMinute,
      callers,
    })
    const tpmSealerFor = configuredTpm(config.seal.tpmTcti, options.openTpm)
    const sealerFor = configuredSealers(config.seal, tpmSealerFor)
    const keepers: ServiceKeeper[] = []
    for (const service of options.services) {
      const sealed = await sealedApp(service, config, logger)
      stack.defer(() => sealed.close())
      apps.set(service, sealed)
      const doors = doorsOf(service, { store, config, publicUrl, keysOf, callers, clock })
      const onAttestation: ServiceDeps['onAttestation'] = (opened) => {
        attestation = opened
      }
      const deps = {
        ...{ store, config, publicUrl, issuer, build, doors, clock, logger, onAttestation },
        tpmSealerFor,
      }
      const keeper = stack.use(
        keeperOf(service, deps, sealerFor, (app) => {
          apps.set(service, app ?? sealed)
        }),
      )
      keepers.push(keeper)
      const administration = new SealAdministration({
        ...{ keeper, store, clock, columns: SEALED_COLUMNS[service] },
        configured: sealerFor,
        oneOperatorMayGiveAllShares: config.seal.insecureSharesOfOneOperator,
      })
      addSealRoutes(operatorApp, { service, administration, callers })
    }
    addOpenApiRoute(operatorApp, '/operator/v1/openapi.json', {
      title: 'Sigillo operator',
      version: build,
      serverUrl: publicUrl,
    })
    apps.set('operator', operatorApp)
    const root = await createApp({ logger, name: 'root', bodyLimitOctets: 1024 })
    const isOpen = () => keepers.every((keeper) => keeper.isOpen)
    addHealthRoutes(root, { prefix: '', state: () => (isOpen() ? 'ok' : 'sealed') })
    apps.set('', root)

    const listener: Listener = stack.use(
      await listen(apps, config.server.listen, {
        tls: tlsOf(config),
        insecureLoopback: config.server.insecureLoopback,
      }),
    )
    await Promise.all(keepers.map((keeper) => keeper.start()))
    stack.use(every(PURGE_EVERY_MS, 'purge', logger, () => purgeExpired(store, clock.nowMs())))
    stack.use(
      every(LOOK_FOR_CHANGES_EVERY_MS, 'root-keys', logger, async () => {
        for (const keeper of keepers) await keeper.noticeChanges()
      }),
    )
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

function keeperOf(
  service: ServiceName,
  deps: ServiceDeps,
  sealerFor: (kind: ConfiguredKind) => Sealer,
  mount: (app: App | undefined) => void,
): ServiceKeeper {
  const { store, config, clock, logger } = deps
  return new ServiceKeeper({
    ...{ service, store, clock, logger, mount },
    automatic: config.seal.automatic.map(sealerFor),
    open: (rootKey) => openService(service, rootKey, deps),
  })
}

/** Login, accounts, roles and permissions: there whether services are sealed or not. */
async function openPeopleApp(
  people: People,
  callers: CallerAccess,
  options: {
    readonly config: Static<typeof AuthorityConfig>
    readonly logger: Logger
    readonly build: string
    readonly publicUrl: string
  },
): Promise<App> {
  const app = await createApp({
    logger: options.logger,
    name: 'people',
    bodyLimitOctets: SMALL_BODY_OCTETS,
    publicRequestsPerMinute: options.config.server.publicRequestsPerMinute,
    callers,
  })
  people.addRoutes(app, callers)
  addOpenApiRoute(app, '/people/v1/openapi.json', {
    title: 'Sigillo people',
    version: options.build,
    serverUrl: options.publicUrl,
  })
  await app.ready()
  return app
}

/** What stands in the place of a service that is sealed. */
async function sealedApp(
  service: ServiceName,
  { server }: Static<typeof AuthorityConfig>,
  logger: Logger,
): Promise<App> {
  const app = await createApp({
    logger,
    name: service,
    bodyLimitOctets: 1024,
    publicRequestsPerMinute: server.publicRequestsPerMinute,
    elsewhere: () => new PlatformError('SEALED', `${service} is sealed`),
  })
  addHealthRoutes(app, { prefix: `/${service}`, state: () => 'sealed' })
  await app.ready()
  return app
}

/** Does something every so often, one round after the other; a round that fails is logged. */
function every(
  everyMs: number,
  name: string,
  logger: Logger,
  work: () => Promise<unknown>,
): AsyncDisposable {
  let round: Promise<unknown> | undefined
  const timer = setInterval(() => {
    round ??= work()
      .catch((err: unknown) => {
        logger.error({ event: `${name}.failed`, err }, 'what is done at times was not done')
      })
      .finally(() => {
        round = undefined
      })
  }, everyMs)
  timer.unref()
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await round
    },
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

function trustedKeys(
  config: Static<typeof AuthorityConfig>,
  issuer: string,
  attestation: (() => Attestation | undefined) | undefined,
  clock: Clock,
): KeysOf {
  if (attestation && config.trust.issuer === undefined) {
    return localKeys(issuer, () => {
      const opened = attestation()
      if (opened) return opened.verificationKeys()
      throw new PlatformError('SEALED', 'attestation is sealed: its tokens cannot be verified')
    })
  }
  const caPem = config.trust.caFile === undefined ? undefined : readText(config.trust.caFile)
  return remoteKeys({ issuer, caPem, clock })
}

function callersOf(store: Store, people: People, clock: Clock) {
  return callerAccess({
    ...people.doors,
    onForbidden: (caller, service, refusal) =>
      auditRefusal(store, clock, service, actorOf(caller), 'caller.authorize', refusal),
  })
}

/** A caller who was not let through. */
async function auditRefusal(
  store: Store,
  clock: Clock,
  chain: string,
  actor: string,
  action: string,
  { code, message, method, path, requestId }: Refusal,
): Promise<void> {
  await store.transaction<FoundationTables, unknown>((tx) =>
    appendAudit(tx, {
      ...{ chain, actor, action, atMs: clock.nowMs() },
      subject: `route:${method} ${path}`,
      outcome: 'refused',
      detail: { code, message, requestId },
    }),
  )
}

function doorsOf(
  service: ServiceName,
  deps: {
    readonly store: Store
    readonly config: Static<typeof AuthorityConfig>
    readonly publicUrl: string
    readonly keysOf: KeysOf
    readonly callers: CallerAccess
    readonly clock: Clock
  },
) {
  const { store, config, publicUrl, callers, clock } = deps
  const hosts: HostAccess = hostAccess({
    publicUrl,
    audience: publicUrl,
    keysOf: deps.keysOf,
    clock,
    skewSeconds: config.trust.clockSkewSeconds,
    proofMaxAgeSeconds: config.trust.proofMaxAgeSeconds,
    onRefused: (refusal) =>
      auditRefusal(store, clock, service, 'unknown', 'host.authenticate', refusal),
  })
  return { callers, hosts }
}

function tlsOf({ server }: Static<typeof AuthorityConfig>): TlsFiles | undefined {
  if (server.tlsCertificateFile === undefined || server.tlsKeyFile === undefined) return undefined
  using key = readSecretFile(server.tlsKeyFile)
  const keyPem = key.use((octets) => Buffer.from(octets).toString('utf8'))
  return { certPem: readText(server.tlsCertificateFile), keyPem }
}
