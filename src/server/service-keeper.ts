import type { SealedService, SealStatus } from '../api/seal.js'
import { type Clock, isoTime } from '../core/clock.js'
import { isPlatformError, messageOf, PlatformError } from '../core/errors.js'
import type { Logger } from '../core/logger.js'
import { selfTest } from '../envelope/index.js'
import type { App } from '../http/index.js'
import { selfTestSeals } from '../seals/index.js'
import {
  type AuditOutcome,
  appendAudit,
  createRootKey,
  type FoundationTables,
  type RootKey,
  readRootKey,
  type Sealer,
  type Store,
  unsealRootKey,
} from '../store/index.js'
import { describeSeal } from './seal-detail.js'

/** A service whose keys are in memory. */
export interface OpenService extends AsyncDisposable {
  readonly app: App
}

export interface KeeperDeps {
  readonly service: SealedService
  readonly store: Store
  /** Seals that open without anybody, in the order in which they are tried. */
  readonly automatic: readonly Sealer[]
  /** Opens the service: its keys, routes, rounds. The root key stays the keeper's. */
  readonly open: (rootKey: RootKey) => Promise<OpenService>
  /** Sends requests to the service, or with nothing to those who say that it is sealed. */
  readonly mount: (app: App | undefined) => void
  readonly clock: Clock
  readonly logger: Logger
}

interface Active {
  readonly rootKey: RootKey
  readonly opened: OpenService
}

/** Who asked: `operator:<name>`, or `service` where it is the service itself. */
export type Actor = string

const SELF: Actor = 'service'
const FIRST_RETRY_MS = 1_000
const LONGEST_RETRY_MS = 60_000
/** What may be otherwise in a moment: a file, a TPM, a key server that is not there yet. */
const PASSING = /^(KMS_|TPM_UNREACHABLE$|STORE_IO$|CONFIG_UNREADABLE$|FILE_MODE$)/
/** Refusals that leave the service sealed; every other error while it opens is one of the configuration or our own. */
const SEALING =
  /^(SEALED$|ROOT_KEY_|SEAL_|SHARE_|KEY_SELF_TEST$|NOT_FOUND$|TPM_|KMS_|KMIP_|STORE_IO$|CONFIG_UNREADABLE$|FILE_MODE$)/

/**
 * Keeps one service open or sealed.
 *
 * Sealed: no key of it is in memory, and its routes answer `SEALED`. What changes that goes one after the other, so that
 * guesses do not run beside one another and a root key is not replaced while it is being dropped.
 */
export class ServiceKeeper implements AsyncDisposable {
  readonly service: SealedService
  readonly #deps: KeeperDeps
  #active: Active | undefined
  #opening = false
  #reason: { readonly code: string; readonly message: string } | undefined
  #turn: Promise<unknown> = Promise.resolve()
  #retry: { readonly timer: NodeJS.Timeout; readonly atMs: number } | undefined
  #retryMs = FIRST_RETRY_MS
  #closed = false

  constructor(deps: KeeperDeps) {
    this.service = deps.service
    this.#deps = deps
  }

  get isOpen(): boolean {
    return this.#active !== undefined
  }

  /**
   * First start: unseals by the seals that need nobody, or makes the root key of a new service under them.
   *
   * What cannot be unsealed stays sealed, and is tried again where that may help. Throws errors that have nothing to do
   * with seals.
   */
  start(): Promise<void> {
    return this.exclusively(() => this.#automatically(true))
  }

  /** Tries the seals that need nobody now, for an operator; throws what the last of them was refused with. */
  unsealAutomatically(actor: Actor): Promise<void> {
    return this.exclusively(async () => {
      if (this.#active) return
      this.#stopRetrying()
      const refusal = await this.#tryAutomatic(actor)
      if (!refusal) return
      if (!isPlatformError(refusal)) throw refusal
      await this.audit(actor, 'root-key.unseal', 'refused', { code: refusal.code })
      throw refusal
    })
  }

  /**
   * Unseals with what an operator gave.
   *
   * @throws PlatformError the refusal, after it was recorded
   */
  async unsealWith(sealer: Sealer, actor: Actor): Promise<void> {
    try {
      this.#selfTest()
      const rootKey = await unsealRootKey(this.#deps.store, this.service, sealer)
      await this.#activate(rootKey, actor, sealer.kind)
    } catch (error) {
      if (isPlatformError(error)) {
        const detail = { kind: sealer.kind, code: error.code }
        await this.audit(actor, 'root-key.unseal', 'refused', detail)
      }
      throw error
    }
  }

  /** Drops every key from memory. Later requests are refused from this call on, those under way lose the root key. */
  seal(actor: Actor, code = 'SEALED', message = `sealed by ${actor}`): Promise<void> {
    this.#deps.mount(undefined)
    return this.exclusively(async () => {
      this.#stopRetrying()
      this.#reason = { code, message }
      const active = this.#active
      this.#active = undefined
      this.#deps.mount(undefined)
      active?.rootKey[Symbol.dispose]()
      await active?.opened[Symbol.asyncDispose]()
      this.#deps.logger.warn({ event: 'service.sealed', service: this.service, actor }, 'sealed')
      await this.audit(actor, 'root-key.seal', 'done', { code })
    })
  }

  /**
   * Lets `work` replace the root key while the service stands still, and opens the service under the key that it
   * returns, or where it throws under the old one.
   */
  replaceRootKey(work: (old: RootKey) => Promise<RootKey>): Promise<void> {
    return this.exclusively(async () => {
      const { rootKey: old, opened } = this.requireOpen()
      this.#deps.mount(undefined)
      this.#active = undefined
      this.#opening = true
      try {
        await opened[Symbol.asyncDispose]()
        let next: RootKey
        try {
          next = await work(old)
        } catch (error) {
          await this.#open(old)
          throw error
        }
        old[Symbol.dispose]()
        await this.#open(next)
      } finally {
        this.#opening = false
      }
    })
  }

  /** @throws PlatformError `SEALED` */
  requireOpen(): Active {
    if (this.#active) return this.#active
    throw new PlatformError('SEALED', `${this.service} is sealed`)
  }

  /** Seals the service, and tries to unseal it anew, where another process has changed its root key. */
  async noticeChanges(): Promise<void> {
    const active = this.#active
    if (!active) return
    const stored = await readRootKey(this.#deps.store, this.service)
    if (this.#active !== active || stored?.generation === active.rootKey.generation) return
    await this.seal(SELF, 'SEALED', 'the root key was changed by another process')
    await this.start()
  }

  async status(): Promise<Omit<SealStatus, 'shares'>> {
    const stored = await readRootKey(this.#deps.store, this.service)
    const state = this.#active ? 'ok' : this.#opening ? 'unsealing' : 'sealed'
    return {
      service: this.service,
      state,
      ...(stored ? { generation: stored.generation } : {}),
      seals: (stored?.seals ?? []).map((seal) => ({
        sealId: seal.sealId,
        kind: seal.kind,
        createdAt: isoTime(seal.createdAtMs),
        detail: describeSeal(seal),
      })),
      ...(state !== 'ok' && this.#reason ? { reason: this.#reason } : {}),
      ...(this.#retry ? { nextTryAt: isoTime(this.#retry.atMs) } : {}),
    }
  }

  async audit(
    actor: Actor,
    action: string,
    outcome: AuditOutcome,
    detail: Readonly<Record<string, string | number>>,
  ): Promise<void> {
    await this.#deps.store.transaction<FoundationTables, unknown>((tx) =>
      appendAudit(tx, this.auditEntry(actor, action, outcome, detail)),
    )
  }

  auditEntry(
    actor: Actor,
    action: string,
    outcome: AuditOutcome,
    detail: Readonly<Record<string, string | number>>,
  ) {
    const { service } = this
    const subject = `root-key:${service}`
    const atMs = this.#deps.clock.nowMs()
    return { chain: service, atMs, actor, action, subject, outcome, detail }
  }

  /** Runs work that changes the state, after all that was asked for before. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#turn.then(work)
    this.#turn = run.catch(() => undefined)
    return run
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    this.#stopRetrying()
    await this.#turn
    const active = this.#active
    this.#active = undefined
    await active?.opened[Symbol.asyncDispose]()
    active?.rootKey[Symbol.dispose]()
  }

  async #automatically(first: boolean): Promise<void> {
    if (this.#active || this.#closed) return
    const before = this.#reason?.code
    const refusal = await this.#tryAutomatic(SELF)
    if (!refusal) return
    const { logger } = this.#deps
    if (!isPlatformError(refusal) || !SEALING.test(refusal.code)) {
      if (first) throw refusal
      logger.error({ event: 'unseal.failed', service: this.service, err: refusal }, 'not unsealed')
      return
    }
    const { code } = refusal
    logger.warn(
      { event: 'service.stays-sealed', service: this.service, code, reason: refusal.message },
      'stays sealed',
    )
    // one record for a reason, not one for each attempt
    if (code !== before) await this.audit(SELF, 'root-key.unseal', 'refused', { code })
    if (PASSING.test(code)) this.#retryLater()
  }

  /** @returns why it is still sealed, or nothing */
  async #tryAutomatic(actor: Actor): Promise<unknown> {
    const { store, automatic, clock } = this.#deps
    let refusal: unknown = new PlatformError('SEALED', 'no seal opens without an operator')
    try {
      this.#selfTest()
      const stored = await readRootKey(store, this.service)
      if (!stored) {
        const created = await createRootKey(store, this.service, automatic, clock.nowMs()).catch(
          (error: unknown) => {
            // another process of the site was first: its key is the one to open
            if (!isPlatformError(error, 'CONFLICT')) throw error
          },
        )
        if (created) {
          await this.#activate(created, actor, 'new')
          return undefined
        }
      }
      const kinds = (await readRootKey(store, this.service))?.seals.map(({ kind }) => kind) ?? []
      for (const sealer of automatic.filter(({ kind }) => kinds.includes(kind))) {
        try {
          const rootKey = await unsealRootKey(store, this.service, sealer)
          await this.#activate(rootKey, actor, sealer.kind)
          return undefined
        } catch (error) {
          if (!isPlatformError(error)) throw error
          refusal = error
        }
      }
    } catch (error) {
      refusal = error
    }
    const code = isPlatformError(refusal) ? refusal.code : 'INTERNAL'
    this.#reason = { code, message: messageOf(refusal) }
    return refusal
  }

  async #activate(rootKey: RootKey, actor: Actor, kind: string): Promise<void> {
    this.#opening = true
    try {
      const { generation } = rootKey
      await this.audit(actor, 'root-key.unseal', 'done', { kind, generation })
      await this.#open(rootKey)
    } catch (error) {
      rootKey[Symbol.dispose]()
      throw error
    } finally {
      this.#opening = false
    }
    this.#stopRetrying()
    this.#retryMs = FIRST_RETRY_MS
    this.#deps.logger.info(
      { event: 'service.unsealed', service: this.service, actor, kind },
      'unsealed',
    )
  }

  /** Opens the service under a key; where that fails, it is sealed and the key disposed of. */
  async #open(rootKey: RootKey): Promise<void> {
    try {
      const opened = await this.#deps.open(rootKey)
      this.#active = { rootKey, opened }
      this.#reason = undefined
      this.#deps.mount(opened.app)
    } catch (error) {
      rootKey[Symbol.dispose]()
      const code = isPlatformError(error) ? error.code : 'INTERNAL'
      this.#reason = { code, message: messageOf(error) }
      throw error
    }
  }

  #selfTest(): void {
    selfTest()
    selfTestSeals()
  }

  #retryLater(): void {
    const waitMs = this.#retryMs
    this.#retryMs = Math.min(waitMs * 2, LONGEST_RETRY_MS)
    const timer = setTimeout(() => {
      this.#retry = undefined
      this.exclusively(() => this.#automatically(false)).catch((err: unknown) => {
        const { logger } = this.#deps
        logger.error({ event: 'unseal.failed', service: this.service, err }, 'not unsealed')
      })
    }, waitMs)
    timer.unref()
    this.#retry = { timer, atMs: this.#deps.clock.nowMs() + waitMs }
  }

  #stopRetrying(): void {
    if (this.#retry) clearTimeout(this.#retry.timer)
    this.#retry = undefined
  }
}
