import type { Static } from 'typebox'
import { Agent } from 'undici'
import type { Clock } from '../core/clock.js'
import type { Logger } from '../core/logger.js'
import { randomOctets } from '../core/random.js'
import { createEventLogWorkers } from '../eventlog/index.js'
import type { App, CallerAccess } from '../http/index.js'
import { auditLog, loadOrCreateServiceKey, type RootKey, type Store } from '../store/index.js'
import { signAttestationResult, signGuestResult, type VerificationKeys } from '../tokens/index.js'
import type { HashName } from '../tpm/index.js'
import { deliverWebhooks } from './adapters/deliver-webhooks.js'
import { openSigningKeys } from './adapters/signing-keys.js'
import { AUDIT_CHAIN, attestationStore } from './adapters/store.js'
import { WEBHOOK_PURPOSE, webhookContext } from './adapters/webhook-seal.js'
import type { AttestationSection } from './config.js'
import { createAdministration } from './domain/administration.js'
import { createEndorsers } from './domain/endorsers.js'
import { createGuestAdministration } from './domain/guest-administration.js'
import { createGuestPolicies } from './domain/guest-policies.js'
import { createPolicies } from './domain/policies.js'
import { testPolicyDraft } from './domain/policy-test.js'
import { createReferenceValues } from './domain/reference-values.js'
import { createResults } from './domain/results.js'
import { createRevokedKeys } from './domain/revoked-keys.js'
import { markLateHosts } from './domain/watch.js'
import type { AttestationStore, EventLogReader } from './ports.js'
import { addEndorsementRoutes } from './routes/endorsement-routes.js'
import { addGuestRoutes } from './routes/guest-routes.js'
import { addHostRoutes } from './routes/host-routes.js'
import { addOperatorRoutes } from './routes/operator-routes.js'
import { addPolicyRoutes } from './routes/policy-routes.js'
import { addReferenceValueRoutes } from './routes/reference-value-routes.js'
import { addResultRoutes } from './routes/result-routes.js'

export { ATTESTATION_SEALED } from './adapters/sealed-columns.js'
export { AttestationSection } from './config.js'

const SERVICE = 'attestation'
const NONCE_KEY_OCTETS = 32
/** Events that are kept: those before them are forgotten. */
const EVENTS_KEPT = 10_000

/** The attestation service, ready to have its routes added to an app. */
export interface Attestation extends AsyncDisposable {
  /** Public keys of its tokens, as they are now. */
  verificationKeys(): VerificationKeys
  addRoutes(app: App, doors: { readonly callers: CallerAccess }): void
  /** Whether authorities that are for tests only are accepted, as of the last tick. */
  hasTestAnchors(): boolean
  /**
   * Does what is due: finds late hosts, delivers events, takes over rotated keys, forgets old events. Called every few
   * seconds; one call at a time.
   */
  tick(nowMs: number): Promise<void>
}

/**
 * Opens the service: its signing keys and the key of its nonces, made on a first start and kept sealed.
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
  readonly logger: Logger
}): Promise<Attestation> {
  const { config, clock, issuer, audiences, rootKey, logger } = deps
  const nonceKey = await loadOrCreateServiceKey(deps.store, rootKey, SERVICE, 'nonce', async () =>
    randomOctets(NONCE_KEY_OCTETS),
  )
  const signingKeys = await openSigningKeys(deps.store, rootKey, issuer, clock.nowMs())
  const workers = createEventLogWorkers({
    size: config.eventLogWorkers,
    budgetMs: config.eventLogBudgetMs,
  })
  const store = attestationStore(deps.store, issuer)
  const dispatcher = new Agent({ connect: { timeout: 5_000 } })
  const eventLogs: EventLogReader = {
    verify: (log, bank, values, questions) =>
      workers.verify(log, bank as HashName, values, questions),
    compare: (reference, found, bank) => workers.compare(reference, found, bank as HashName),
  }
  let testAnchors = await readTestAnchors(store)
  return {
    verificationKeys: () => signingKeys.verificationKeys(),
    addRoutes(app, { callers }) {
      addHostRoutes(app, {
        enrolment: { store, rules: config },
        attestation: {
          store,
          mode: config.mode,
          keys: {
            nonceKey,
            sign: (claims) => signAttestationResult(claims, signingKeys.active()),
          },
          eventLogs,
          issuer,
          audiences,
          nonceTtlSeconds: config.nonceTtlSeconds,
          verdictsPerHost: config.verdictsPerHost,
          bundlesPerHost: config.bundlesPerHost,
          build: deps.build,
        },
        jwks: () => signingKeys.jwks(),
        clock,
      })
      addGuestRoutes(app, {
        attestation: {
          ...{ store, rules: config, nonceKey, eventLogs, issuer, audiences },
          sign: (claims) => signGuestResult(claims, signingKeys.active()),
          verificationKeys: () => signingKeys.verificationKeys(),
          nonceTtlSeconds: config.nonceTtlSeconds,
          build: deps.build,
        },
        administration: createGuestAdministration({ store }),
        policies: createGuestPolicies({ store }),
        ...{ callers, clock },
      })
      addOperatorRoutes(app, {
        administration: createAdministration({ store }),
        audit: auditLog(deps.store, AUDIT_CHAIN),
        callers,
        clock,
      })
      addPolicyRoutes(app, {
        policies: createPolicies({ store }),
        testPolicyDraft: (cluster, page, nowMs) =>
          testPolicyDraft({ store, eventLogs }, cluster, page, nowMs),
        callers,
        clock,
      })
      addEndorsementRoutes(app, {
        endorsers: createEndorsers({ store, rules: config }),
        revokedKeys: createRevokedKeys({ store }),
        callers,
        clock,
      })
      addReferenceValueRoutes(app, {
        referenceValues: createReferenceValues({ store }),
        callers,
        clock,
      })
      addResultRoutes(app, {
        store,
        results: createResults({
          store,
          mode: config.mode,
          random: randomOctets,
          sealSecret: (webhookId, secret) =>
            rootKey.seal(WEBHOOK_PURPOSE, webhookContext(webhookId), secret),
          rotate: signingKeys.rotate,
        }),
        signingKeys,
        issuer,
        audiences,
        callers,
        clock,
      })
    },
    hasTestAnchors: () => testAnchors,
    async tick(nowMs) {
      testAnchors = await readTestAnchors(store)
      await signingKeys.refresh(nowMs)
      await markLateHosts(store, nowMs)
      await store.transaction((tx) => tx.purgeEvents(EVENTS_KEPT))
      await deliverWebhooks({ store, rootKey, issuer, dispatcher, logger }, nowMs)
    },
    async [Symbol.asyncDispose]() {
      nonceKey.dispose()
      await dispatcher.destroy()
      await workers[Symbol.asyncDispose]()
    },
  }
}

function readTestAnchors(store: AttestationStore): Promise<boolean> {
  return store.transaction(async (tx) =>
    (await tx.listAuthorities()).some(({ insecureTest }) => insecureTest),
  )
}
