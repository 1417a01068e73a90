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
  vtpmRevocationListHours: Type.Integer({
    default: 168,
    minimum: 1,
    maximum: 8760,
    description:
      'how long a revocation list of that authority is valid; a new one is signed when half of that is over, and with each revocation',
  }),
  vtpmRevocationListUrl: Type.Optional(
    Type.String({
      pattern: '^https?://[^/\\s]+/\\S*$',
      maxLength: 256,
      description:
        'where anybody fetches that list, as certificates say it; by default below `server.publicUrl`, where that is set',
    }),
  ),
  hostRequestsPerMinute: Type.Integer({
    default: 600,
    minimum: 1,
    maximum: 10_000_000,
    description:
      'requests of one host for keys in a minute; a new key of a standard provider is one',
  }),
  tasksPerHost: Type.Integer({
    default: 1000,
    minimum: 1,
    maximum: 100_000,
    description: 'tasks of one host that did not end; more are refused',
  }),
  taskExpirySeconds: Type.Integer({
    default: 86_400,
    minimum: 1,
    maximum: 31_536_000,
    description: 'how long a task waits for its host before it fails, unless it says so itself',
  }),
  taskSilenceSeconds: Type.Integer({
    default: 86_400,
    minimum: 60,
    maximum: 31_536_000,
    description: 'how long a host may say nothing of a task that it has before that is lost',
  }),
  taskRetentionDays: Type.Integer({
    default: 30,
    minimum: 1,
    maximum: 3650,
    description: 'how long tasks are remembered that ended',
  }),
  hostKeyDeliverySeconds: Type.Integer({
    default: 90,
    minimum: 1,
    maximum: 86_400,
    description: 'how long a host may take to fetch a key before that is an error',
  }),
})
