import { type Static, Type } from 'typebox'
import { Empty, Exactly, Name, Next, PageQuery, Sentence, Time, Uuid } from './common.js'
import { DiskCreate, VmCreate } from './host-agent.js'
import { onObject, onSite } from './needs.js'
import { operation } from './operation.js'
import { expiresInSeconds, VmTaskView } from './tasks.js'

const BASE = '/control-plane/v1'

/** What a storage policy asks of the home or a disk of a VM. */
const Rule = {
  encrypted: Type.Boolean(),
  provider: Type.Optional({
    ...Name,
    description: 'key provider; else that of the VM, or the default of its cluster',
  }),
}

export const StoragePolicyView = Exactly({
  name: Name,
  ...Rule,
  builtIn: Type.Boolean(),
  createdAt: Type.Optional(Time),
  changedAt: Type.Optional(Time),
  changedBy: Type.Optional(Type.String()),
  note: Type.Optional(Sentence),
})
export type StoragePolicyView = Static<typeof StoragePolicyView>

const PolicyParams = Exactly({ policy: Name })

export const listStoragePolicies = operation({
  id: 'listStoragePolicies',
  needs: onObject('System.Read'),
  summary:
    'Storage policies: whether homes and disks of VMs are encrypted, and under which key provider',
  method: 'GET',
  path: `${BASE}/storage-policies`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ policies: Type.Array(StoragePolicyView), next: Next }),
})

export const getStoragePolicy = operation({
  id: 'getStoragePolicy',
  needs: onObject('System.Read'),
  summary: 'One storage policy',
  method: 'GET',
  path: `${BASE}/storage-policies/:policy`,
  status: 200,
  params: PolicyParams,
  answer: StoragePolicyView,
})

export const createStoragePolicy = operation({
  id: 'createStoragePolicy',
  needs: onSite('StorageProfile.Update', 'Cryptographer.ManageEncryptionPolicy'),
  summary: 'Make a storage policy',
  method: 'POST',
  path: `${BASE}/storage-policies`,
  status: 201,
  body: Exactly({ name: Name, ...Rule }),
  answer: StoragePolicyView,
  errors: ['CONFLICT', 'POLICY_BUILT_IN'],
  example: { name: 'gold-disks', encrypted: true, provider: 'gold' },
})

export const changeStoragePolicy = operation({
  id: 'changeStoragePolicy',
  needs: onSite('StorageProfile.Update', 'Cryptographer.ManageEncryptionPolicy'),
  summary:
    'Change a storage policy: parts of VMs that have it are out of date until it is applied again',
  method: 'PUT',
  path: `${BASE}/storage-policies/:policy`,
  status: 200,
  params: PolicyParams,
  body: Exactly(Rule),
  answer: StoragePolicyView,
  errors: ['POLICY_BUILT_IN'],
})

export const deleteStoragePolicy = operation({
  id: 'deleteStoragePolicy',
  needs: onSite('StorageProfile.Update', 'Cryptographer.ManageEncryptionPolicy'),
  summary: 'Delete a storage policy that no VM has',
  method: 'DELETE',
  path: `${BASE}/storage-policies/:policy`,
  status: 200,
  params: PolicyParams,
  answer: Empty,
  errors: ['POLICY_BUILT_IN', 'POLICY_IN_USE'],
})

export const PolicyChange = Exactly({
  home: Type.Optional({ ...Name, description: 'policy of the home; without it, that stays' }),
  disks: Type.Optional(Type.Array(Exactly({ name: Name, policy: Name }), { maxItems: 16 })),
})

export const planVmPolicies = operation({
  id: 'planVmPolicies',
  needs: onObject('StorageProfile.Apply'),
  summary: 'What a change of storage policies of a VM would do, step by step',
  method: 'POST',
  path: `${BASE}/vms/:vmId/policies/plan`,
  status: 200,
  params: Exactly({ vmId: Uuid }),
  body: PolicyChange,
  answer: Exactly({ steps: Type.Array(Sentence, { description: 'in their order; none: as is' }) }),
  errors: [
    'HOST_ENCRYPTION_OFF',
    'POLICY_NO_PROVIDER',
    'POLICY_PROVIDERS',
    'VM_DISK_NOT_FOUND',
    'VM_HOME_NEEDED',
    'VM_HOME_PLAIN',
    'VM_KEYS_NEEDED',
    'VM_NOT_FOUND',
    'VM_RUNNING',
    'VM_SNAPSHOTS',
    'VM_VTPM_NEEDS_HOME',
  ],
  example: { home: 'plain', disks: [{ name: 'root', policy: 'plain' }] },
})

const compare = Type.Optional(
  Type.Union([Type.Literal('samples'), Type.Literal('all')], {
    description:
      'how much of a copied disk is compared with its original: some MiB (default), or all',
  }),
)

export const giveVmPolicies = operation({
  id: 'giveVmPolicies',
  needs: onObject('StorageProfile.Apply'),
  summary: 'Give home and disks of a VM storage policies, and have its host bring it to them',
  method: 'POST',
  path: `${BASE}/vms/:vmId/policies`,
  status: 200,
  params: Exactly({ vmId: Uuid }),
  body: Exactly({ ...PolicyChange.properties, compare, expiresInSeconds }),
  answer: Exactly({
    steps: Type.Array(Sentence),
    task: Type.Optional({ ...VmTaskView, description: 'none where the VM is as they ask' }),
  }),
  errors: [
    'HOST_ENCRYPTION_OFF',
    'POLICY_NO_PROVIDER',
    'POLICY_PROVIDERS',
    'TASK_QUEUE_FULL',
    'VM_DISK_NOT_FOUND',
    'VM_HOME_NEEDED',
    'VM_HOME_PLAIN',
    'VM_KEYS_NEEDED',
    'VM_NOT_FOUND',
    'VM_RUNNING',
    'VM_SNAPSHOTS',
    'VM_VTPM_NEEDS_HOME',
  ],
  example: { home: 'gold-disks', disks: [{ name: 'scratch', policy: 'plain' }] },
})

export const VmByPolicy = Exactly({
  hostId: Type.Optional(Name),
  cluster: Type.Optional(Name),
  name: Name,
  policy: { ...Name, description: 'of the home, and of disks that name none' },
  memoryMib: VmCreate.properties.memoryMib,
  cpus: VmCreate.properties.cpus,
  vtpm: VmCreate.properties.vtpm,
  disks: Type.Array(
    Exactly({
      name: Name,
      sizeOctets: DiskCreate.properties.sizeOctets,
      from: DiskCreate.properties.from,
      policy: Type.Optional(Name),
    }),
    { maxItems: 16 },
  ),
  expiresInSeconds,
})
export type VmByPolicy = Static<typeof VmByPolicy>

export const createVmByPolicy = operation({
  id: 'createVmByPolicy',
  needs: onObject('VirtualMachine.Inventory.Create', 'StorageProfile.Apply'),
  summary: 'Have a VM made on a host, encrypted as storage policies ask',
  method: 'POST',
  path: `${BASE}/vms`,
  status: 201,
  body: VmByPolicy,
  answer: VmTaskView,
  errors: [
    'HOST_ENCRYPTION_OFF',
    'NOT_FOUND',
    'POLICY_NO_PROVIDER',
    'POLICY_PROVIDERS',
    'TASK_HOST',
    'TASK_QUEUE_FULL',
    'VM_HOME_PLAIN',
  ],
  example: {
    cluster: 'lab',
    name: 'db1',
    policy: 'gold-disks',
    disks: [{ name: 'root', sizeOctets: 20 * 2 ** 30 }],
  },
})
