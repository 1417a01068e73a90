import type { Static } from 'typebox'
import type { Clock } from '../core/clock.js'
import { randomOctets } from '../core/random.js'
import { createEventLogWorkers } from '../eventlog/index.js'
import type { App, OperatorAccess } from '../http/index.js'
import { auditLog, loadOrCreateServiceKey, type RootKey, type Store } from '../store/index.js'
import {
  exportSigningKey,
  generateSigningKey,
  importSigningKey,
  type PublishedJwks,
  publicJwks,
  type SigningKey,
  signAttestationResult,
} from '../tokens/index.js'
import type { HashName } from '../tpm/index.js'
import { storedAnchors } from './adapters/anchors.js'
import { AUDIT_CHAIN, attestationStore } from './adapters/store.js'
import type { AttestationSection } from './config.js'
import { createAdministration } from './domain/administration.js'
import { testPolicyDraft } from './domain/policy-test.js'
import type { EventLogReader } from './ports.js'
import { addHostRoutes } from './routes/host-routes.js'
import { addOperatorRoutes } from './routes/operator-routes.js'

export { AttestationSection } from './config.js'

const SERVICE = 'attestation'
const NONCE_KEY_OCTETS = 32

/** The attestation service, ready to have its routes added to an app. */
export interface Attestation extends AsyncDisposable {
  /** Public keys of its tokens. */
  readonly jwks: PublishedJwks
  addRoutes(app: App, doors: { readonly operators: OperatorAccess }): void
}

/**
 * Opens the service: its signing key and the key of its nonces, made on a first start and kept sealed.
 *
 * @param deps.issuer identifier of the service: issuer of tokens, verifier in quotes
 * @param deps.audiences relying parties that tokens are for
 * @param deps.rootKey unsealed; stays the caller's to dispose of
 */
export async function openAttestation(deps: {
  readonly store: Store
  readonly rootKey: RootKey
  readonly config: Static<typeof AttestationSection>
  readonly issuer: string
  readonly audiences: readonly string[]
  readonly build: string
  readonly clock: Clock
}): Promise<Attestation> {
  const { config, clock } = deps
  const nonceKey = await loadOrCreateServiceKey(
    deps.store,
    deps.rootKey,
    SERVICE,
    'nonce',
    async () => randomOctets(NONCE_KEY_OCTETS),
  )
  const signingKey = await openSigningKey(deps.store, deps.rootKey)
  const workers = createEventLogWorkers({
    size: config.eventLogWorkers,
    budgetMs: config.eventLogBudgetMs,
  })
  const store = attestationStore(deps.store, deps.issuer)
  const jwks = publicJwks([signingKey])
  const eventLogs: EventLogReader = {
    verify: (log, bank, values) => workers.verify(log, bank as HashName, values),
    compare: (reference, found, bank) => workers.compare(reference, found, bank as HashName),
  }
  return {
    jwks,
    addRoutes(app, { operators }) {
      addHostRoutes(app, {
        enrolment: { store, rules: config, parseAnchors: storedAnchors },
        attestation: {
          store,
          keys: { nonceKey, sign: (claims) => signAttestationResult(claims, signingKey) },
          eventLogs,
          issuer: deps.issuer,
          audiences: deps.audiences,
          nonceTtlSeconds: config.nonceTtlSeconds,
          verdictsPerHost: config.verdictsPerHost,
          bundlesPerHost: config.bundlesPerHost,
          build: deps.build,
        },
        jwks,
        clock,
      })
      addOperatorRoutes(app, {
        administration: createAdministration({ store, mode: config.mode }),
        testPolicyDraft: (cluster, nowMs) => testPolicyDraft({ store, eventLogs }, cluster, nowMs),
        audit: auditLog(deps.store, AUDIT_CHAIN),
        operators,
        clock,
      })
    },
    async [Symbol.asyncDispose]() {
      nonceKey.dispose()
      await workers[Symbol.asyncDispose]()
    },
  }
}

async function openSigningKey(store: Store, rootKey: RootKey): Promise<SigningKey> {
  const pkcs8 = await loadOrCreateServiceKey(store, rootKey, SERVICE, 'signing', async () =>
    exportSigningKey(await generateSigningKey()),
  )
  try {
    return await pkcs8.use(importSigningKey)
  } finally {
    pkcs8.dispose()
  }
}
