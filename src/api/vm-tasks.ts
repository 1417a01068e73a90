import type { Static, TObject } from 'typebox'
import { VmExport, VmImport, VmReceive, VmSend } from './agent-vm-moves.js'
import { Empty, Exactly, Name } from './common.js'
import type { VmReport } from './control-plane.js'
import { DiskAttach } from './disk-attachment.js'
import {
  DiskCreate,
  DiskSize,
  KeysRewrap,
  VmClone,
  VmCreate,
  VmEncrypt,
  VmPartsChange,
  VmRecrypt,
  VmStop,
} from './host-agent.js'
import type { Privilege } from './privileges.js'
import { ApplyPolicy } from './vm-policy.js'
import { VmRewrap } from './vm-rewrap.js'
import { SnapshotCreate, SnapshotRef, SnapshotRevert } from './vm-snapshots.js'
import { VtpmCertificateImport } from './vtpm.js'

/** What of a VM decides which privileges an operation needs. */
export type KnownVm = Pick<VmReport, 'provider' | 'disks' | 'vtpm'>

/** One kind of task: the one description that the control plane, the agent and the command line share. */
interface KindOf<S extends TObject> {
  readonly summary: string
  /** A VM that exists; or a host, on which something is made or done. */
  readonly on: 'vm' | 'host'
  readonly request: S
  /** Whether it can be ended early once it was begun. Before that, every task can. */
  readonly cancellable: boolean
  /** For kinds that make a VM: it gets the id of the task. */
  readonly makesVm?: true
  /** For kinds that bring a VM of another host. */
  readonly bringsVm?: true
  /**
   * All that the caller has to have, each on what it is checked on: the VM, or the cluster of its host. Those of the
   * Cryptographer come beside the plain ones.
   */
  readonly privileges: (request: Static<S>, vm: KnownVm | undefined) => readonly Privilege[]
}

/**
 * Every operation on VMs that the control plane can have done. What an entry here is to do on a host is said by the
 * entry of the same kind in `TASK_HANDLERS` of the agent.
 *
 * @see VMware vSphere Security, "Cryptographic Operations Privileges", for which privilege gates what
 */
export const VM_TASKS = {
  'vm.create': kind({
    summary: 'Make a VM, encrypted unless it is to be plain',
    on: 'host',
    request: VmCreate,
    cancellable: true,
    makesVm: true,
    privileges: ({ plain }) => [
      'VirtualMachine.Inventory.Create',
      ...(plain ? [] : needs('Cryptographer.EncryptNew')),
    ],
  }),
  'vm.start': kind({
    summary: 'Start a VM with its disks and virtual TPM',
    on: 'vm',
    request: Empty,
    cancellable: false,
    privileges: () => ['VirtualMachine.Interact.PowerOn'],
  }),
  'vm.stop': kind({
    summary: 'Stop a VM: ask the guest, then power off',
    on: 'vm',
    request: VmStop,
    cancellable: true,
    privileges: () => ['VirtualMachine.Interact.PowerOff'],
  }),
  'vm.unlock': kind({
    summary: 'Try now to have the keys of a locked VM',
    on: 'vm',
    request: Empty,
    cancellable: false,
    privileges: () => ['Cryptographer.RegisterVM'],
  }),
  'vm.delete': kind({
    summary: 'Delete a stopped VM: key slots are erased first',
    on: 'vm',
    request: Empty,
    cancellable: false,
    privileges: () => ['VirtualMachine.Inventory.Delete'],
  }),
  'vm.encrypt': kind({
    summary: 'Encrypt a stopped VM, or parts of it',
    on: 'vm',
    request: VmEncrypt,
    cancellable: true,
    privileges: () => ['Cryptographer.Encrypt'],
  }),
  'vm.decrypt': kind({
    summary: 'Decrypt a stopped VM, or parts of it: disks first, then the home',
    on: 'vm',
    request: VmPartsChange,
    cancellable: true,
    privileges: () => ['Cryptographer.Decrypt'],
  }),
  'vm.recrypt': kind({
    summary: 'Encrypt a stopped VM, or parts of it, under new data keys',
    on: 'vm',
    request: VmRecrypt,
    cancellable: true,
    privileges: () => ['Cryptographer.Recrypt'],
  }),
  'vm.rewrap': kind({
    summary: 'Have the keys of a VM wrapped anew, by its key provider or another; it may run',
    on: 'vm',
    request: VmRewrap,
    cancellable: true,
    privileges: () => ['Cryptographer.Recrypt'],
  }),
  'vm.apply-policy': kind({
    summary: 'Bring a stopped VM to what storage policies ask of its home and disks',
    on: 'vm',
    request: ApplyPolicy,
    cancellable: true,
    privileges: (request, vm) => ['StorageProfile.Apply', ...policyPrivileges(request, vm)],
  }),
  'vm.clone': kind({
    summary: 'Make a VM like a stopped one, with an id and keys of its own',
    on: 'vm',
    request: VmClone,
    cancellable: true,
    makesVm: true,
    privileges: (_, vm) => [
      'VirtualMachine.Provisioning.Clone',
      'VirtualMachine.Inventory.Create',
      ...(isEncrypted(vm) ? needs('Cryptographer.Clone') : []),
    ],
  }),
  'vm.add-disk': kind({
    summary: 'Add a disk to a VM, which may run',
    on: 'vm',
    request: DiskCreate,
    cancellable: true,
    privileges: ({ plain }, vm) => [
      'VirtualMachine.Config.AddNewDisk',
      ...(isEncrypted(vm) ? needs('Cryptographer.AddDisk') : []),
      ...(isEncrypted(vm) && !plain ? needs('Cryptographer.EncryptNew') : []),
    ],
  }),
  'vm.grow-disk': kind({
    summary: 'Make a disk of a VM larger, which may run',
    on: 'vm',
    request: Exactly({ disk: Name, ...DiskSize.properties }),
    cancellable: false,
    privileges: () => ['VirtualMachine.Config.DiskExtend'],
  }),
  'vm.remove-disk': kind({
    summary:
      'Remove a disk from a VM, which may run, and delete it: its key slots are erased first',
    on: 'vm',
    request: Exactly({ disk: Name }),
    cancellable: false,
    privileges: () => ['VirtualMachine.Config.RemoveDisk'],
  }),
  'vm.attach-disk': kind({
    summary: 'Attach a disk that was detached, or an image; the VM may run',
    on: 'vm',
    request: DiskAttach,
    cancellable: true,
    privileges: (_, vm) => [
      'VirtualMachine.Config.AddExistingDisk',
      ...(isEncrypted(vm) ? needs('Cryptographer.AddDisk') : []),
    ],
  }),
  'vm.detach-disk': kind({
    summary: 'Detach a disk with its wrapped key; the VM may run',
    on: 'vm',
    request: Exactly({ disk: Name }),
    cancellable: false,
    privileges: () => ['VirtualMachine.Config.RemoveDisk'],
  }),
  'vm.add-vtpm': kind({
    summary: 'Add a virtual TPM to a stopped VM whose home is encrypted',
    on: 'vm',
    request: Empty,
    cancellable: true,
    privileges: () => ['VirtualMachine.Config.AddRemoveDevice', 'Cryptographer.EncryptNew'],
  }),
  'vm.remove-vtpm': kind({
    summary: 'Take the virtual TPM out of a stopped VM',
    on: 'vm',
    request: Empty,
    cancellable: false,
    privileges: () => ['VirtualMachine.Config.AddRemoveDevice'],
  }),
  'vm.export': kind({
    summary: 'Write a stopped VM to a directory as it is, encrypted; or hand it over',
    on: 'vm',
    request: VmExport,
    cancellable: true,
    privileges: ({ move }) =>
      move
        ? ['VirtualMachine.Inventory.Unregister', 'Resource.ColdMigrate', 'Cryptographer.Migrate']
        : ['VirtualMachine.Provisioning.Clone', 'Cryptographer.Access'],
  }),
  'vm.import': kind({
    summary: 'Make an exported VM one of this host, with the id and the keys that it has',
    on: 'host',
    request: VmImport,
    cancellable: true,
    bringsVm: true,
    privileges: () => ['VirtualMachine.Inventory.Register', 'Cryptographer.RegisterVM'],
  }),
  'vm.send': kind({
    summary: 'Move a VM that runs to a host that listens for it, while its guest goes on',
    on: 'vm',
    request: VmSend,
    cancellable: true,
    privileges: () => ['Resource.HotMigrate', 'Cryptographer.Migrate'],
  }),
  'vm.receive': kind({
    summary: 'Listen for one VM that runs on another host, and take it',
    on: 'host',
    request: VmReceive,
    cancellable: true,
    bringsVm: true,
    privileges: () => ['Resource.HotMigrate', 'Cryptographer.RegisterVM'],
  }),
  'vm.take-back': kind({
    summary: 'Unlock a VM that was handed over and that no host took',
    on: 'vm',
    request: Empty,
    cancellable: false,
    privileges: () => ['VirtualMachine.Inventory.Register', 'Cryptographer.RegisterVM'],
  }),
  'vm.replace-vtpm-certificates': kind({
    summary: 'Have the certificates of the virtual TPM of a stopped VM issued anew by the site',
    on: 'vm',
    request: Empty,
    cancellable: true,
    privileges: () => ['VirtualMachine.Config.AddRemoveDevice'],
  }),
  'vm.import-vtpm-certificate': kind({
    summary: 'Put the certificate of an authority elsewhere into the virtual TPM of a stopped VM',
    on: 'vm',
    request: VtpmCertificateImport,
    cancellable: true,
    privileges: () => ['VirtualMachine.Config.AddRemoveDevice'],
  }),
  'vm.accept-vtpm-state': kind({
    summary: 'Start a stopped VM from a state of its virtual TPM that is refused as an older one',
    on: 'vm',
    request: Empty,
    cancellable: false,
    privileges: () => ['VirtualMachine.Config.AddRemoveDevice'],
  }),
  'vm.restore-vtpm-state': kind({
    summary: 'Put the copy of the last state of a virtual TPM in the place of a damaged one',
    on: 'vm',
    request: Empty,
    cancellable: false,
    privileges: () => ['VirtualMachine.Config.AddRemoveDevice'],
  }),
  'vm.create-snapshot': kind({
    summary: 'Keep a VM as it is now, with its memory if it runs, to go back to it',
    on: 'vm',
    request: SnapshotCreate,
    cancellable: true,
    privileges: () => ['VirtualMachine.State.CreateSnapshot'],
  }),
  'vm.revert-snapshot': kind({
    summary: 'Make a stopped VM what it was in a snapshot; one with memory leaves it running',
    on: 'vm',
    request: SnapshotRevert,
    cancellable: true,
    privileges: () => ['VirtualMachine.State.RevertToSnapshot'],
  }),
  'vm.remove-snapshot': kind({
    summary: 'Delete a snapshot of a VM: its key slots are erased first',
    on: 'vm',
    request: SnapshotRef,
    cancellable: false,
    privileges: () => ['VirtualMachine.State.RemoveSnapshot'],
  }),
  'keys.rewrap': kind({
    summary: 'Have keys of the VMs of a host wrapped anew: their data keys stay (shallow recrypt)',
    on: 'host',
    request: KeysRewrap,
    cancellable: false,
    privileges: () => ['Cryptographer.Recrypt'],
  }),
} as const

export type VmTaskKind = keyof typeof VM_TASKS
export type VmTaskRequest<K extends VmTaskKind> = Static<(typeof VM_TASKS)[K]['request']>

export function isVmTaskKind(text: string): text is VmTaskKind {
  return Object.hasOwn(VM_TASKS, text)
}

function kind<S extends TObject>(description: KindOf<S>): KindOf<S> {
  return description
}

function needs(...privileges: readonly Privilege[]): readonly Privilege[] {
  return privileges
}

/** What becomes encrypted, plain, or of another key provider, each needs its own. */
function policyPrivileges(
  { home, disks = [] }: ApplyPolicy,
  vm: KnownVm | undefined,
): readonly Privilege[] {
  const encryptedDisks = new Map(vm?.disks.map(({ name, encrypted }) => [name, encrypted]))
  const parts = [
    ...(home ? [{ wanted: home, isNow: isEncrypted(vm) }] : []),
    ...disks.map((wanted) => ({ wanted, isNow: encryptedDisks.get(wanted.name) === true })),
  ]
  const isOther = ({ provider }: { readonly provider?: string }) =>
    provider !== undefined && provider !== vm?.provider
  return [
    ...(parts.some(({ wanted, isNow }) => wanted.encrypted && !isNow)
      ? needs('Cryptographer.Encrypt')
      : []),
    ...(parts.some(({ wanted, isNow }) => !wanted.encrypted && isNow)
      ? needs('Cryptographer.Decrypt')
      : []),
    ...(parts.some(({ wanted, isNow }) => wanted.encrypted && isNow && isOther(wanted))
      ? needs('Cryptographer.Recrypt')
      : []),
  ]
}

function isEncrypted(vm: KnownVm | undefined): boolean {
  return vm?.provider !== undefined
}
