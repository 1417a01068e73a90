import { Type } from 'typebox'
import { Exactly } from '../api/common.js'

/** Section `[keyProvider]` of the authority's configuration. */
export const KeyProviderSection = Exactly({
  requestsPerMinute: Type.Integer({
    default: 6000,
    minimum: 1,
    maximum: 1_000_000,
    description: 'requests of one address in a minute',
  }),
})
