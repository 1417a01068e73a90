import type { Command } from 'commander'
import { readPem } from '../offline/files.js'
import { addVmTask } from './vm-task.js'

/** Virtual TPMs of stopped VMs, changed by their hosts. */
export function addVtpmTasks(vm: Command): void {
  const vtpm = vm.command('vtpm').description('the virtual TPM of a stopped VM')
  addVmTask(vtpm, {
    usage: 'add <vm>',
    kind: 'vm.add-vtpm',
    request: () => ({}),
    examples: ['sigillo vm vtpm add web1', 'sigillo vm vtpm add web1 --json'],
  })
  addVmTask(vtpm, {
    usage: 'remove <vm>',
    kind: 'vm.remove-vtpm',
    request: () => ({}),
    destroys: ([name]) => `what VM ${name} has sealed to its virtual TPM will be lost`,
    examples: ['sigillo vm vtpm remove web1 --yes', 'sigillo vm vtpm remove web1 --yes --json'],
  })
  addVmTask(vtpm, {
    usage: 'replace-certificates <vm>',
    kind: 'vm.replace-vtpm-certificates',
    request: () => ({}),
    examples: [
      'sigillo vm vtpm replace-certificates web1',
      'sigillo vm vtpm replace-certificates web1 --json',
    ],
  })
  addVmTask<'vm.import-vtpm-certificate', { readonly ca: string }>(vtpm, {
    usage: 'import-certificate <vm> <file>',
    kind: 'vm.import-vtpm-certificate',
    configure: (command) =>
      command.requiredOption(
        '--ca <file>',
        'certificates of its authority and of those between, PEM',
      ),
    request: ([certificate = ''], { ca }) => ({
      certificate: readPem(certificate),
      authorities: readPem(ca),
    }),
    examples: [
      'sigillo vm vtpm import-certificate web1 web1.pem --ca corporate-ca.pem',
      'sigillo vm vtpm import-certificate web1 web1.pem --ca corporate-ca.pem --json',
    ],
  })
  addVmTask(vtpm, {
    usage: 'accept-state <vm>',
    kind: 'vm.accept-vtpm-state',
    request: () => ({}),
    destroys: ([name]) =>
      `what the virtual TPM of VM ${name} did since that state is undone, counters too`,
    examples: [
      'sigillo vm vtpm accept-state web1 --yes',
      'sigillo vm vtpm accept-state web1 --yes --json',
    ],
  })
  addVmTask(vtpm, {
    usage: 'restore-state <vm>',
    kind: 'vm.restore-vtpm-state',
    request: () => ({}),
    examples: ['sigillo vm vtpm restore-state web1', 'sigillo vm vtpm restore-state web1 --json'],
  })
}
