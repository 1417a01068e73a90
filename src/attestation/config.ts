import { Type } from 'typebox'
import { Exactly } from '../api/common.js'

/** Section `[attestation]` of the authority's configuration. */
export const AttestationSection = Exactly({
  mode: Type.Union([Type.Literal('production'), Type.Literal('lab')], {
    default: 'production',
    description: 'production refuses trust anchors that are marked as insecure test anchors',
  }),
  endorsement: Type.Array(
    Type.Union([
      Type.Literal('ca'),
      Type.Literal('pinned'),
      Type.Literal('device'),
      Type.Literal('approved'),
    ]),
    {
      default: ['ca', 'pinned', 'device', 'approved'],
      minItems: 1,
      uniqueItems: true,
      description:
        'who may say that a key is in a TPM: an authority by its certificate, a list of keys, the key that the machine was delivered with, an administrator',
    },
  ),
  revocation: Type.Union([Type.Literal('present'), Type.Literal('required')], {
    default: 'present',
    description:
      'required refuses hosts below authorities without a current revocation list; present judges by the lists that are there',
  }),
  nonceTtlSeconds: Type.Integer({
    default: 60,
    minimum: 5,
    maximum: 600,
    description: 'how long a host has to answer with a quote',
  }),
  enrolmentTtlSeconds: Type.Integer({
    default: 300,
    minimum: 10,
    maximum: 3600,
    description: 'how long a host has to activate its credential',
  }),
  maxPendingEnrolments: Type.Integer({
    default: 1000,
    minimum: 1,
    maximum: 100_000,
    description: 'enrolments that may wait for activation at once',
  }),
  verdictsPerHost: Type.Integer({
    default: 100,
    minimum: 1,
    maximum: 10_000,
    description: 'verdicts kept for each host, newest first',
  }),
  bundlesPerHost: Type.Integer({
    default: 3,
    minimum: 1,
    maximum: 1000,
    description: 'bundles of evidence kept for each host, newest first; one has about 70 KB',
  }),
  eventLogWorkers: Type.Integer({
    default: 2,
    minimum: 1,
    maximum: 64,
    description: 'worker threads that read event logs',
  }),
  eventLogBudgetMs: Type.Integer({
    default: 1000,
    minimum: 50,
    maximum: 60_000,
    description: 'time that reading one event log may take',
  }),
})
