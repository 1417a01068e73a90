/** What a privilege is checked on: the whole site, a cluster, or one VM. */
export type PrivilegeObject = 'site' | 'cluster' | 'vm'

interface PrivilegeDescription {
  /** What who has it may do, in a line. */
  readonly allows: string
  readonly checkedOn: PrivilegeObject
}

/**
 * Every privilege there is. Names are vSphere's where it has the privilege; what is allowed is what operations here ask for.
 *
 * Encrypting privileges are needed beside the plain ones: creating an encrypted VM needs `VirtualMachine.Inventory.Create`
 * and `Cryptographer.EncryptNew`. A name is never changed: roles of sites are made of them.
 */
export const PRIVILEGES = {
  'Cryptographer.Access': on('vm', 'use what is encrypted directly: console, download of disks'),
  'Cryptographer.AddDisk': on('vm', 'add an encrypted disk to an encrypted VM'),
  'Cryptographer.Clone': on('vm', 'clone an encrypted VM'),
  'Cryptographer.Decrypt': on('vm', 'decrypt a VM or a disk'),
  'Cryptographer.Encrypt': on('vm', 'encrypt an existing VM or disk'),
  'Cryptographer.EncryptNew': on('cluster', 'create encrypted VMs and disks'),
  'Cryptographer.ManageEncryptionPolicy': on('site', 'change storage policies that encrypt'),
  'Cryptographer.ManageKeys': on('site', 'make, change, back up and delete keys of providers'),
  'Cryptographer.ManageKeyServers': on('site', 'add, change and remove key providers and servers'),
  'Cryptographer.Migrate': on('vm', 'migrate, export and import an encrypted VM'),
  'Cryptographer.ReadKeyServersInfo': on('site', 'see key providers, key servers and their keys'),
  'Cryptographer.Recrypt': on('vm', 'recrypt a VM or a disk under new keys'),
  'Cryptographer.RegisterHost': on('cluster', 'make a host ready for encrypted VMs'),
  'Cryptographer.RegisterVM': on('cluster', 'register an encrypted VM on a host'),
  'VirtualMachine.Inventory.Create': on('cluster', 'create VMs'),
  'VirtualMachine.Inventory.Delete': on('vm', 'delete a VM with its disks'),
  'VirtualMachine.Inventory.Register': on('cluster', 'import or adopt a VM'),
  'VirtualMachine.Inventory.Unregister': on('vm', 'export a VM'),
  'VirtualMachine.Interact.PowerOn': on('vm', 'start a VM'),
  'VirtualMachine.Interact.PowerOff': on('vm', 'stop a VM'),
  'VirtualMachine.Config.AddNewDisk': on('vm', 'add a new disk'),
  'VirtualMachine.Config.AddExistingDisk': on('vm', 'attach a disk that exists'),
  'VirtualMachine.Config.RemoveDisk': on('vm', 'detach or remove a disk'),
  'VirtualMachine.Config.DiskExtend': on('vm', 'make a disk larger'),
  'VirtualMachine.Config.AddRemoveDevice': on('vm', 'add, change and remove a virtual TPM'),
  'VirtualMachine.Provisioning.Clone': on('vm', 'clone a VM'),
  'VirtualMachine.State.CreateSnapshot': on('vm', 'take a snapshot'),
  'VirtualMachine.State.RevertToSnapshot': on('vm', 'go back to a snapshot'),
  'VirtualMachine.State.RemoveSnapshot': on('vm', 'remove a snapshot'),
  'Resource.ColdMigrate': on('vm', 'move a VM that is powered off'),
  'Resource.HotMigrate': on('vm', 'move a VM that runs'),
  'StorageProfile.Update': on('site', 'make, change and remove storage policies'),
  'StorageProfile.Apply': on('vm', 'give a VM or a disk another storage policy'),
  'System.Read': on('vm', 'see VMs, clusters, hosts and events'),
  'Authorization.ModifyRoles': on('site', 'make, change and remove roles'),
  'Authorization.ModifyPermissions': on('vm', 'grant and revoke; users, accounts and their tokens'),
  'Host.Inventory.EditCluster': on('cluster', 'make clusters, and the tags of VMs'),
  'Task.Cancel': on('vm', 'cancel tasks of others'),
  'TrustedAdmin.ReadTrustedHosts': on('site', 'see hosts, base images and policies of attestation'),
  'TrustedAdmin.ManageTrustedHosts': on('site', 'admit and revoke hosts; base images, policies'),
  'TrustedAdmin.ReadKMSTrust': on('site', 'see trusted key providers and their key servers'),
  'TrustedAdmin.ManageKMSTrust': on('site', 'trusted key providers, their key servers and keys'),
  'TrustedAdmin.ReadAttestingSSO': on('site', 'see whose word is taken: TPM authorities, signers'),
  'TrustedAdmin.ManageAttestingSSO': on('site', 'TPM authorities, signers, keys that sign tokens'),
} as const satisfies Readonly<Record<string, PrivilegeDescription>>

export type Privilege = keyof typeof PRIVILEGES

function on<O extends PrivilegeObject>(checkedOn: O, allows: string) {
  return { allows, checkedOn }
}
