import { type Static, Type } from 'typebox'
import { HostState } from './attestation.js'
import {
  Bank,
  Empty,
  Exactly,
  FindingView,
  HexDigest,
  Name,
  Next,
  NumberedPageQuery,
  PageQuery,
  Sentence,
  Time,
} from './common.js'
import { onSite } from './needs.js'
import { operation } from './operation.js'

const BASE = '/attestation/v1'

const Pattern = Type.String({
  minLength: 1,
  maxLength: 1024,
  description: 'text in which * stands for any characters',
})
const Patterns = (description: string) =>
  Type.Optional(Type.Array(Pattern, { minItems: 1, maxItems: 256, description }))

const PcrIndexes = (minItems: number, description: string) =>
  Type.Array(Type.Integer({ minimum: 0, maximum: 15 }), {
    minItems,
    maxItems: 16,
    uniqueItems: true,
    description,
  })

/** What may run on hosts, by the measurement list of the kernel (IMA). */
export const ImaRules = Exactly({
  allow: Type.Array(
    Exactly({ path: Pattern, digests: Type.Array(HexDigest, { minItems: 1, maxItems: 4096 }) }),
    { maxItems: 20_000, description: 'accepted digests of files by patterns of their paths' },
  ),
  exclude: Type.Array(Pattern, { maxItems: 1024, description: 'paths that are not looked at' }),
  allowViolations: Type.Boolean(),
  signers: Type.Array(Type.String({ maxLength: 16_384 }), {
    maxItems: 64,
    description: 'public keys or certificates, PEM: files signed by them are accepted',
  }),
})

/** What hosts of a cluster must prove. Members that are left out ask for nothing. */
export const Policy = Exactly({
  bank: Bank,
  pcrs: PcrIndexes(1, 'PCRs that every quote must cover'),
  pinnedPcrs: PcrIndexes(
    0,
    'PCRs that must have the values of a base image; a subset of pcrs. With none, no base image is needed',
  ),
  bindingPcrs: PcrIndexes(1, 'PCRs that the binding key of a host is tied to; a subset of pcrs'),
  requireEventLog: Type.Boolean(),
  requireSecureBoot: Type.Boolean(),
  tokenTtlSeconds: Type.Integer({ minimum: 30, maximum: 300 }),
  maxEventLogOctets: Type.Optional(Type.Integer({ minimum: 1024, maximum: 1024 * 1024 })),
  bootApplications: Type.Optional(
    Type.Array(Exactly({ digest: HexDigest, name: Type.Optional(Sentence) }), {
      minItems: 1,
      maxItems: 1024,
      description: 'digests, in the bank of the policy, of everything that the firmware may start',
    }),
  ),
  kernels: Patterns('kernel file, as GRUB loaded it, or the unified kernel image'),
  commandLines: Patterns('command line of the kernel, where the log proves it'),
  firmwareVersions: Patterns('version of the firmware (EV_S_CRTM_VERSION)'),
  dbxAtLeast: Type.Optional(
    Type.Array(HexDigest, {
      minItems: 1,
      maxItems: 4096,
      description: 'SHA-256 hashes that the forbidden signatures (dbx) must have',
    }),
  ),
  reboot: Type.Optional(
    Type.Union([Type.Literal('allow'), Type.Literal('refuse')], {
      description: 'refuse: a host that was rebooted is not trusted until it is approved again',
    }),
  ),
  suspend: Type.Optional(
    Type.Union([Type.Literal('allow'), Type.Literal('refuse')], {
      description:
        'refuse, the default: a host whose TPM went on after a suspend is not trusted until it is rebooted or accepted',
    }),
  ),
  requireSafeClock: Type.Optional(Type.Boolean()),
  ima: Type.Optional(ImaRules),
  maxAgeSeconds: Type.Optional(
    Type.Integer({
      minimum: 30,
      maximum: 86_400,
      description: 'a host whose last accepted attestation is older is late, and not trusted',
    }),
  ),
})
export type Policy = Static<typeof Policy>

export const PolicyView = Exactly({
  cluster: Name,
  revision: Type.Integer(),
  digest: HexDigest,
  epoch: Type.Integer(),
  updatedAt: Type.Optional(Time),
  policy: Policy,
})
export type PolicyView = Static<typeof PolicyView>

export const PolicyDraftView = Exactly({
  cluster: Name,
  digest: HexDigest,
  updatedAt: Time,
  updatedBy: Type.String(),
  policy: Policy,
})
export type PolicyDraftView = Static<typeof PolicyDraftView>

const ClusterParams = Exactly({ cluster: Name })

export const getPolicy = operation({
  id: 'getPolicy',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'Appraisal policy of a cluster',
  method: 'GET',
  path: `${BASE}/policies/:cluster`,
  status: 200,
  params: ClusterParams,
  answer: PolicyView,
})

export const getPolicyDraft = operation({
  id: 'getPolicyDraft',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'Draft of the appraisal policy of a cluster',
  method: 'GET',
  path: `${BASE}/policies/:cluster/draft`,
  status: 200,
  params: ClusterParams,
  answer: PolicyDraftView,
})

export const setPolicyDraft = operation({
  id: 'setPolicyDraft',
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
  summary: 'Draft an appraisal policy; nothing changes for hosts until it is activated',
  method: 'PUT',
  path: `${BASE}/policies/:cluster/draft`,
  status: 200,
  params: ClusterParams,
  body: Policy,
  answer: PolicyDraftView,
})

export const removePolicyDraft = operation({
  id: 'removePolicyDraft',
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
  summary: 'Throw the draft of a policy away',
  method: 'DELETE',
  path: `${BASE}/policies/:cluster/draft`,
  status: 200,
  params: ClusterParams,
  answer: Empty,
})

export const testPolicyDraft = operation({
  id: 'testPolicyDraft',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'Judge the last evidence of every host by the draft: who would fall out',
  method: 'GET',
  path: `${BASE}/policies/:cluster/draft/test`,
  status: 200,
  params: ClusterParams,
  query: Exactly(PageQuery),
  answer: Exactly({
    cluster: Name,
    digest: HexDigest,
    next: Next,
    hosts: Type.Array(
      Exactly({
        hostId: Name,
        now: HostState,
        outcome: Type.Union(
          [Type.Literal('accepted'), Type.Literal('refused'), Type.Literal('unknown')],
          { description: 'unknown: the last evidence does not say, or there is none' },
        ),
        reason: Type.Optional(Type.String({ description: 'why the last evidence does not say' })),
        findings: Type.Array(FindingView, { description: 'the failed checks' }),
      }),
    ),
  }),
})

export const activatePolicyDraft = operation({
  id: 'activatePolicyDraft',
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
  summary: 'Make the draft the policy; tokens issued under the policy before it end at once',
  method: 'POST',
  path: `${BASE}/policies/:cluster/draft/activation`,
  status: 200,
  params: ClusterParams,
  body: Exactly({ digest: HexDigest }),
  answer: PolicyView,
})

export const listPolicyRevisions = operation({
  id: 'listPolicyRevisions',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'Every policy that a cluster had, newest first',
  method: 'GET',
  path: `${BASE}/policies/:cluster/revisions`,
  status: 200,
  params: ClusterParams,
  query: Exactly(NumberedPageQuery),
  answer: Exactly({
    revisions: Type.Array(
      Exactly({
        revision: Type.Integer(),
        digest: HexDigest,
        activatedAt: Time,
        activatedBy: Type.String(),
      }),
    ),
    next: Next,
  }),
})

export const getPolicyRevision = operation({
  id: 'getPolicyRevision',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'A policy that a cluster had',
  method: 'GET',
  path: `${BASE}/policies/:cluster/revisions/:revision`,
  status: 200,
  params: Exactly({
    cluster: Name,
    revision: Type.String({ pattern: '^[1-9][0-9]{0,8}$' }),
  }),
  answer: Exactly({
    cluster: Name,
    revision: Type.Integer(),
    digest: HexDigest,
    activatedAt: Time,
    activatedBy: Type.String(),
    policy: Policy,
  }),
})

export const endPolicyTokens = operation({
  id: 'endPolicyTokens',
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
  summary: 'End every token of a cluster at once; its hosts attest again under the same policy',
  method: 'POST',
  path: `${BASE}/policies/:cluster/token-revocation`,
  status: 200,
  params: ClusterParams,
  body: Exactly({ reason: Sentence }),
  answer: PolicyView,
})
