import type { Static } from 'typebox'
import type { Clock } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import { readText } from '../../core/read-file.js'
import type { OutsideCaller } from '../../http/index.js'
import { kidOfOutsideToken, TokenError, verifyOutsideToken } from '../../tokens/index.js'
import type { OidcSection } from '../config.js'
import { oidcKeys } from './oidc-keys.js'

const MAX_GROUPS = 500
/** What a name or group may be: it goes into audit records, and onto terminals. */
const TEXT = /^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]{1,256}$/u

/** An outside provider (OpenID Connect) whose tokens people come with. */
export interface OidcProvider extends AsyncDisposable {
  readonly issuer: string
  /** @throws TokenError, or PlatformError `UNAVAILABLE` where its keys are not to be had */
  callerOf(token: string): Promise<OutsideCaller>
}

/**
 * The provider of the settings, where there is one. Asks it nothing before the first token comes.
 *
 * @throws PlatformError `CONFIG_INVALID`, `CONFIG_UNREADABLE`
 */
export function openOidcProvider(
  config: Static<typeof OidcSection>,
  clock: Clock,
): OidcProvider | undefined {
  const { issuer, audience, caFile } = config
  if (issuer === undefined) return undefined
  if (audience === undefined) {
    throw new PlatformError('CONFIG_INVALID', 'expected oidc.audience beside oidc.issuer')
  }
  const keys = oidcKeys({
    issuer,
    caPem: caFile === undefined ? undefined : readText(caFile),
    clock,
  })
  const claims = new Map(config.requiredClaims.map(splitClaim))
  return {
    issuer,
    async callerOf(token) {
      const verified = await verifyOutsideToken(
        token,
        await keys.keysFor(kidOfOutsideToken(token)),
        {
          ...{ issuer, audience, claims, algorithms: config.algorithms },
          nowSeconds: Math.floor(clock.nowMs() / 1000),
          skewSeconds: config.clockSkewSeconds,
          maxLifetimeSeconds: config.maxTokenHours * 3600,
        },
      )
      return {
        kind: 'oidc',
        issuer,
        subject: text(verified.sub, 'sub'),
        name: text(verified[config.nameClaim], config.nameClaim),
        groups: groupsOf(verified[config.groupsClaim], config.groupsClaim),
        expiresAtMs: (verified.exp + config.clockSkewSeconds) * 1000,
      }
    },
    [Symbol.asyncDispose]: () => keys[Symbol.asyncDispose](),
  }
}

function groupsOf(value: unknown, claim: string): readonly string[] {
  if (value === undefined) return []
  const list: readonly unknown[] = Array.isArray(value) ? value : [value]
  if (list.length > MAX_GROUPS) {
    throw new TokenError('TOKEN_CLAIMS', `expected at most ${MAX_GROUPS} groups in ${claim}`)
  }
  return list.map((group) => text(group, claim))
}

function text(value: unknown, claim: string): string {
  if (typeof value === 'string' && TEXT.test(value)) return value
  throw new TokenError('TOKEN_CLAIMS', `expected printable text in the claim ${claim}`)
}

function splitClaim(setting: string): readonly [string, string] {
  const at = setting.indexOf('=')
  return [setting.slice(0, at), setting.slice(at + 1)]
}
