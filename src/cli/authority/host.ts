import type { Command } from 'commander'
import {
  acceptHostReboot,
  approveHost,
  getEvidenceBundle,
  getHost,
  getHostHistory,
  type HostView,
  listEvidenceBundles,
  listHosts,
  removeHost,
  revokeHost,
} from '../../api/hosts.js'
import { verdictLines } from '../findings.js'
import { fields, table } from '../output.js'
import { addOperation } from './command.js'

interface ListOptions {
  readonly cluster?: string
}

const ENDORSERS: Readonly<Record<HostView['endorsement'], string>> = {
  ca: 'a certificate authority',
  pinned: 'the list of endorsement keys',
  device: 'the key that the machine was delivered with',
  approved: 'an administrator',
}

/** Adds the commands, and returns the group for others that are about hosts. */
export function addHostCommands(program: Command): Command {
  const host = program.command('host').description('enrolled hosts and what they proved')

  addOperation<typeof listHosts, ListOptions>(host, {
    usage: 'list',
    operation: listHosts,
    list: 'hosts',
    configure: (command) => command.option('--cluster <name>', 'only hosts of this cluster'),
    input: (_, { cluster }) => ({ query: cluster === undefined ? {} : { cluster } }),
    text: ({ hosts }) =>
      table([
        ['HOST', 'CLUSTER', 'STATE', 'BASE IMAGE', 'LAST VERDICT'],
        ...hosts.map((h) => [
          h.hostId,
          h.cluster,
          h.state,
          h.lastVerdict?.baseImage ?? '-',
          h.lastVerdict?.at ?? '-',
        ]),
      ]),
    examples: ['sigillo host list', 'sigillo host list --cluster lab --json'],
  })

  addOperation(host, {
    usage: 'show <host>',
    operation: getHost,
    input: ([hostId = '']) => ({ params: { hostId } }),
    text: hostLines,
    examples: ['sigillo host show host-a', 'sigillo host show host-a --json'],
  })

  addOperation(host, {
    usage: 'history <host>',
    operation: getHostHistory,
    list: 'verdicts',
    input: ([hostId = '']) => ({ params: { hostId }, query: {} }),
    text: ({ verdicts }) => verdicts.flatMap((verdict) => [...verdictLines(verdict), '']),
    examples: ['sigillo host history host-a --limit 10', 'sigillo host history host-a --json'],
  })

  addOperation(host, {
    usage: 'bundles <host>',
    operation: listEvidenceBundles,
    list: 'bundles',
    input: ([hostId = '']) => ({ params: { hostId }, query: {} }),
    text: ({ bundles }) =>
      table([['BUNDLE', 'OF'], ...bundles.map(({ bundleId, at }) => [bundleId, at])]),
    examples: ['sigillo host bundles host-a', 'sigillo host bundles host-a --json'],
  })

  addOperation(host, {
    usage: 'bundle <host> <bundle>',
    operation: getEvidenceBundle,
    input: ([hostId = '', bundleId = '']) => ({ params: { hostId, bundleId } }),
    text: (bundle) => [JSON.stringify(bundle, null, 2)],
    examples: [
      'sigillo host bundle host-a 3f6c… > bundle.json && sigillo verify bundle bundle.json',
      'sigillo host bundle host-a "$(sigillo host show host-a --json | jq -r .lastVerdict.bundleId)"',
    ],
  })

  addOperation<typeof approveHost, { readonly ek: string }>(host, {
    usage: 'approve <host>',
    operation: approveHost,
    configure: (command) =>
      command.requiredOption(
        '--ek <fingerprint>',
        'fingerprint of its endorsement key, as read on the host',
      ),
    input: ([hostId = ''], { ek }) => ({ params: { hostId }, body: { ekFingerprint: ek } }),
    text: hostLines,
    examples: [
      'sigillo host approve host-c --ek 5b1e…',
      'sigillo host show host-c && sigillo host approve host-c --ek 5b1e…',
    ],
  })

  addOperation(host, {
    usage: 'accept-reboot <host>',
    operation: acceptHostReboot,
    input: ([hostId = '']) => ({ params: { hostId }, body: {} }),
    text: hostLines,
    examples: ['sigillo host accept-reboot host-a', 'sigillo host accept-reboot host-a --json'],
  })

  addOperation<typeof revokeHost, { readonly reason: string }>(host, {
    usage: 'revoke <host>',
    operation: revokeHost,
    configure: (command) => command.requiredOption('--reason <text>', 'why, for the audit'),
    input: ([hostId = ''], { reason }) => ({ params: { hostId }, body: { reason } }),
    text: hostLines,
    destroys: ([hostId]) => `this ends the trust in host ${hostId}`,
    examples: [
      'sigillo host revoke host-a --reason "stolen" --yes',
      'sigillo host revoke host-a --reason "case 4711" --yes --json',
    ],
  })

  addOperation(host, {
    usage: 'remove <host>',
    operation: removeHost,
    input: ([hostId = '']) => ({ params: { hostId } }),
    text: () => ['removed'],
    destroys: ([hostId]) => `this forgets host ${hostId} and its history`,
    examples: [
      'sigillo host remove host-a --yes',
      'sigillo host revoke host-a --reason gone --yes && sigillo host remove host-a --yes',
    ],
  })
  return host
}

function hostLines(host: HostView): readonly string[] {
  return [
    ...fields([
      ['host', host.hostId],
      ['cluster', host.cluster],
      ['state', host.state],
      ['endorsed by', ENDORSERS[host.endorsement]],
      ['test anchor', host.insecureTest ? 'yes: not for production' : undefined],
      ['TPM', host.tpm],
      ['EK', host.ekFingerprint],
      ['AK name', host.akName],
      ['epoch', String(host.epoch)],
      ['enrolled', host.enrolledAt],
    ]),
    ...(host.lastVerdict ? ['', ...verdictLines(host.lastVerdict)] : []),
  ]
}
