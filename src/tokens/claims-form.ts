import type { Static, TSchema } from 'typebox'
import type { Validator } from 'typebox/compile'
import type { JsonObject } from './compact.js'
import { quoted, TokenError } from './errors.js'

// The profiles of our own tokens as schemas of their claims.

type Profile<S extends TSchema> = Validator<Record<never, never>, S>

/** @throws TypeError on claims that nobody would accept: an issuer never says them */
export function requireProfile<S extends TSchema>(profile: Profile<S>, claims: unknown): void {
  const [error] = profile.Errors(claims)
  if (error) throw new TypeError(`claims${error.instancePath}: ${error.message}`)
}

/** @throws TokenError `TOKEN_CLAIMS` */
export function claimsOfProfile<S extends TSchema>(
  profile: Profile<S>,
  claims: JsonObject,
): Static<S> {
  if (profile.Check(claims)) return claims
  const [error] = profile.Errors(claims)
  throw new TokenError(
    'TOKEN_CLAIMS',
    `claims${quoted(error?.instancePath)} ${error?.message ?? 'do not fit the profile'}`,
  )
}
