import type { Command } from 'commander'
import { parse as parseToml } from 'smol-toml'
import {
  activatePolicyDraft,
  endPolicyTokens,
  getPolicy,
  getPolicyDraft,
  getPolicyRevision,
  listPolicyRevisions,
  Policy,
  type PolicyDraftView,
  type PolicyView,
  removePolicyDraft,
  setPolicyDraft,
  testPolicyDraft,
} from '../../api/policies.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { readText } from '../../core/read-file.js'
import { misfitOf } from '../../core/schema-errors.js'
import { findingLine } from '../findings.js'
import { fields, table } from '../output.js'
import { addOperation } from './command.js'

export function addPolicyCommands(program: Command): void {
  const policy = program.command('policy').description('what hosts of a cluster must prove')

  addOperation(policy, {
    usage: 'show <cluster>',
    operation: getPolicy,
    input: ([cluster = '']) => ({ params: { cluster } }),
    text: policyLines,
    examples: ['sigillo policy show lab', 'sigillo policy show lab --json'],
  })

  addOperation(policy, {
    usage: 'draft <cluster> <file>',
    operation: setPolicyDraft,
    input: ([cluster = '', file = '']) => ({ params: { cluster }, body: readPolicy(file) }),
    text: draftLines,
    examples: [
      'sigillo policy draft lab policy.toml',
      "sigillo policy show lab --json | jq '.policy | .requireSecureBoot = true' > p.json && sigillo policy draft lab p.json",
    ],
  })

  addOperation(policy, {
    usage: 'show-draft <cluster>',
    operation: getPolicyDraft,
    input: ([cluster = '']) => ({ params: { cluster } }),
    text: draftLines,
    examples: ['sigillo policy show-draft lab', 'sigillo policy show-draft lab --json'],
  })

  addOperation(policy, {
    usage: 'test <cluster>',
    operation: testPolicyDraft,
    list: 'hosts',
    input: ([cluster = '']) => ({ params: { cluster }, query: {} }),
    text: ({ hosts }) => [
      ...table([
        ['HOST', 'NOW', 'BY THE DRAFT'],
        ...hosts.map(({ hostId, now, outcome, reason }) => [
          hostId,
          now,
          reason === undefined ? outcome : `${outcome}: ${reason}`,
        ]),
      ]),
      ...hosts.flatMap(({ hostId, findings }) =>
        findings.map((finding) => `${hostId}:${findingLine(finding)}`),
      ),
    ],
    examples: ['sigillo policy test lab', 'sigillo policy test lab --json'],
  })

  addOperation<typeof activatePolicyDraft, { readonly digest: string }>(policy, {
    usage: 'activate <cluster>',
    operation: activatePolicyDraft,
    configure: (command) =>
      command.requiredOption('--digest <digest>', 'digest of the draft, as it was shown'),
    input: ([cluster = ''], { digest }) => ({ params: { cluster }, body: { digest } }),
    text: policyLines,
    destroys: ([cluster]) => `this ends every token of cluster ${cluster}`,
    examples: [
      'sigillo policy test lab && sigillo policy activate lab --digest 1f0c… --yes',
      'sigillo policy activate lab --yes --digest "$(sigillo policy show-draft lab --json | jq -r .digest)"',
    ],
  })

  addOperation(policy, {
    usage: 'discard <cluster>',
    operation: removePolicyDraft,
    input: ([cluster = '']) => ({ params: { cluster } }),
    text: () => ['discarded'],
    examples: ['sigillo policy discard lab', 'sigillo policy discard lab --json'],
  })

  addOperation(policy, {
    usage: 'history <cluster>',
    operation: listPolicyRevisions,
    list: 'revisions',
    input: ([cluster = '']) => ({ params: { cluster }, query: {} }),
    text: ({ revisions }) =>
      table([
        ['REVISION', 'ACTIVATED', 'BY', 'DIGEST'],
        ...revisions.map((r) => [String(r.revision), r.activatedAt, r.activatedBy, r.digest]),
      ]),
    examples: ['sigillo policy history lab', 'sigillo policy history lab --json'],
  })

  addOperation(policy, {
    usage: 'show-revision <cluster> <revision>',
    operation: getPolicyRevision,
    input: ([cluster = '', revision = '']) => ({ params: { cluster, revision } }),
    text: ({ policy: rules, ...view }) => [
      ...fields([
        ['cluster', view.cluster],
        ['revision', String(view.revision)],
        ['activated', `${view.activatedAt} by ${view.activatedBy}`],
        ['digest', view.digest],
      ]),
      ...ruleLines(rules),
    ],
    examples: [
      'sigillo policy show-revision lab 3',
      'sigillo policy show-revision lab 3 --json | jq .policy > before.json && sigillo policy draft lab before.json',
    ],
  })

  addOperation<typeof endPolicyTokens, { readonly reason: string }>(policy, {
    usage: 'end-tokens <cluster>',
    operation: endPolicyTokens,
    configure: (command) => command.requiredOption('--reason <text>', 'why, for the audit'),
    input: ([cluster = ''], { reason }) => ({ params: { cluster }, body: { reason } }),
    text: ({ cluster, epoch }) => [`tokens of ${cluster} count from epoch ${epoch} on`],
    destroys: ([cluster]) => `this ends every token of cluster ${cluster}`,
    examples: [
      "sigillo policy end-tokens lab --reason 'key provider was exposed' --yes",
      'sigillo policy end-tokens lab --reason drill --yes --json',
    ],
  })
}

/** A policy from a file, JSON where its name ends so and TOML otherwise. */
function readPolicy(file: string): Policy {
  const text = readText(file)
  let value: unknown
  try {
    value = file.endsWith('.json') ? JSON.parse(text) : parseToml(text)
  } catch (cause) {
    throw new PlatformError('CONFIG_UNREADABLE', `cannot read ${file}: ${messageOf(cause)}`, {
      cause,
    })
  }
  const misfit = misfitOf(Policy, value)
  if (misfit === undefined) return value as Policy
  throw new PlatformError('POLICY_INVALID', `${file}: policy${misfit}`)
}

function policyLines({ policy, ...view }: PolicyView): readonly string[] {
  return [
    ...fields([
      ['cluster', view.cluster],
      ['revision', view.revision === 0 ? '0 (the default)' : String(view.revision)],
      ['digest', view.digest],
    ]),
    ...ruleLines(policy),
  ]
}

function draftLines({ policy, ...view }: PolicyDraftView): readonly string[] {
  return [
    ...fields([
      ['cluster', view.cluster],
      ['draft of', view.updatedBy],
      ['digest', view.digest],
    ]),
    ...ruleLines(policy),
  ]
}

function ruleLines(policy: Policy): readonly string[] {
  const count = (list: readonly unknown[] | undefined) => list && `${list.length} listed`
  return fields([
    ['bank', policy.bank],
    ['quoted PCRs', policy.pcrs.join(',')],
    ['pinned PCRs', policy.pinnedPcrs.join(',') || 'none: no base image is needed'],
    ['binding PCRs', policy.bindingPcrs.join(',')],
    ['event log', policy.requireEventLog ? 'required' : 'not required'],
    ['Secure Boot', policy.requireSecureBoot ? 'required' : 'not required'],
    ['boot applications', count(policy.bootApplications)],
    ['kernels', policy.kernels?.join(' or ')],
    ['command lines', policy.commandLines?.join(' or ')],
    ['firmware', policy.firmwareVersions?.join(' or ')],
    ['dbx at least', count(policy.dbxAtLeast)],
    ['reboot', policy.reboot],
    ['suspend', policy.suspend],
    ['safe clock', policy.requireSafeClock === true ? 'required' : undefined],
    ['IMA', imaText(policy)],
    ['late after', policy.maxAgeSeconds === undefined ? undefined : `${policy.maxAgeSeconds} s`],
    ['token lifetime', `${policy.tokenTtlSeconds} s`],
  ])
}

function imaText({ ima }: Policy): string | undefined {
  if (!ima) return undefined
  const parts = [
    `${ima.allow.length} paths allowed`,
    `${ima.exclude.length} excluded`,
    `${ima.signers.length} signers`,
    `violations ${ima.allowViolations ? 'allowed' : 'refused'}`,
  ]
  return parts.join(', ')
}
