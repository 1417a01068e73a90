import type { Command } from 'commander'
import { parse as parseToml } from 'smol-toml'
import { Value } from 'typebox/value'
import { getPolicy, Policy, type PolicyView, setPolicy } from '../../api/attestation.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { fields } from '../output.js'
import { addOperation } from './command.js'
import { readText } from './connection.js'

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
    usage: 'set <cluster> <file>',
    operation: setPolicy,
    input: ([cluster = '', file = '']) => ({ params: { cluster }, body: readPolicy(file) }),
    text: policyLines,
    examples: [
      'sigillo policy set lab policy.toml',
      "sigillo policy show lab --json | jq '.policy | .requireSecureBoot = true' > p.json && sigillo policy set lab p.json",
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
  const [error] = Value.Errors(Policy, value)
  if (error) {
    throw new PlatformError('POLICY_INVALID', `${file}: ${error.instancePath} ${error.message}`)
  }
  return value as Policy
}

function policyLines({ policy, ...view }: PolicyView): readonly string[] {
  return fields([
    ['cluster', view.cluster],
    ['revision', view.revision === 0 ? '0 (the default)' : String(view.revision)],
    ['digest', view.digest],
    ['bank', policy.bank],
    ['quoted PCRs', policy.pcrs.join(',')],
    ['pinned PCRs', policy.pinnedPcrs.join(',')],
    ['binding PCRs', policy.bindingPcrs.join(',')],
    ['event log', policy.requireEventLog ? 'required' : 'not required'],
    ['Secure Boot', policy.requireSecureBoot ? 'required' : 'not required'],
    ['token lifetime', `${policy.tokenTtlSeconds} s`],
  ])
}
