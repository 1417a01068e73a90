import { type Static, Type } from 'typebox'
import { HostState } from './attestation.js'
import { Exactly, Name, Next, PageQuery, Sentence, Time, Uuid } from './common.js'
import { VmView } from './control-plane.js'
import { onObject } from './needs.js'
import { operation } from './operation.js'
import { Tag } from './tags.js'

const BASE = '/control-plane/v1'

/** As vSphere's host encryption mode. */
export const EncryptionMode = Type.Union([
  Type.Literal('incapable'),
  Type.Literal('prepared'),
  Type.Literal('safe'),
  Type.Literal('pending-incapable'),
])
export type EncryptionMode = Static<typeof EncryptionMode>

export const EncryptionSetting = Type.Union(
  [Type.Literal('on-demand'), Type.Literal('on'), Type.Literal('off')],
  { description: '`on-demand`: the first encrypted VM turns it on' },
)

export const InventoryHostView = Exactly({
  hostId: Name,
  cluster: Name,
  attestation: HostState,
  attestationChangedAt: Time,
  lastSeenAt: Type.Optional({ ...Time, description: 'its last call of the control plane' }),
  encryption: Exactly({
    mode: EncryptionMode,
    reason: Type.Optional(Sentence),
    setting: EncryptionSetting,
    setBy: Type.Optional(Type.String()),
    setAt: Type.Optional(Time),
  }),
  vms: Exactly({ total: Type.Integer(), running: Type.Integer(), encrypted: Type.Integer() }),
})
export type InventoryHostView = Static<typeof InventoryHostView>

const HostParams = Exactly({ hostId: Name })
const VmParams = Exactly({ vmId: Uuid })

export const listInventoryHosts = operation({
  id: 'listInventoryHosts',
  needs: onObject('System.Read'),
  summary: 'Hosts: attestation, encryption mode, VMs',
  method: 'GET',
  path: `${BASE}/hosts`,
  status: 200,
  query: Exactly({
    cluster: Type.Optional(Name),
    attestation: Type.Optional(HostState),
    mode: Type.Optional(EncryptionMode),
    ...PageQuery,
  }),
  answer: Exactly({ hosts: Type.Array(InventoryHostView), next: Next }),
})

export const getInventoryHost = operation({
  id: 'getInventoryHost',
  needs: onObject('System.Read'),
  summary: 'One host',
  method: 'GET',
  path: `${BASE}/hosts/:hostId`,
  status: 200,
  params: HostParams,
  answer: InventoryHostView,
})

export const setHostEncryption = operation({
  id: 'setHostEncryption',
  needs: onObject('Cryptographer.RegisterHost'),
  summary: 'Turn encryption on a host on or off, or have its first encrypted VM turn it on',
  method: 'PUT',
  path: `${BASE}/hosts/:hostId/encryption`,
  status: 200,
  params: HostParams,
  body: Exactly({ setting: EncryptionSetting }),
  answer: InventoryHostView,
  errors: [
    'CONFLICT',
    'HOST_ENCRYPTION_INCAPABLE',
    'HOST_ENCRYPTION_IN_USE',
    'HOST_ENCRYPTION_PENDING',
  ],
  example: { setting: 'on' },
})

export const getVm = operation({
  id: 'getVm',
  needs: onObject('System.Read'),
  summary: 'One VM as its host last reported it: disks, keys, storage policies, tags',
  method: 'GET',
  path: `${BASE}/vms/:vmId`,
  status: 200,
  params: VmParams,
  answer: VmView,
  errors: ['VM_NOT_FOUND'],
})

export const changeVmTags = operation({
  id: 'changeVmTags',
  needs: onObject('Host.Inventory.EditCluster'),
  summary: 'Add and remove tags of a VM, which permissions can be granted on',
  method: 'POST',
  path: `${BASE}/vms/:vmId/tags`,
  status: 200,
  params: VmParams,
  body: Exactly({
    add: Type.Optional(Type.Array(Tag, { maxItems: 32 })),
    remove: Type.Optional(Type.Array(Tag, { maxItems: 32 })),
  }),
  answer: VmView,
  errors: ['VM_NOT_FOUND'],
  example: { add: ['prod/web'], remove: ['test'] },
})
