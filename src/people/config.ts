import { Type } from 'typebox'
import { Exactly } from '../api/common.js'
import { OUTSIDE_ALGORITHMS } from '../tokens/index.js'

/** Section `[people]` of the authority's configuration. */
export const PeopleSection = Exactly({
  loginHours: Type.Integer({
    default: 12,
    minimum: 1,
    maximum: 720,
    description: 'how long the token of a user who logged in holds',
  }),
  loginsPerMinute: Type.Integer({
    default: 30,
    minimum: 1,
    maximum: 10_000,
    description: 'attempts to log in of one address in a minute',
  }),
})

/** Section `[oidc]`: an outside provider (OpenID Connect) whose tokens people may come with. */
export const OidcSection = Exactly({
  issuer: Type.Optional(
    Type.String({
      pattern: '^https://[^\\s?#]+$',
      description: 'its issuer identifier; without it, no tokens of others are accepted',
    }),
  ),
  audience: Type.Optional(
    Type.String({ minLength: 1, description: 'audience that its tokens must be for' }),
  ),
  caFile: Type.Optional(
    Type.String({ description: 'the only authority of its TLS certificate, PEM' }),
  ),
  algorithms: Type.Array(Type.Union(OUTSIDE_ALGORITHMS.map((name) => Type.Literal(name))), {
    default: ['RS256', 'ES256'],
    minItems: 1,
    description: `signatures that it may use: ${OUTSIDE_ALGORITHMS.join(', ')}`,
  }),
  nameClaim: Type.String({
    default: 'sub',
    minLength: 1,
    description: 'claim that audit records name people by',
  }),
  groupsClaim: Type.String({
    default: 'groups',
    minLength: 1,
    description: 'claim with their groups, to which roles are granted',
  }),
  requiredClaims: Type.Array(Type.String({ pattern: '^[^=]+=.+$' }), {
    default: [],
    description: '`claim=text` that tokens must have besides',
  }),
  maxTokenHours: Type.Integer({
    default: 12,
    minimum: 1,
    maximum: 72,
    description: 'longest life of its tokens: they cannot be revoked here',
  }),
  clockSkewSeconds: Type.Integer({
    default: 30,
    minimum: 0,
    maximum: 60,
    description: 'how far its clock may differ',
  }),
})
