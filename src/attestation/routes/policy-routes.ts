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
import type { StoredPage } from '../../core/page.js'
import { type App, addOperation, type CallerAccess } from '../../http/index.js'
import type { Policies } from '../domain/policies.js'
import type { PolicyTest } from '../domain/policy-test.js'
import type { StoredPolicyDraft, StoredPolicyRevision } from '../ports.js'

const SERVICE = 'attestation'
const FOR_PEOPLE = { access: { people: SERVICE } } as const
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
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { policies, clock } = deps
  const actOf = (request: FastifyRequest) => deps.callers.actOf(request, clock.nowMs())

  addOperation(app, getPolicy, FOR_PEOPLE, async ({ params }) => policies.getPolicy(params.cluster))
  addOperation(app, getPolicyDraft, FOR_PEOPLE, async ({ params: { cluster } }) =>
    draftView(cluster, await policies.getDraft(cluster)),
  )
  addOperation(
    app,
    setPolicyDraft,
    { ...FOR_PEOPLE, bodyLimitOctets: POLICY_BODY_OCTETS },
    async ({ params: { cluster }, body, request }) =>
      draftView(cluster, await policies.setDraft(actOf(request), cluster, body)),
  )
  addOperation(app, removePolicyDraft, FOR_PEOPLE, async ({ params, request }) => {
    await policies.removeDraft(actOf(request), params.cluster)
    return {}
  })
  addOperation(app, testPolicyOperation, FOR_PEOPLE, async ({ params, query }) => {
    const { hosts, ...test } = await deps.testPolicyDraft(params.cluster, query, clock.nowMs())
    return { ...test, hosts: hosts.map((host) => ({ ...host, findings: [...host.findings] })) }
  })
  addOperation(app, activatePolicyDraft, FOR_PEOPLE, async ({ params, body, request }) =>
    policies.activateDraft(actOf(request), params.cluster, body.digest),
  )
  addOperation(app, endPolicyTokens, FOR_PEOPLE, async ({ params, body, request }) =>
    policies.endTokens(actOf(request), params.cluster, body.reason),
  )
  addOperation(app, listPolicyRevisions, FOR_PEOPLE, async ({ params, query }) => {
    const { items, ...next } = await policies.listRevisions(params.cluster, query)
    return { revisions: items.map(revisionView), ...next }
  })
  addOperation(app, getPolicyRevision, FOR_PEOPLE, async ({ params: { cluster, revision } }) => {
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
