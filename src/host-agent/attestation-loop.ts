import type { Client } from '../api/client.js'
import type { AgentState, AgentStatus } from '../api/host-agent.js'
import { type Clock, isoTime } from '../core/clock.js'
import type { ErrorCode } from '../core/error-codes.js'
import { isPlatformError, messageOf, PlatformError } from '../core/errors.js'
import type { Logger } from '../core/logger.js'
import { attest, type DeviceKey, enrol, type Session } from './adapters/attester.js'
import type { TpmIdentity } from './adapters/tpm-identity.js'
import { renewalDelayMs, retryDelayMs } from './domain/schedule.js'

/** A token is not used for a new call when it has less left than this. */
const SHORTEST_REST_MS = 10_000

export interface AttestationLoop extends AsyncDisposable {
  /** Attests now, whatever the schedule says; returns when that is done, one way or the other. */
  attestNow(): Promise<void>
  /** The current session; attests first where there is none. @throws PlatformError where that fails */
  session(): Promise<Session>
  status(): Pick<
    AgentStatus,
    | 'state'
    | 'cluster'
    | 'tokenExpiresAt'
    | 'nextAttestationAt'
    | 'lastError'
    | 'lastAttestationMs'
    | 'bindingKey'
  >
}

export interface AttestationLoopDeps {
  readonly client: Client
  /** Opens the TPM on first use and again after it was lost. */
  readonly identity: () => Promise<TpmIdentity>
  /** Gives up the TPM, so that `identity` opens it anew. */
  readonly loseTpm: () => Promise<void>
  readonly hostId: string
  readonly authorityUrl: string
  /** The enrolment ticket, read when it is needed. */
  readonly ticket: () => string | undefined
  /** Read when the host enrols; absent where the machine has none. */
  readonly deviceKey: () => DeviceKey | undefined
  readonly eventLogFile: string
  readonly imaListFile: string
  readonly bindingKey: boolean
  readonly clock: Clock
  readonly random: () => number
  readonly logger: Logger
  /** After each attestation that was accepted. */
  readonly onAttested: () => void
  /** After one that was refused: the host is not trusted as it is. */
  readonly onRefused: (error: unknown) => void
}

/**
 * Keeps this host attested: at start, before each token ends, after each failure with growing pauses.
 *
 * One attestation runs at a time; callers who need a session wait for the one under way.
 */
export function startAttestationLoop(deps: AttestationLoopDeps): AttestationLoop {
  const { clock, logger } = deps
  let state: AgentState = 'starting'
  let cluster: string | undefined
  let session: Session | undefined
  let lastError: AgentStatus['lastError']
  const imaCursor = { entries: 0 }
  let awaitsApproval = false
  let failures = 0
  let underWay: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined
  let nextAtMs: number | undefined
  let closed = false

  const runOnce = async (): Promise<void> => {
    try {
      const identity = await deps.identity()
      cluster = await enrolled(identity)
      session = await attest(deps.client, identity, {
        hostId: deps.hostId,
        eventLogFile: deps.eventLogFile,
        bindingKey: deps.bindingKey,
        imaListFile: deps.imaListFile,
        imaCursor,
        nowMs: () => clock.nowMs(),
      })
      state = 'attested'
      awaitsApproval = false
      lastError = undefined
      failures = 0
      const { tookMs } = session
      logger.info({ event: 'attested', tookMs }, 'attested')
      deps.onAttested()
      schedule(renewalDelayMs({ lifeMs: session.expiresAtMs - session.issuedAtMs }, deps.random()))
    } catch (error) {
      await failed(error)
    }
  }

  const enrolled = async (identity: TpmIdentity): Promise<string> => {
    const { enrolled: before } = identity
    if (before?.hostId === deps.hostId && before.authorityUrl === deps.authorityUrl) {
      return before.cluster
    }
    const ticket = deps.ticket()
    if (ticket === undefined) {
      throw new PlatformError('AGENT_NOT_ENROLLED', 'expected an enrolment ticket, found none')
    }
    const host = await enrol(deps.client, identity, {
      hostId: deps.hostId,
      ticket,
      device: deps.deviceKey(),
    })
    identity.saveEnrolment({
      hostId: deps.hostId,
      cluster: host.cluster,
      authorityUrl: deps.authorityUrl,
    })
    awaitsApproval = host.state === 'awaiting-approval'
    logger.info({ event: 'enrolled', cluster: host.cluster, state: host.state }, 'enrolled')
    return host.cluster
  }

  const failed = async (error: unknown): Promise<void> => {
    failures += 1
    const code: ErrorCode = isPlatformError(error) ? error.code : 'INTERNAL'
    state = stateAfter(code, { enrolled: cluster !== undefined, awaitsApproval })
    lastError = { code, message: messageOf(error), at: isoTime(clock.nowMs()) }
    if (code === 'ATTESTATION_REFUSED') {
      session = undefined
      deps.onRefused(error)
    }
    if (code === 'TPM_UNREACHABLE') await deps.loseTpm()
    const delayMs = retryDelayMs(failures, deps.random())
    logger.warn(
      { event: 'attestation.failed', code, failures, delayMs, err: error },
      'not attested',
    )
    schedule(delayMs)
  }

  const schedule = (delayMs: number): void => {
    clearTimeout(timer)
    if (closed) return
    nextAtMs = clock.nowMs() + delayMs
    timer = setTimeout(() => void attestNow(), delayMs)
  }

  const attestNow = async (): Promise<void> => {
    underWay ??= runOnce().finally(() => {
      underWay = undefined
    })
    await underWay
  }

  const usable = (): Session | undefined =>
    session && session.expiresAtMs - clock.nowMs() > SHORTEST_REST_MS ? session : undefined

  return {
    attestNow,
    async session() {
      const current = usable()
      if (current) return current
      await attestNow()
      const fresh = usable()
      if (fresh) return fresh
      const { code, message } = lastError ?? { code: 'INTERNAL', message: 'no session' }
      throw new PlatformError(code as ErrorCode, message)
    },
    status() {
      return {
        state,
        ...(cluster === undefined ? {} : { cluster }),
        ...(session ? { tokenExpiresAt: isoTime(session.expiresAtMs) } : {}),
        ...(nextAtMs === undefined ? {} : { nextAttestationAt: isoTime(nextAtMs) }),
        ...(lastError ? { lastError } : {}),
        ...(session ? { lastAttestationMs: session.tookMs } : {}),
        bindingKey: session?.bindingKey !== undefined,
      }
    },
    async [Symbol.asyncDispose]() {
      closed = true
      clearTimeout(timer)
      await underWay
    },
  }
}

function stateAfter(
  code: ErrorCode,
  host: { readonly enrolled: boolean; readonly awaitsApproval: boolean },
): AgentState {
  switch (code) {
    case 'AUTHORITY_UNREACHABLE':
      return 'authority-unreachable'
    case 'TPM_UNREACHABLE':
      return 'tpm-unreachable'
    case 'ATTESTATION_REFUSED':
      return host.awaitsApproval ? 'awaiting-approval' : 'refused'
    default:
      return host.enrolled ? 'not-attested' : 'not-enrolled'
  }
}
