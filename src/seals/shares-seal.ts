import { Type } from 'typebox'
import { toHex } from '../core/bytes.js'
import { PlatformError } from '../core/errors.js'
import { randomOctets } from '../core/random.js'
import { Secret } from '../core/secret.js'
import type { Sealer } from '../store/index.js'
import { readParameters } from './parameters.js'
import { combineShares, LEAST_THRESHOLD, MOST_SHARES, splitSecret } from './shamir.js'
import { commitmentOf, encodeShare, isCommitted, SET_ID_OCTETS, type Share } from './share-text.js'

const KEY_OCTETS = 32

const Parameters = Type.Object(
  {
    setId: Type.String({ pattern: '^[0-9a-f]{10}$' }),
    threshold: Type.Integer({ minimum: LEAST_THRESHOLD, maximum: MOST_SHARES }),
    commitments: Type.Array(Type.String({ pattern: '^[0-9a-f]{64}$' }), {
      minItems: LEAST_THRESHOLD,
      maxItems: MOST_SHARES,
    }),
  },
  { additionalProperties: false },
)

/** What a seal tells of its set of shares. */
export interface ShareSet {
  readonly setId: string
  readonly threshold: number
  readonly count: number
}

/** A sealing key that is split and forgotten: nobody has it until enough shares are brought together. */
export interface SharesSealer extends Sealer {
  /** The shares of the key that `newKey` made, to be shown once. */
  takeShares(): readonly string[]
}

/** Makes seals of shares: `threshold` of `count`. Opens none: `sealerOfShares` does. */
export function newSharesSealer(plan: {
  readonly threshold: number
  readonly count: number
}): SharesSealer {
  let shares: readonly string[] = []
  return {
    kind: 'shares',
    guesses: false,
    async newKey() {
      const key = new Secret(randomOctets(KEY_OCTETS))
      const setId = toHex(randomOctets(SET_ID_OCTETS))
      const { threshold } = plan
      const split = key
        .use((octets) => splitSecret(octets, plan, randomOctets))
        .map((share) => ({ ...share, setId, threshold }))
      const commitments = split.map(commitmentOf)
      shares = split.map(encodeShare)
      for (const { value } of split) value.fill(0)
      return { parameters: { setId, threshold, commitments }, key }
    },
    async keyOf() {
      throw new TypeError('a sealer that makes shares opens none')
    },
    takeShares() {
      const taken = shares
      shares = []
      return taken
    },
  }
}

/**
 * Opens seals with shares that were collected.
 *
 * @param shares stay the caller's to dispose of. `keyOf` throws `SHARE_SET`, `SHARE_DUPLICATE`, `SHARE_TAMPERED`,
 *   `SHARE_TOO_FEW`
 */
export function sealerOfShares(shares: readonly Share[]): Sealer {
  return {
    kind: 'shares',
    guesses: false,
    async newKey() {
      throw new TypeError('shares that were given out make no new seal')
    },
    async keyOf(stored) {
      const { threshold } = readParameters('shares', Parameters, stored)
      for (const [at, share] of shares.entries()) {
        requireShareOf(stored, share)
        if (shares.findIndex(({ index }) => index === share.index) !== at) throw duplicate(share)
      }
      if (shares.length < threshold) {
        throw new PlatformError(
          'SHARE_TOO_FEW',
          `expected ${threshold} shares, found ${shares.length}`,
        )
      }
      return combine(shares.slice(0, threshold))
    },
  }
}

/**
 * Checks one share against a seal, before any other is there.
 *
 * @param stored parameters of the seal, without those that all kinds have
 * @throws PlatformError `SHARE_SET` for a share of another set, `SHARE_TAMPERED` for one that was not given out
 */
export function requireShareOf(stored: unknown, share: Share): void {
  const { setId, threshold, commitments } = readParameters('shares', Parameters, stored)
  if (share.setId !== setId) {
    throw new PlatformError('SHARE_SET', `expected a share of set ${setId}, found ${share.setId}`)
  }
  const commitment = commitments[share.index - 1]
  if (
    share.threshold !== threshold ||
    commitment === undefined ||
    !isCommitted(share, commitment)
  ) {
    throw new PlatformError('SHARE_TAMPERED', `share ${share.index} is not the one given out`)
  }
}

/** What the parameters of a seal say of its set. */
export function shareSetOf(stored: unknown): ShareSet {
  const { setId, threshold, commitments } = readParameters('shares', Parameters, stored)
  return { setId, threshold, count: commitments.length }
}

export function duplicate(share: Share): PlatformError {
  return new PlatformError('SHARE_DUPLICATE', `share ${share.index} was given before`)
}

/** The values never leave their secrets but for the time of this call. */
function combine(shares: readonly Share[]): Secret {
  const lent = shares.map(({ index, value }) => ({
    index,
    value: value.use((octets) => octets.slice()),
  }))
  try {
    return new Secret(combineShares(lent))
  } finally {
    for (const { value } of lent) value.fill(0)
  }
}
