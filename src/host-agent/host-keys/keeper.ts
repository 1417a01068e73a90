import { setTimeout as delay } from 'node:timers/promises'
import { Value } from 'typebox/value'
import type { DefaultInForce } from '../../api/default-provider.js'
import type { HostKeysNotRestored } from '../../api/host-agent.js'
import {
  type HostKeyProvider,
  type HostKeyReport,
  type HostKeysAnswer,
  HostKeysContent,
  MAX_DELIVERED_KEYS,
  syncHostKeys,
} from '../../api/host-keys.js'
import type { Assurance } from '../../api/key-provider.js'
import { fromBase64url, parseUtf8 } from '../../core/bytes.js'
import { isPlatformError, messageOf } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import { Secret } from '../../core/secret.js'
import type { Tpm } from '../../tpm/index.js'
import type { Session } from '../adapters/attester.js'
import type { Authority } from '../adapters/authority.js'
import { openAnswer } from '../adapters/open-answer.js'
import { retryDelayMs } from '../domain/schedule.js'
import type { KeptKeys } from './kept-keys.js'
import { Keyring } from './keyring.js'

/** How long a call may wait for news. */
const WAIT_SECONDS = 20
/** The longest pause is that after five failures: half a minute. */
const COUNTED_FAILURES = 5

/** Keeps the keyring of this host as the control plane wants it. */
export interface KeyKeeper extends AsyncDisposable {
  readonly keyring: Keyring
  /** Before the host is attested: takes up keys that are kept on the disk. Never throws. */
  restore(): Promise<void>
  /** The host is attested: asks at once, and from then on whenever there is something new. */
  start(): void
  /** The host is not trusted any longer: erases every key, and asks for nothing until it is. */
  forget(): void
  /** Resolves once the control plane was asked since `start`, with whatever outcome. */
  ready(): Promise<void>
  /** Asks again now; resolves when that is done, with whatever outcome. */
  askAgain(): Promise<void>
  /** Why a key is not here, as the control plane said. */
  reasonOf(providerId: string, version: number): HostKeysAnswer['missing'][number] | undefined
  /** The provider where a request names none, as the control plane said last. */
  readonly defaultProvider: DefaultInForce | undefined
  /** Whether the control plane said that nothing is to be encrypted here. */
  readonly isEncryptionOff: boolean
  /** Why keys on the disk could not be taken up; nothing once this host has what it is to hold. */
  readonly notRestored: HostKeysNotRestored | undefined
  /** What went wrong last; nothing where the last call succeeded. */
  readonly lastError: string | undefined
}

/** One run of the loop, from `start` to `forget`. */
interface Run {
  readonly ended: AbortController
  /** Ends the call or the pause that is under way, and has the next one follow at once. */
  turn: AbortController
  isReady: boolean
  readonly done: Promise<void>
}

/**
 * Asks the control plane what this host is to hold, opens what it sends, and says what came and what was erased.
 *
 * A call is open nearly always: the control plane answers it when there is news, so that a new key, a rotation or a
 * deletion arrives at once. What could not be had is asked for again, with growing pauses.
 */
export function createKeyKeeper(deps: {
  readonly authority: Authority
  readonly tpm: () => Promise<Tpm>
  readonly kept: KeptKeys
  readonly random: () => number
  readonly logger: Logger
  /** Keys came that were not here before. */
  readonly onReceived: () => void
  /** Keys of these providers are not here that were, or are to be. */
  readonly onMissing: (providers: readonly string[]) => void
  /** The control plane does not take this host for trusted: an attestation finds out. */
  readonly onDoubt: () => void
}): KeyKeeper {
  const { authority, kept, logger } = deps
  const keyring = new Keyring()
  const waiters = new Set<() => void>()
  let missing: HostKeysAnswer['missing'] = []
  let defaultProvider: DefaultInForce | undefined
  let isEncryptionOff = false
  let failed: HostKeyReport['failed'] = []
  let revision = 0
  let lastError: string | undefined
  let notRestored: HostKeysNotRestored | undefined
  let run: Run | undefined
  let closed = false

  /** One call. False where something is left to be asked for again. */
  const ask = async (current: Run, waitSeconds: number): Promise<boolean> => {
    const session = await authority.session()
    // Nothing is said to be erased before it is on the disk, too
    kept.flush()
    const body: HostKeyReport = { revision, waitSeconds, holds: keyring.holds(), failed }
    const signal = AbortSignal.any([current.ended.signal, current.turn.signal])
    const answer = await authority.call(syncHostKeys, { body }, signal)
    if (current.ended.signal.aborted) return true
    const before = keyring.providers
    const erased = keyring.keepOnly(answer.providers)
    if (erased > 0) logger.info({ event: 'host-keys.erased', keys: erased }, 'keys were erased')
    kept.keepOnly(answer.providers)
    const lost = namesOfLost(before, answer, missing)
    ;({ missing, revision, defaultProvider } = answer)
    isEncryptionOff = answer.encryptionOff === true
    failed = []
    for (const assurance of ['session', 'tpm'] as const) {
      await take(current, answer.sealed[assurance], assurance, session)
    }
    if (current.ended.signal.aborted) return true
    if (session.bindingKey) kept.save(keyring, session.bindingKey.storage)
    if (lost.length > 0) deps.onMissing(lost)
    const isWhole = missing.length === 0 && failed.length === 0
    if (isWhole) notRestored = undefined
    return isWhole
  }

  const take = async (
    current: Run,
    sealed: string,
    assurance: Assurance,
    session: Session,
  ): Promise<void> => {
    if (sealed === '') return
    let plaintext: Uint8Array
    try {
      plaintext = await openAnswer(sealed, session, assurance, deps.tpm)
    } catch (error) {
      if (!isPlatformError(error)) throw error
      logger.warn({ event: 'host-keys.not-opened', err: error }, 'keys could not be opened')
      lastError = messageOf(error)
      failed = [...failed, ...lacking(assurance, error.code)].slice(0, MAX_DELIVERED_KEYS)
      return
    }
    try {
      if (current.ended.signal.aborted) return
      const { keys } = Value.Parse(HostKeysContent, JSON.parse(parseUtf8(plaintext)))
      for (const { provider, version, key } of keys) {
        if (keyring.add(provider, version, new Secret(fromBase64url(key)))) continue
        const fields = { event: 'host-keys.differed', providerId: provider, version }
        logger.error(fields, 'the key on the disk was not the one of the control plane')
      }
      // What was not asked for is not kept
      keyring.keepOnly(keyring.providers)
      logger.info({ event: 'host-keys.received', keys: keys.length }, 'keys were received')
      if (keys.length > 0) deps.onReceived()
    } finally {
      plaintext.fill(0)
    }
  }

  /** What an answer that did not open was to bring. */
  const lacking = (assurance: Assurance, code: string): HostKeyReport['failed'] =>
    keyring.providers
      .filter(({ tpmRequired }) => tpmRequired === (assurance === 'tpm'))
      .flatMap(({ providerId, versions }) => {
        const held = new Set(keyring.holds().find((one) => one.providerId === providerId)?.versions)
        return versions
          .filter((version) => !held.has(version))
          .map((version) => ({ providerId, version, code }))
      })

  const loop = async (current: Run): Promise<void> => {
    let failures = 0
    while (!current.ended.signal.aborted) {
      try {
        const isWhole = await ask(current, current.isReady && failures === 0 ? WAIT_SECONDS : 0)
        failures = isWhole ? 0 : failures + 1
        if (isWhole) lastError = undefined
        answered(current)
      } catch (error) {
        if (current.ended.signal.aborted) return
        if (!current.turn.signal.aborted) {
          failures += 1
          lastError = messageOf(error)
          logger.warn({ event: 'host-keys.failed', failures, err: error }, 'no keys were got')
          if (isPlatformError(error, 'HOST_STATUS')) deps.onDoubt()
          answered(current)
        }
      }
      if (failures > 0) {
        const pauseMs = retryDelayMs(Math.min(failures, COUNTED_FAILURES), deps.random())
        await pause(pauseMs, AbortSignal.any([current.ended.signal, current.turn.signal]))
      }
      if (current.turn.signal.aborted) {
        current.turn = new AbortController()
        failures = 0
        revision = 0
      }
    }
  }

  const answered = (current: Run): void => {
    current.isReady = true
    // Who asked meanwhile wants to know of what the next call brings
    if (current.turn.signal.aborted) return
    for (const wake of waiters) wake()
    waiters.clear()
  }

  const end = async (): Promise<void> => {
    const before = run
    run = undefined
    before?.ended.abort()
    for (const wake of waiters) wake()
    waiters.clear()
    await before?.done
  }

  const nextAnswer = (): Promise<void> => new Promise((resolve) => waiters.add(resolve))

  return {
    keyring,
    async restore() {
      try {
        const keys = await kept.restore(keyring, deps.tpm)
        if (keys > 0) logger.info({ event: 'host-keys.restored', keys }, 'kept keys were opened')
      } catch (error) {
        const code = isPlatformError(error) ? error.code : 'INTERNAL'
        notRestored = { code, message: messageOf(error) }
        logger.warn({ event: 'host-keys.not-restored', code, err: error }, 'kept keys not opened')
      }
    },
    start() {
      if (run || closed) return
      revision = 0
      const started: Run = {
        ended: new AbortController(),
        turn: new AbortController(),
        isReady: false,
        done: Promise.resolve().then(() => loop(started)),
      }
      run = started
    },
    forget() {
      void end()
      missing = []
      defaultProvider = undefined
      const erased = keyring.keepOnly([])
      if (erased > 0) logger.warn({ event: 'host-keys.forgotten', keys: erased }, 'keys erased')
      notRestored = undefined
      try {
        kept.keepOnly([])
      } catch (error) {
        logger.error({ event: 'host-keys.not-erased', err: error }, 'kept keys were not erased')
      }
    },
    async ready() {
      if (run && !run.isReady) await nextAnswer()
    },
    async askAgain() {
      if (!run) return
      run.turn.abort()
      await nextAnswer()
    },
    reasonOf: (providerId, version) =>
      missing.find((one) => one.providerId === providerId && one.version === version),
    get defaultProvider() {
      return defaultProvider
    },
    get isEncryptionOff() {
      return isEncryptionOff
    },
    get notRestored() {
      return notRestored
    },
    get lastError() {
      return lastError
    },
    async [Symbol.asyncDispose]() {
      closed = true
      await end()
      keyring[Symbol.dispose]()
    },
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, { signal })
  } catch (error) {
    if (!signal.aborted) throw error
  }
}

/** Providers with a version that this host is no longer to hold, or that the control plane does not have any more. */
function namesOfLost(
  before: readonly HostKeyProvider[],
  { providers, missing }: HostKeysAnswer,
  knownMissing: HostKeysAnswer['missing'],
): readonly string[] {
  const gone = before.filter(({ providerId, versions }) => {
    const now = providers.find((one) => one.providerId === providerId)
    return versions.some((version) => !now?.versions.includes(version))
  })
  const isKnown = (one: HostKeysAnswer['missing'][number]) =>
    knownMissing.some(
      ({ providerId, version, code }) =>
        providerId === one.providerId && version === one.version && code === one.code,
    )
  const news = missing.filter((one) => !isKnown(one))
  const lacking = providers.filter(({ providerId }) =>
    news.some((one) => one.providerId === providerId),
  )
  return [...new Set([...gone, ...lacking].map(({ name }) => name))]
}
