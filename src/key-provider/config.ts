import { Type } from 'typebox'
import { Exactly } from '../api/common.js'

/** Section `[keyProvider]` of the authority's configuration. */
export const KeyProviderSection = Exactly({
  hostRequestsPerMinute: Type.Integer({
    default: 6_000,
    minimum: 1,
    maximum: 10_000_000,
    description: 'requests for keys of one host in a minute; a batch is one request',
  }),
})
