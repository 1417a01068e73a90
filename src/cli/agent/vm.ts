import type { Command } from 'commander'
import {
  createVm,
  deleteVm,
  listAgentVms,
  readDisk,
  showVm,
  startVm,
  stopVm,
} from '../../api/host-agent.js'
import { unlockVm } from '../../api/locked-vms.js'
import { fromBase64url } from '../../core/bytes.js'
import { table } from '../output.js'
import { requireYes } from '../require-yes.js'
import { examples } from '../run.js'
import { collect, integer, size } from '../values.js'
import { type VmOptions, vmSpecOf } from '../vm-requests.js'
import { connectAgent, followTask, withSocket } from './connection.js'
import { addAttestationCommand } from './vm-attestation.js'
import { addDiskCommands } from './vm-disk.js'
import { addEncryptionCommands } from './vm-encryption.js'
import { addMoveCommands } from './vm-moves.js'
import { addNvramCommand } from './vm-nvram.js'
import { addPolicyCommands } from './vm-policy.js'
import { addRewrapCommand } from './vm-rewrap.js'
import { addSnapshotCommands } from './vm-snapshot.js'
import { printVm } from './vm-text.js'
import { addVtpmCommands } from './vm-vtpm.js'

const DEFAULT_READ_OCTETS = 512

/** Encrypted VMs of this host. */
export function addVmCommands(program: Command): void {
  const vm = program.command('vm').description('virtual machines of this host')
  addEncryptionCommands(vm)
  addDiskCommands(vm)
  addRewrapCommand(vm)
  addVtpmCommands(vm)
  addAttestationCommand(vm)
  addPolicyCommands(vm)
  addMoveCommands(vm)
  addSnapshotCommands(vm)
  addNvramCommand(vm)

  withSocket(vm.command('create <name>'))
    .description('make a VM, encrypted under keys of a provider')
    .option('--provider <name>', 'key provider (default: that of the cluster or the site)')
    .option('--plain', 'a VM that is not encrypted, without a key provider')
    .option(
      '--disk <name=size|name=file>',
      'a disk, empty or filled from an image; may be repeated',
      collect,
    )
    .option('--plain-disk <name=size|name=file>', 'a disk that is not encrypted', collect)
    .option('--memory <MiB>', 'memory', integer)
    .option('--cpus <n>', 'processors', integer)
    .option('--no-vtpm', 'without a virtual TPM')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm create web1 --provider gold --disk root=20G --memory 4096 --cpus 2',
        'sigillo-agent vm create web2 --disk root=/images/debian.qcow2 --disk data=100G',
        'sigillo-agent vm create lab1 --plain --disk root=/images/debian.qcow2',
      ),
    )
    .action(async (name: string, options: VmOptions, command: Command) => {
      const body = vmSpecOf(name, options)
      await using agent = connectAgent(command)
      const task = await followTask(agent, await agent.client.call(createVm, { body }))
      if (task.vm) printVm(agent.output, task.vm)
    })

  withSocket(vm.command('list'))
    .description('VMs of this host')
    .addHelpText('after', examples('sigillo-agent vm list', 'sigillo-agent vm list --json'))
    .action(async (_options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const { vms, unreadable } = await agent.client.call(listAgentVms, {})
      for (const { vmId, message } of unreadable) {
        agent.output.note(`VM ${vmId} is left out, it cannot be read: ${message}`)
      }
      agent.output.data({ vms, unreadable }, () =>
        table([
          ['VM', 'STATE', 'PROVIDER', 'DISKS', 'VTPM', 'ID'],
          ...vms.map((v) => [
            v.name,
            v.lock ? `locked: ${v.lock.reason} (${v.lock.code})` : v.state,
            v.provider ?? 'none',
            String(v.disks.length),
            v.vtpm ? 'yes' : 'no',
            v.vmId,
          ]),
        ]),
      )
    })

  withSocket(vm.command('show <name>'))
    .description('one VM; its home is decrypted for it')
    .addHelpText(
      'after',
      examples('sigillo-agent vm show web1', 'sigillo-agent vm show web1 --json'),
    )
    .action(async (name: string, _options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      printVm(agent.output, await agent.client.call(showVm, { params: { vm: name } }))
    })

  withSocket(vm.command('start <name>'))
    .description('start a VM with its disks and virtual TPM')
    .addHelpText(
      'after',
      examples('sigillo-agent vm start web1', 'sigillo-agent vm start web1 --json'),
    )
    .action(async (name: string, _options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const started = await agent.client.call(startVm, { params: { vm: name }, body: {} })
      const task = await followTask(agent, started)
      if (task.vm) printVm(agent.output, task.vm)
    })

  withSocket(vm.command('unlock <name>'))
    .description('try now to have the keys of a locked VM; the agent tries by itself, too')
    .addHelpText(
      'after',
      examples('sigillo-agent vm unlock web1', 'sigillo-agent vm unlock web1 --json'),
    )
    .action(async (name: string, _options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      printVm(agent.output, await agent.client.call(unlockVm, { params: { vm: name }, body: {} }))
    })

  withSocket(vm.command('stop <name>'))
    .description('stop a VM: ask the guest, then power off')
    .option('--grace <seconds>', 'how long the guest may take (default: 30)', integer)
    .addHelpText(
      'after',
      examples('sigillo-agent vm stop web1', 'sigillo-agent vm stop web1 --grace 0'),
    )
    .action(async (name: string, options: { grace?: number }, command: Command) => {
      await using agent = connectAgent(command)
      const body = options.grace === undefined ? {} : { graceSeconds: options.grace }
      const stopped = await agent.client.call(stopVm, { params: { vm: name }, body })
      const task = await followTask(agent, stopped)
      if (task.vm) printVm(agent.output, task.vm)
    })

  withSocket(vm.command('delete <name>'))
    .description('delete a stopped VM; its key slots are erased first')
    .option('--yes', 'do it without being asked again')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm delete web1 --yes',
        'sigillo-agent vm stop web1 && sigillo-agent vm delete web1 --yes',
      ),
    )
    .action(async (name: string, options: { yes?: boolean }, command: Command) => {
      requireYes(options, `this destroys VM ${name}`)
      await using agent = connectAgent(command)
      await agent.client.call(deleteVm, { params: { vm: name } })
      agent.output.data({}, () => [`VM ${name} deleted`])
    })

  withSocket(vm.command('read <name> <disk>'))
    .description('open a disk of a stopped VM and write octets of it to standard output')
    .option('--offset <octets>', 'where to begin', size, 0)
    .option('--length <octets>', 'how many, at most 1M', size, DEFAULT_READ_OCTETS)
    .option('--assurance <kind>', 'session or tpm')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm read web1 root --length 512 | xxd | head',
        'sigillo-agent vm read web1 root --offset 1M --length 4K --assurance tpm > part.bin',
      ),
    )
    .action(
      async (
        name: string,
        disk: string,
        options: { offset: number; length: number; assurance?: 'session' | 'tpm' },
        command: Command,
      ) => {
        await using agent = connectAgent(command)
        const { offset, length, assurance } = options
        const { data } = await agent.client.call(readDisk, {
          params: { vm: name, disk },
          body: { offset, length, ...(assurance === undefined ? {} : { assurance }) },
        })
        process.stdout.write(fromBase64url(data))
      },
    )
}
