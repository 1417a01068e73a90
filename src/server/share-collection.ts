import type { Clock } from '../core/clock.js'
import { PlatformError } from '../core/errors.js'
import { duplicate, type Share } from '../seals/index.js'

/** How long shares wait in memory for the rest of them. */
const KEPT_MS = 30 * 60_000

/** Shares that operators gave so far, of one set; forgotten half an hour after the first of them. */
export class ShareCollection {
  readonly #clock: Clock
  readonly #oneOperatorMayGiveAll: boolean
  #given: readonly { readonly share: Share; readonly operator: string }[] = []
  #sinceMs = 0

  constructor(clock: Clock, options: { readonly oneOperatorMayGiveAll: boolean }) {
    this.#clock = clock
    this.#oneOperatorMayGiveAll = options.oneOperatorMayGiveAll
  }

  get progress(): { setId: string; given: number; threshold: number } | undefined {
    this.#forgetOld()
    const share = this.#given[0]?.share
    if (!share) return undefined
    return { setId: share.setId, given: this.#given.length, threshold: share.threshold }
  }

  get shares(): readonly Share[] {
    return this.#given.map(({ share }) => share)
  }

  /**
   * Keeps a share, which belongs to the collection from now on.
   *
   * @throws PlatformError `SHARE_SET`, `SHARE_DUPLICATE`, `SHARE_SAME_OPERATOR`; the share is then disposed of
   */
  add(share: Share, operator: string): void {
    this.#forgetOld()
    try {
      this.#check(share, operator)
    } catch (error) {
      share.value.dispose()
      throw error
    }
    if (this.#given.length === 0) this.#sinceMs = this.#clock.monotonicMs()
    this.#given = [...this.#given, { share, operator }]
  }

  forget(): void {
    for (const { share } of this.#given) share.value.dispose()
    this.#given = []
  }

  #check(share: Share, operator: string): void {
    const first = this.#given[0]?.share
    if (first && first.setId !== share.setId) {
      throw new PlatformError(
        'SHARE_SET',
        `expected a share of set ${first.setId}, found ${share.setId}`,
      )
    }
    if (this.#given.some((one) => one.share.index === share.index)) throw duplicate(share)
    if (!this.#oneOperatorMayGiveAll && this.#given.some((one) => one.operator === operator)) {
      throw new PlatformError('SHARE_SAME_OPERATOR', `${operator} has given a share already`)
    }
  }

  #forgetOld(): void {
    if (this.#clock.monotonicMs() - this.#sinceMs > KEPT_MS) this.forget()
  }
}
