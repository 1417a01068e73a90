import type { SealKindName, SealStatus } from '../api/seal.js'
import { utf8 } from '../core/bytes.js'
import type { Clock } from '../core/clock.js'
import { isPlatformError, PlatformError, unreachable } from '../core/errors.js'
import { Secret } from '../core/secret.js'
import {
  newSharesSealer,
  parseShare,
  passphraseSealer,
  requireShareOf,
  type Share,
  type SharesSealer,
  sealerOfShares,
  shareSetOf,
} from '../seals/index.js'
import {
  addSeal,
  appendAudit,
  readRootKey,
  removeSeal,
  rotateRootKey,
  type SealedColumn,
  type Sealer,
  type Store,
} from '../store/index.js'
import { GuessLimit } from './guess-limit.js'
import { ownParametersOf } from './seal-detail.js'
import type { Actor, ServiceKeeper } from './service-keeper.js'
import { ShareCollection } from './share-collection.js'

export interface SealAdministrationDeps {
  readonly keeper: ServiceKeeper
  readonly store: Store
  /** The sealer of the settings, for kinds that have one there: reads the passphrase file, opens the TPM. */
  readonly configured: (kind: 'passphrase' | 'tpm' | 'kmip') => Sealer
  /** Everything that the service keeps sealed. */
  readonly columns: readonly SealedColumn[]
  readonly oneOperatorMayGiveAllShares: boolean
  readonly clock: Clock
}

/** A seal that an operator asks for. Not all members go with every kind. */
export interface WantedSeal {
  readonly kind: SealKindName
  readonly passphrase?: string
  readonly threshold?: number
  readonly count?: number
  readonly keepOthers?: boolean
}

const DEFAULT_PLAN = { threshold: 3, count: 5 } as const
/** Refusals that a guess may have caused. */
const GUESSES: readonly string[] = ['ROOT_KEY_UNSEAL', 'SHARE_TAMPERED']

/** What operators do with the seals of one service. Every call is recorded in the service's audit chain. */
export class SealAdministration {
  readonly #deps: SealAdministrationDeps
  readonly #guesses: GuessLimit
  readonly #shares: ShareCollection

  constructor(deps: SealAdministrationDeps) {
    this.#deps = deps
    this.#guesses = new GuessLimit(deps.clock)
    this.#shares = new ShareCollection(deps.clock, {
      oneOperatorMayGiveAll: deps.oneOperatorMayGiveAllShares,
    })
  }

  async status(): Promise<SealStatus> {
    const { progress } = this.#shares
    return { ...(await this.#deps.keeper.status()), ...(progress ? { shares: progress } : {}) }
  }

  /**
   * Unseals by a passphrase, or takes a share and unseals with the last one that is needed, or tries the seals that need
   * nobody. A service that is open stays as it is, and nothing is said of what was given.
   *
   * @throws PlatformError `ROOT_KEY_BACKOFF` too soon after a wrong attempt, and the refusal
   */
  async unseal(
    given: { readonly passphrase?: string; readonly share?: string },
    actor: Actor,
  ): Promise<void> {
    const { keeper } = this.#deps
    const { passphrase, share } = given
    if (passphrase !== undefined && share !== undefined) {
      throw new PlatformError('REQUEST_INVALID', 'expected a passphrase or a share, found both')
    }
    if (passphrase === undefined && share === undefined) return keeper.unsealAutomatically(actor)
    await keeper.exclusively(async () => {
      if (keeper.isOpen) return
      this.#guesses.requirePatience()
      try {
        if (passphrase !== undefined) await this.#unsealByPassphrase(passphrase, actor)
        if (share !== undefined) await this.#takeShare(share, actor)
      } catch (error) {
        if (isPlatformError(error) && GUESSES.includes(error.code)) this.#guesses.wrong()
        throw error
      }
      if (keeper.isOpen) {
        this.#guesses.right()
        this.#shares.forget()
      }
    })
  }

  async forgetShares(actor: Actor): Promise<void> {
    this.#shares.forget()
    await this.#deps.keeper.audit(actor, 'root-key.forget-shares', 'done', {})
  }

  seal(actor: Actor): Promise<void> {
    return this.#deps.keeper.seal(actor)
  }

  /**
   * Gives the root key a seal, in place of those of its kind unless `keepOthers`.
   *
   * @returns its id, and new shares where it is made of shares: nobody can ask for them again
   * @throws PlatformError `SEALED`, `SEAL_SETTINGS`, and what the kind throws
   */
  async addSeal(
    wanted: WantedSeal,
    actor: Actor,
  ): Promise<{ readonly sealId: string; readonly shares?: readonly string[] }> {
    const { keeper, store, clock } = this.#deps
    return keeper.exclusively(async () => {
      const { rootKey } = keeper.requireOpen()
      using passphrase = secretOf(wanted.passphrase)
      const sealer = this.#sealerFor(wanted, passphrase)
      const sealId = await addSeal(store, {
        ...{ name: keeper.service, rootKey, sealer, nowMs: clock.nowMs() },
        replace: wanted.keepOthers !== true,
        record: (tx, id) => {
          const detail = { sealId: id, kind: wanted.kind }
          return appendAudit(tx, keeper.auditEntry(actor, 'root-key.add-seal', 'done', detail))
        },
      })
      const shares = 'takeShares' in sealer ? (sealer as SharesSealer).takeShares() : undefined
      return { sealId, ...(shares ? { shares } : {}) }
    })
  }

  async removeSeal(sealId: string, actor: Actor): Promise<void> {
    const { keeper, store } = this.#deps
    await keeper.exclusively(async () => {
      keeper.requireOpen()
      await removeSeal(store, {
        ...{ name: keeper.service, sealId },
        record: (tx) =>
          appendAudit(tx, keeper.auditEntry(actor, 'root-key.remove-seal', 'done', { sealId })),
      })
    })
  }

  /**
   * Replaces the root key: a new key under a new seal of each kind that it had, and all records sealed again.
   *
   * @returns how many records, and the new shares where it has a seal of shares
   * @throws PlatformError `SEAL_LAST` where shares are its only seal: an answer that is lost would lose everything
   */
  async rotateRoot(
    given: { readonly passphrase?: string },
    actor: Actor,
  ): Promise<{ readonly resealed: number; readonly shares?: readonly string[] }> {
    const { keeper, store, columns, clock } = this.#deps
    using passphrase = secretOf(given.passphrase)
    let resealed = 0
    let sharesSealer: SharesSealer | undefined
    await keeper.replaceRootKey(async (old) => {
      const stored = await readRootKey(store, keeper.service)
      const seals = stored?.seals ?? []
      const kinds = [...new Set(seals.map(({ kind }) => kind as SealKindName))]
      if (!kinds.some((kind) => kind !== 'shares')) {
        throw new PlatformError('SEAL_LAST', 'expected a seal besides the shares, found none')
      }
      const sealers = kinds.map((kind): Sealer => {
        if (kind !== 'shares') return this.#sealerFor({ kind }, passphrase)
        const seal = seals.find((one) => one.kind === 'shares')
        sharesSealer = newSharesSealer(seal ? shareSetOf(ownParametersOf(seal)) : DEFAULT_PLAN)
        return sharesSealer
      })
      const rotated = await rotateRootKey(store, {
        ...{ name: keeper.service, old, sealers, columns, nowMs: clock.nowMs() },
        record: (tx, count) => {
          const detail = { generation: old.generation + 1, resealed: count }
          return appendAudit(tx, keeper.auditEntry(actor, 'root-key.rotate', 'done', detail))
        },
      })
      resealed = rotated.resealed
      return rotated.rootKey
    })
    const shares = sharesSealer?.takeShares()
    return { resealed, ...(shares ? { shares } : {}) }
  }

  async #unsealByPassphrase(text: string, actor: Actor): Promise<void> {
    using passphrase = new Secret(utf8(text))
    await this.#deps.keeper.unsealWith(passphraseSealer(passphrase), actor)
  }

  async #takeShare(text: string, actor: Actor): Promise<void> {
    const { keeper } = this.#deps
    let index = 0
    try {
      const share = parseShare(text)
      index = share.index
      try {
        await this.#requireKnown(share)
      } catch (error) {
        share.value.dispose()
        throw error
      }
      this.#shares.add(share, actor)
    } catch (error) {
      if (isPlatformError(error)) {
        await keeper.audit(actor, 'root-key.share', 'refused', { code: error.code })
      }
      throw error
    }
    const progress = this.#shares.progress
    if (!progress) throw new TypeError('the share is not there')
    await keeper.audit(actor, 'root-key.share', 'done', { ...progress, index })
    if (progress.given < progress.threshold) return
    try {
      await keeper.unsealWith(sealerOfShares(this.#shares.shares), actor)
    } finally {
      this.#shares.forget()
    }
  }

  /** Whether a share is of a seal of this root key, and as it was given out. */
  async #requireKnown(share: Share): Promise<void> {
    const { keeper, store } = this.#deps
    const stored = await readRootKey(store, keeper.service)
    const sets = (stored?.seals ?? [])
      .filter(({ kind }) => kind === 'shares')
      .map((seal) => ownParametersOf(seal))
    const own = sets.find((parameters) => shareSetOf(parameters).setId === share.setId) ?? sets[0]
    if (!own) throw new PlatformError('SEAL_NONE', `root key ${keeper.service} has no shares`)
    requireShareOf(own, share)
  }

  #sealerFor(wanted: WantedSeal, passphrase: Secret | undefined): Sealer {
    const { kind } = wanted
    switch (kind) {
      case 'passphrase':
        return passphrase ? passphraseSealer(passphrase) : this.#deps.configured(kind)
      case 'shares': {
        const { threshold = DEFAULT_PLAN.threshold, count = DEFAULT_PLAN.count } = wanted
        if (threshold > count) {
          const message = `expected a threshold up to ${count}, found ${threshold}`
          throw new PlatformError('REQUEST_INVALID', message)
        }
        return newSharesSealer({ threshold, count })
      }
      case 'tpm':
      case 'kmip':
        return this.#deps.configured(kind)
      default:
        return unreachable(kind)
    }
  }
}

function secretOf(text: string | undefined): Secret | undefined {
  return text === undefined ? undefined : new Secret(utf8(text))
}
