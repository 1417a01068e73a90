import type { Command } from 'commander'
import {
  type EncryptionMode,
  getInventoryHost,
  type InventoryHostView,
  listInventoryHosts,
  setHostEncryption,
} from '../../api/inventory.js'
import type { AnswerOf } from '../../api/operation.js'
import { PlatformError } from '../../core/errors.js'
import { fields, table } from '../output.js'
import { addOperation } from './command.js'

interface ListOptions {
  readonly cluster?: string
  readonly attestation?: InventoryHostView['attestation']
  readonly mode?: EncryptionMode
}

/** Hosts as the control plane sees them. */
export function addInventoryHostCommands(program: Command): void {
  const inventory = program
    .command('inventory')
    .description('hosts as the control plane sees them: attestation, encryption mode, VMs')

  addOperation<typeof listInventoryHosts, ListOptions>(inventory, {
    usage: 'hosts',
    operation: listInventoryHosts,
    list: 'hosts',
    configure: (command) =>
      command
        .option('--cluster <name>', 'only hosts of this cluster')
        .option('--attestation <state>', 'only hosts in this state: trusted, refused, late, …')
        .option('--mode <mode>', 'only these: incapable, prepared, safe, pending-incapable'),
    input: (_, { cluster, attestation, mode }) => ({
      query: {
        ...(cluster === undefined ? {} : { cluster }),
        ...(attestation === undefined ? {} : { attestation }),
        ...(mode === undefined ? {} : { mode }),
      },
    }),
    text: hostTable,
    examples: ['sigillo inventory hosts', 'sigillo inventory hosts --mode incapable --json'],
  })
  addOperation(inventory, {
    usage: 'host <host>',
    operation: getInventoryHost,
    input: ([hostId = '']) => ({ params: { hostId } }),
    text: hostLines,
    examples: ['sigillo inventory host host-a', 'sigillo inventory host host-a --json'],
  })
  addOperation(inventory, {
    usage: 'encryption <host> <setting>',
    operation: setHostEncryption,
    input: ([hostId = '', text = '']) => ({
      params: { hostId },
      body: { setting: settingOf(text) },
    }),
    text: hostLines,
    examples: [
      'sigillo inventory encryption host-a on',
      'sigillo inventory encryption host-a off    # of a host without encrypted VMs; then reboot it',
    ],
  })
}

function settingOf(text: string): InventoryHostView['encryption']['setting'] {
  if (text === 'on' || text === 'off' || text === 'on-demand') return text
  throw new PlatformError('REQUEST_INVALID', `expected on, off or on-demand, found ${text}`)
}

function hostTable({ hosts }: AnswerOf<typeof listInventoryHosts>): readonly string[] {
  return table([
    ['HOST', 'CLUSTER', 'ATTESTATION', 'ENCRYPTION', 'VMS', 'ENCRYPTED', 'RUNNING', 'LAST SEEN'],
    ...hosts.map(({ hostId, cluster, attestation, encryption, vms, lastSeenAt }) => [
      ...[hostId, cluster, attestation, encryption.mode],
      ...[String(vms.total), String(vms.encrypted), String(vms.running), lastSeenAt ?? '-'],
    ]),
  ])
}

function hostLines(host: InventoryHostView): readonly string[] {
  const { encryption, vms } = host
  const { mode, reason, setting, setBy, setAt } = encryption
  return fields([
    ['host', host.hostId],
    ['cluster', host.cluster],
    ['attestation', `${host.attestation}, since ${host.attestationChangedAt}`],
    ['last seen', host.lastSeenAt],
    ['encryption mode', reason === undefined ? mode : `${mode}: ${reason}`],
    ['encryption', setBy === undefined ? setting : `${setting}, set by ${setBy} at ${setAt}`],
    ['VMs', `${vms.total}, ${vms.encrypted} encrypted, ${vms.running} running`],
  ])
}
