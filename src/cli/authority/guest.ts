import type { Command } from 'commander'
import {
  GuestPolicy,
  type GuestPolicyView,
  type GuestView,
  getGuest,
  getGuestBundle,
  getGuestPolicy,
  listGuests,
  removeGuest,
  revokeGuest,
  setGuestPolicy,
} from '../../api/guests.js'
import { parseUtf8, utf8 } from '../../core/bytes.js'
import { DecodeError } from '../../core/errors.js'
import { readText } from '../../core/read-file.js'
import { misfitOf } from '../../core/schema-errors.js'
import { parseStrictJson } from '../../core/strict-json.js'
import { findingLine } from '../findings.js'
import { fields, table } from '../output.js'
import { examples } from '../run.js'
import { pcrList } from '../values.js'
import { addOperation } from './command.js'
import { connect, withConnection } from './connection.js'

/** Guests of VMs and what they proved: `sigillo guest …`. */
export function addGuestCommands(program: Command): void {
  const guest = program.command('guest').description('guests of VMs and what they proved')

  addOperation<typeof listGuests, { readonly host?: string }>(guest, {
    usage: 'list',
    operation: listGuests,
    list: 'guests',
    configure: (command) => command.option('--host <name>', 'only VMs on this host'),
    input: (_, { host }) => ({ query: host === undefined ? {} : { hostId: host } }),
    text: ({ guests }) =>
      table([
        ['VM', 'HOST', 'HOST STATE', 'STATE', 'BASE IMAGE', 'LAST VERDICT'],
        ...guests.map((one) => [
          one.vmId,
          one.hostId,
          one.host.state,
          one.state,
          one.verdict.baseImage ?? '-',
          one.verdict.at,
        ]),
      ]),
    examples: ['sigillo guest list', 'sigillo guest list --host host-a --json'],
  })

  addOperation(guest, {
    usage: 'show <vm>',
    operation: getGuest,
    input: ([vmId = '']) => ({ params: { vmId } }),
    text: guestLines,
    examples: ['sigillo guest show 5f0c8f0a-…', 'sigillo guest show 5f0c8f0a-… --json'],
  })

  addOperation(guest, {
    usage: 'bundle <vm>',
    operation: getGuestBundle,
    input: ([vmId = '']) => ({ params: { vmId } }),
    text: (bundle) => [JSON.stringify(bundle, null, 2)],
    examples: [
      'sigillo guest bundle 5f0c8f0a-… > vm.json',
      'sigillo verify vm --bundle vm.json --authority vtpm.pem --jwks jwks.json',
    ],
  })

  addOperation<typeof revokeGuest, { readonly reason: string }>(guest, {
    usage: 'revoke <vm>',
    operation: revokeGuest,
    configure: (command) => command.requiredOption('--reason <text>', 'why, for the audit'),
    input: ([vmId = ''], { reason }) => ({ params: { vmId }, body: { reason } }),
    text: guestLines,
    destroys: ([vmId]) => `no evidence of VM ${vmId} is accepted any more`,
    examples: [
      'sigillo guest revoke 5f0c8f0a-… --reason "stolen" --yes',
      'sigillo guest revoke 5f0c8f0a-… --reason "case 4711" --yes --json',
    ],
  })

  addOperation(guest, {
    usage: 'remove <vm>',
    operation: removeGuest,
    input: ([vmId = '']) => ({ params: { vmId } }),
    text: () => ['removed'],
    destroys: ([vmId]) => `this forgets VM ${vmId}, its evidence, and whether it was revoked`,
    examples: [
      'sigillo guest remove 5f0c8f0a-… --yes',
      'sigillo guest list && sigillo guest remove 5f0c8f0a-… --yes',
    ],
  })

  addPolicyCommands(guest)
}

function addPolicyCommands(guest: Command): void {
  const policy = guest.command('policy').description('what guests on hosts of a cluster must prove')

  addOperation(policy, {
    usage: 'show <cluster>',
    operation: getGuestPolicy,
    input: ([cluster = '']) => ({ params: { cluster } }),
    text: policyLines,
    examples: ['sigillo guest policy show lab', 'sigillo guest policy show lab --json'],
  })

  addOperation(policy, {
    usage: 'set <cluster> <file>',
    operation: setGuestPolicy,
    input: ([cluster = '', file = '']) => ({ params: { cluster }, body: readPolicy(file) }),
    text: policyLines,
    examples: [
      'sigillo guest policy set lab guests.json',
      'sigillo guest policy draft 5f0c8f0a-… --name debian-12 > guests.json && sigillo guest policy set lab guests.json',
    ],
  })

  withConnection(policy.command('draft <vm>'))
    .description(
      'Print a policy that asks for what a VM proved last, beside what its policy accepts',
    )
    .requiredOption('--name <name>', 'name of the base image')
    .option('--pcrs <list>', 'PCRs to pin, with commas between', pcrList, [4, 7, 9])
    .addHelpText(
      'after',
      examples(
        'sigillo guest policy draft 5f0c8f0a-… --name debian-12 > guests.json',
        'sigillo guest policy draft 5f0c8f0a-… --name debian-12 --pcrs 0,4,7,9 > guests.json',
      ),
    )
    .action(
      async (
        vmId: string,
        { name, pcrs }: { readonly name: string; readonly pcrs: readonly number[] },
        command: Command,
      ) => {
        await using connection = connect(command)
        const bundle = await connection.client.call(getGuestBundle, { params: { vmId } })
        const { policy: before, evidence } = bundle
        const image = {
          name,
          pcrs: evidence.pcrs.map(({ pcr, digest }) => ({ pcr, digests: [digest] })),
        }
        const drafted: GuestPolicy = {
          ...before,
          pcrs: [...new Set([...before.pcrs, ...pcrs])].sort((a, b) => a - b),
          pinnedPcrs: [...pcrs],
          baseImages: [...before.baseImages.filter((one) => one.name !== name), image],
          requireEventLog: evidence.eventLog !== undefined,
        }
        connection.output.data(drafted, () => [JSON.stringify(drafted, null, 2)])
      },
    )
}

function readPolicy(file: string): GuestPolicy {
  const octets = utf8(readText(file))
  const value = parseStrictJson(parseUtf8(octets), { maxDepth: 8, maxItems: 100_000 })
  const misfit = misfitOf(GuestPolicy, value)
  if (misfit === undefined) return value as GuestPolicy
  const message = `${file}: expected a policy for guests: policy${misfit}`
  throw new DecodeError('DECODE_VALUE', 0, message)
}

function policyLines({ revision, digest, policy, updatedAt }: GuestPolicyView): readonly string[] {
  const { pinnedPcrs, baseImages } = policy
  return fields([
    ['revision', `${revision}${updatedAt === undefined ? ' (default)' : ` of ${updatedAt}`}`],
    ['digest', digest],
    ['quote', `${policy.bank}:${policy.pcrs.join(',')}`],
    ['pinned', pinnedPcrs.length > 0 ? pinnedPcrs.join(',') : 'none: identity only'],
    ['base images', baseImages.map(({ name }) => name).join(', ') || 'none'],
    ['event log', policy.requireEventLog ? 'required' : 'not required'],
    ['Secure Boot', policy.requireSecureBoot ? 'required' : 'not required'],
    ['tokens live', `${policy.tokenTtlSeconds} s at most`],
  ])
}

function guestLines(guest: GuestView): readonly string[] {
  const { verdict } = guest
  return [
    ...fields([
      ['VM', guest.vmId],
      ['host', `${guest.hostId} of cluster ${guest.cluster}, now ${guest.host.state}`],
      ['state', guest.state],
      ['EK', guest.ekFingerprint],
      ['certified', guest.certificateIssuedAt],
      ['verdict', `${verdict.accepted ? 'accepted' : 'refused'} at ${verdict.at}`],
      ['base image', verdict.baseImage],
      ['Secure Boot', verdict.boot?.secureBoot],
    ]),
    ...[...verdict.findings].sort((a, b) => Number(a.ok) - Number(b.ok)).map(findingLine),
  ]
}
