import { Type } from 'typebox'
import { Exactly } from '../api/common.js'

/** Section `[controlPlane]` of the authority's configuration. */
export const ControlPlaneSection = Exactly({
  vtpmCertificateDays: Type.Integer({
    default: 3650,
    minimum: 1,
    maximum: 36_500,
    description: 'how long certificates of virtual TPMs are valid',
  }),
  vtpmAuthorityDays: Type.Integer({
    default: 7300,
    minimum: 1,
    maximum: 36_500,
    description: 'how long the authority that certifies virtual TPMs is valid, when it is made',
  }),
  hostRequestsPerMinute: Type.Integer({
    default: 600,
    minimum: 1,
    maximum: 10_000_000,
    description:
      'requests of one host for keys in a minute; a new key of a standard provider is one',
  }),
  hostKeyDeliverySeconds: Type.Integer({
    default: 90,
    minimum: 1,
    maximum: 86_400,
    description: 'how long a host may take to fetch a key before that is an error',
  }),
})
