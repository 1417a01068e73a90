import type { Policy, PolicyView } from '../../api/policies.js'
import { checkPolicy, policyDigest } from '../../appraisal/index.js'
import { isoTime } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import { readPage, type StoredPage } from '../../core/page.js'
import type {
  AttestationStore,
  AttestationTransaction,
  StoredPolicy,
  StoredPolicyDraft,
} from '../ports.js'
import { type Act, found, record, tell } from './administration.js'
import { policyOf } from './attestation.js'

/** What administrators do with policies, in two steps: draft and activate. Each act is one transaction with its audit record. */
export function createPolicies(deps: { readonly store: AttestationStore }) {
  const { store } = deps
  return {
    getPolicy: (cluster: string) =>
      store.transaction(async (tx) => policyView(cluster, await policyOf(tx, cluster))),

    getDraft: (cluster: string) => store.transaction((tx) => knownDraft(tx, cluster)),

    setDraft: (act: Act, cluster: string, policy: Policy) =>
      store.transaction(async (tx) => {
        const draft: StoredPolicyDraft = {
          policy: checkPolicy(policy),
          operator: act.operator,
          updatedAtMs: act.nowMs,
        }
        await tx.savePolicyDraft(cluster, draft)
        await record(tx, act, 'policy.draft', `policy:${cluster}`, {
          digest: policyDigest(draft.policy),
        })
        return draft
      }),

    removeDraft: (act: Act, cluster: string) =>
      store.transaction(async (tx) => {
        found(await tx.removePolicyDraft(cluster), 'draft of a policy for cluster', cluster)
        await record(tx, act, 'policy.draft-remove', `policy:${cluster}`, {})
      }),

    listRevisions: (cluster: string, page: StoredPage) =>
      store.transaction((tx) =>
        readPage(
          page,
          (at) => tx.listPolicyRevisions(cluster, at),
          ({ revision }) => String(revision),
        ),
      ),

    getRevision: (cluster: string, revision: number) =>
      store.transaction(async (tx) => {
        const stored = await tx.findPolicyRevision(cluster, revision)
        if (!stored) throw new PlatformError('NOT_FOUND', `no revision ${revision} of ${cluster}`)
        return stored
      }),

    /** Ends every token of a cluster: what was issued under an earlier epoch of its policy does not count. */
    endTokens: (act: Act, cluster: string, reason: string) =>
      store.transaction(async (tx) => {
        const before = await policyOf(tx, cluster)
        const after: StoredPolicy = { ...before, epoch: before.epoch + 1 }
        await tx.savePolicy(cluster, after, act.nowMs)
        await tell(tx, act, 'policy.tokens-ended', { cluster, detail: { reason } })
        await record(tx, act, 'policy.end-tokens', `policy:${cluster}`, { reason })
        return policyView(cluster, after)
      }),

    /** Activates the draft that the administrator read: another one in its place is a conflict. */
    activateDraft: (act: Act, cluster: string, digest: string) =>
      store.transaction(async (tx) => {
        const draft = await knownDraft(tx, cluster)
        if (policyDigest(draft.policy) !== digest) {
          throw new PlatformError(
            'CONFLICT',
            `expected the draft ${digest}, found ${policyDigest(draft.policy)}`,
          )
        }
        const before = await policyOf(tx, cluster)
        const after: StoredPolicy = {
          revision: before.revision + 1,
          epoch: before.epoch + 1,
          policy: draft.policy,
          updatedAtMs: act.nowMs,
        }
        await tx.savePolicy(cluster, after, act.nowMs)
        await tx.addPolicyRevision(cluster, {
          revision: after.revision,
          policy: after.policy,
          operator: act.operator,
          activatedAtMs: act.nowMs,
        })
        await tx.removePolicyDraft(cluster)
        await tell(tx, act, 'policy.activated', {
          cluster,
          detail: { revision: after.revision, digest },
        })
        await record(tx, act, 'policy.activate', `policy:${cluster}`, {
          revision: after.revision,
          digest,
          before: policyDigest(before.policy),
          draftedBy: draft.operator,
        })
        return policyView(cluster, after)
      }),
  }
}

export type Policies = ReturnType<typeof createPolicies>

async function knownDraft(tx: AttestationTransaction, cluster: string): Promise<StoredPolicyDraft> {
  const draft = await tx.findPolicyDraft(cluster)
  if (!draft) throw new PlatformError('NOT_FOUND', `no draft of a policy for cluster ${cluster}`)
  return draft
}

function policyView(cluster: string, stored: StoredPolicy): PolicyView {
  return {
    cluster,
    revision: stored.revision,
    digest: policyDigest(stored.policy),
    epoch: stored.epoch,
    ...(stored.updatedAtMs > 0 ? { updatedAt: isoTime(stored.updatedAtMs) } : {}),
    policy: stored.policy,
  }
}
