import type { FastifyRequest } from 'fastify'
import {
  activatePolicyDraft,
  endPolicyTokens,
  getPolicy,
  getPolicyDraft,
  getPolicyRevision,
  listPolicyRevisions,
  removePolicyDraft,
  setPolicyDraft,
  testPolicyDraft as testPolicyOperation,
} from '../../api/policies.js'
import { policyDigest } from '../../appraisal/index.js'
import { type Clock, isoTime } from '../../core/clock.js'
import { type App, addOperation, type OperatorAccess } from '../../http/index.js'
import type { Policies } from '../domain/policies.js'
import type { PolicyTest } from '../domain/policy-test.js'
import type { StoredPage, StoredPolicyDraft, StoredPolicyRevision } from '../ports.js'

const SERVICE = 'attestation'
const READ = { access: { operator: ['administrator', 'auditor'], service: SERVICE } } as const
const CHANGE = { access: { operator: ['administrator'], service: SERVICE } } as const
const POLICY_BODY_OCTETS = 16 * 1024 * 1024

/** What hosts must prove: policies, their drafts, and what they were. */
export function addPolicyRoutes(
  app: App,
  deps: {
    readonly policies: Policies
    readonly testPolicyDraft: (
      cluster: string,
      page: StoredPage,
      nowMs: number,
    ) => Promise<PolicyTest>
    readonly operators: OperatorAccess
    readonly clock: Clock
  },
): void {
  const { policies, clock } = deps
  const actOf = (request: FastifyRequest) => ({
    operator: deps.operators.operatorOf(request).name,
    nowMs: clock.nowMs(),
  })

  addOperation(app, getPolicy, READ, async ({ params }) => policies.getPolicy(params.cluster))
  addOperation(app, getPolicyDraft, READ, async ({ params: { cluster } }) =>
    draftView(cluster, await policies.getDraft(cluster)),
  )
  addOperation(
    app,
    setPolicyDraft,
    { ...CHANGE, bodyLimitOctets: POLICY_BODY_OCTETS },
    async ({ params: { cluster }, body, request }) =>
      draftView(cluster, await policies.setDraft(actOf(request), cluster, body)),
  )
  addOperation(app, removePolicyDraft, CHANGE, async ({ params, request }) => {
    await policies.removeDraft(actOf(request), params.cluster)
    return {}
  })
  addOperation(app, testPolicyOperation, READ, async ({ params, query }) => {
    const { hosts, ...test } = await deps.testPolicyDraft(params.cluster, query, clock.nowMs())
    return { ...test, hosts: hosts.map((host) => ({ ...host, findings: [...host.findings] })) }
  })
  addOperation(app, activatePolicyDraft, CHANGE, async ({ params, body, request }) =>
    policies.activateDraft(actOf(request), params.cluster, body.digest),
  )
  addOperation(app, endPolicyTokens, CHANGE, async ({ params, body, request }) =>
    policies.endTokens(actOf(request), params.cluster, body.reason),
  )
  addOperation(app, listPolicyRevisions, READ, async ({ params, query }) => {
    const { items, ...next } = await policies.listRevisions(params.cluster, query)
    return { revisions: items.map(revisionView), ...next }
  })
  addOperation(app, getPolicyRevision, READ, async ({ params: { cluster, revision } }) => {
    const stored = await policies.getRevision(cluster, Number(revision))
    return { cluster, ...revisionView(stored), policy: stored.policy }
  })
}

function draftView(cluster: string, draft: StoredPolicyDraft) {
  return {
    cluster,
    digest: policyDigest(draft.policy),
    updatedAt: isoTime(draft.updatedAtMs),
    updatedBy: draft.operator,
    policy: draft.policy,
  }
}

function revisionView({ revision, policy, activatedAtMs, operator }: StoredPolicyRevision) {
  return {
    revision,
    digest: policyDigest(policy),
    activatedAt: isoTime(activatedAtMs),
    activatedBy: operator,
  }
}
