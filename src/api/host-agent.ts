import { type Static, Type } from 'typebox'
import { Empty, Exactly, Name, Octets, Sentence, Time, Uuid } from './common.js'
import { VmLock, VmState } from './control-plane.js'
import { DefaultInForce } from './default-provider.js'
import { HostKeyKind } from './host-keys.js'
import { Assurance, Purpose } from './key-provider.js'
import { operation } from './operation.js'

/** The unix socket of a host agent. Whoever may open the socket may do all of it: mode 0600, root. */
const BASE = '/v1'

export const AgentState = Type.Union([
  Type.Literal('starting'),
  Type.Literal('not-enrolled'),
  Type.Literal('awaiting-approval'),
  Type.Literal('attested'),
  Type.Literal('not-attested'),
  Type.Literal('refused'),
  Type.Literal('authority-unreachable'),
  Type.Literal('tpm-unreachable'),
])
export type AgentState = Static<typeof AgentState>

export const AgentStatus = Exactly({
  hostId: Name,
  state: AgentState,
  authorityUrl: Type.String(),
  cluster: Type.Optional(Name),
  tokenExpiresAt: Type.Optional(Time),
  nextAttestationAt: Type.Optional(Time),
  lastError: Type.Optional(Exactly({ code: Type.String(), message: Type.String(), at: Time })),
  tpm: Type.Optional(Type.String()),
  lastAttestationMs: Type.Optional(Type.Number()),
  bindingKey: Type.Boolean(),
  defaultProvider: Type.Optional(DefaultInForce),
})
export type AgentStatus = Static<typeof AgentStatus>

export const getStatus = operation({
  id: 'getStatus',
  summary: 'State of the agent',
  method: 'GET',
  path: `${BASE}/status`,
  status: 200,
  answer: AgentStatus,
})

export const attestNow = operation({
  id: 'attestNow',
  summary: 'Enrol if need be, and attest now',
  method: 'POST',
  path: `${BASE}/attestation`,
  status: 200,
  body: Empty,
  answer: AgentStatus,
})

export const getToken = operation({
  id: 'getToken',
  summary: 'Claims of the current token, without the token',
  method: 'GET',
  path: `${BASE}/token`,
  status: 200,
  answer: Exactly({ claims: Type.Record(Type.String(), Type.Unknown()) }),
})

export const createEvidence = operation({
  id: 'createEvidence',
  summary: 'A quote over PCRs of this host with a nonce of the caller, for verification elsewhere',
  method: 'POST',
  path: `${BASE}/evidence`,
  status: 201,
  body: Exactly({
    qualifyingData: Octets(32, 'nonce of the caller'),
    pcrs: Type.Array(Type.Integer({ minimum: 0, maximum: 23 }), {
      minItems: 1,
      maxItems: 24,
      uniqueItems: true,
    }),
  }),
  answer: Exactly({
    akPublic: Octets(1024, 'TPMT_PUBLIC'),
    attest: Octets(1024, 'TPMS_ATTEST'),
    signature: Octets(1024, 'TPMT_SIGNATURE'),
    pcrs: Type.Array(Exactly({ pcr: Type.Integer(), digest: Type.String() })),
    eventLog: Type.Optional(Octets(1024 * 1024, 'boot event log')),
  }),
})

export const probeKeys = operation({
  id: 'probeKeys',
  summary: 'Have a throw-away key wrapped and unwrapped by a provider, and compare',
  method: 'POST',
  path: `${BASE}/keys/probe`,
  status: 200,
  body: Exactly({ provider: Name, assurance: Assurance }),
  answer: Exactly({ wrapMs: Type.Number(), unwrapMs: Type.Number() }),
})

export const KeyView = Exactly({
  vmId: Uuid,
  object: Name,
  purpose: Purpose,
  provider: Name,
  version: Type.Integer(),
})
export type KeyView = Static<typeof KeyView>

export const listKeys = operation({
  id: 'listKeys',
  summary: 'Wrapped keys of the VMs of this host',
  method: 'GET',
  path: `${BASE}/keys`,
  status: 200,
  answer: Exactly({ keys: Type.Array(KeyView) }),
})

const HostKeysNotRestored = Exactly({ code: Type.String(), message: Sentence })
export type HostKeysNotRestored = Static<typeof HostKeysNotRestored>

export const listHeldKeys = operation({
  id: 'listHeldKeys',
  summary: 'Keys that the control plane delivered to this host, without the keys',
  method: 'GET',
  path: `${BASE}/keys/held`,
  status: 200,
  answer: Exactly({
    providers: Type.Array(
      Exactly({
        name: Name,
        providerId: Uuid,
        kind: HostKeyKind,
        tpmRequired: Type.Boolean(),
        current: Type.Optional(Type.Integer()),
        versions: Type.Array(Type.Integer(), { description: 'in memory now' }),
        lacking: Type.Array(Type.Integer(), { description: 'to be held, and not here' }),
        kept: Type.Array(Type.Integer(), { description: 'on the disk, sealed to the TPM' }),
      }),
    ),
    notRestored: Type.Optional(HostKeysNotRestored),
    lastError: Type.Optional(Type.String()),
  }),
})

const MIB = 1024 * 1024

export const DiskCreate = Exactly({
  name: Name,
  sizeOctets: Type.Optional(Type.Integer({ minimum: MIB, maximum: 2 ** 48 })),
  from: Type.Optional(
    Type.String({
      maxLength: 4096,
      description: 'raw or qcow2 image on the host to fill the disk from',
    }),
  ),
  plain: Type.Optional(
    Type.Boolean({ description: 'a disk that is not encrypted, in an encrypted VM' }),
  ),
})
export type DiskCreate = Static<typeof DiskCreate>

export const VmCreate = Exactly({
  name: Name,
  /** Without it, the default of this host. */
  provider: Type.Optional(Name),
  plain: Type.Optional(
    Type.Boolean({ description: 'a VM that is not encrypted, without a key provider' }),
  ),
  memoryMib: Type.Optional(Type.Integer({ minimum: 64, maximum: 1_048_576 })),
  cpus: Type.Optional(Type.Integer({ minimum: 1, maximum: 512 })),
  vtpm: Type.Optional(Type.Boolean()),
  disks: Type.Array(DiskCreate, { maxItems: 16 }),
})
export type VmCreate = Static<typeof VmCreate>

/** Parts of a VM: without any, all of it that the operation is about. */
export const VmParts = Exactly({
  home: Type.Optional(Type.Boolean()),
  vtpm: Type.Optional(Type.Boolean()),
  disks: Type.Optional(Type.Array(Name, { maxItems: 16 })),
})
export type VmParts = Static<typeof VmParts>

const compare = Type.Optional(
  Type.Union([Type.Literal('samples'), Type.Literal('all')], {
    description:
      'how much of a copied disk is compared with its original: some MiB (default), or all',
  }),
)

export const VmEncrypt = Exactly({
  ...VmParts.properties,
  provider: Type.Optional(Name),
  compare,
})

/** Of a decryption, and of new data keys. */
export const VmPartsChange = Exactly({ ...VmParts.properties, compare })

export const VmRecrypt = Exactly({
  ...VmParts.properties,
  provider: Type.Optional({ ...Name, description: 'another key provider, for all parts' }),
  compare,
})

export const VmClone = Exactly({
  name: Name,
  vtpm: Type.Optional(
    Type.Union([Type.Literal('new'), Type.Literal('copy'), Type.Literal('none')], {
      description: 'a new virtual TPM (default where the VM has one), a copy of it, or none',
    }),
  ),
  compare,
})

export const VmStop = Exactly({
  graceSeconds: Type.Optional(Type.Integer({ minimum: 0, maximum: 3600 })),
})

/** Larger than the disk is. */
export const DiskSize = Exactly({
  sizeOctets: Type.Integer({ minimum: MIB, maximum: 2 ** 48 }),
})

export const KeysRewrap = Exactly({ provider: Type.Optional(Name) })

export const VmDetails = Exactly({
  vmId: Uuid,
  name: Name,
  state: VmState,
  /** Why it is locked, if it is. */
  lock: Type.Optional(Exactly({ ...VmLock.properties, message: Sentence })),
  provider: Type.Optional(Name),
  memoryMib: Type.Optional(Type.Integer()),
  cpus: Type.Optional(Type.Integer()),
  vtpm: Type.Boolean(),
  nvramEncrypted: Type.Boolean({ description: 'whether the variables of the firmware are' }),
  /** Of a VM that runs: its virtual TPM ended before it, and answers the guest no more. */
  vtpmEnded: Type.Optional(Type.Literal(true)),
  vtpmCertificates: Type.Optional(Type.Array(Type.String())),
  disks: Type.Array(Exactly({ name: Name, sizeOctets: Type.Integer(), format: Type.String() })),
  accelerator: Type.Optional(Type.String()),
  pid: Type.Optional(Type.Integer()),
  /** Of a VM that was handed over to another host, and is locked here. */
  handedOverAt: Type.Optional(Time),
  createdAt: Time,
})
export type VmDetails = Static<typeof VmDetails>

export const TaskView = Exactly({
  taskId: Uuid,
  kind: Type.String(),
  state: Type.Union([
    Type.Literal('running'),
    Type.Literal('done'),
    Type.Literal('failed'),
    Type.Literal('cancelled'),
  ]),
  step: Type.String(),
  percent: Type.Integer({ minimum: 0, maximum: 100 }),
  /** What is copied and was copied, where the task copies disks. */
  octets: Type.Optional(Exactly({ done: Type.Integer(), total: Type.Integer() })),
  startedAt: Time,
  cancellable: Type.Boolean(),
  error: Type.Optional(Exactly({ code: Type.String(), message: Type.String() })),
  vm: Type.Optional(VmDetails),
})
export type TaskView = Static<typeof TaskView>

export const rewrapVmKeys = operation({
  id: 'rewrapVmKeys',
  summary: 'Have the keys of VMs wrapped anew with the newest primary keys of their providers',
  method: 'POST',
  path: `${BASE}/keys/rewrap`,
  status: 202,
  body: KeysRewrap,
  answer: TaskView,
})

const VmParams = Exactly({ vm: Name })
const DiskParams = Exactly({ vm: Name, disk: Name })
const TaskParams = Exactly({ taskId: Uuid })

export const createVm = operation({
  id: 'createVm',
  summary: 'Make a VM, encrypted unless it is to be plain',
  method: 'POST',
  path: `${BASE}/vms`,
  status: 202,
  body: VmCreate,
  answer: TaskView,
})

export const getTask = operation({
  id: 'getTask',
  summary: 'Progress of a task',
  method: 'GET',
  path: `${BASE}/tasks/:taskId`,
  status: 200,
  params: TaskParams,
  answer: TaskView,
})

export const listTasks = operation({
  id: 'listTasks',
  summary: 'Tasks of this agent since it was started, the newest hundred',
  method: 'GET',
  path: `${BASE}/tasks`,
  status: 200,
  answer: Exactly({ tasks: Type.Array(TaskView) }),
})

export const cancelTask = operation({
  id: 'cancelTask',
  summary: 'Cancel a task: what it was about to change stays as it was',
  method: 'POST',
  path: `${BASE}/tasks/:taskId/cancel`,
  status: 202,
  params: TaskParams,
  body: Empty,
  answer: TaskView,
})

export const encryptVm = operation({
  id: 'encryptVm',
  summary: 'Encrypt a stopped VM, or parts of it',
  method: 'POST',
  path: `${BASE}/vms/:vm/encrypt`,
  status: 202,
  params: VmParams,
  body: VmEncrypt,
  answer: TaskView,
})

export const decryptVm = operation({
  id: 'decryptVm',
  summary: 'Decrypt a stopped VM, or parts of it: disks first, then the home',
  method: 'POST',
  path: `${BASE}/vms/:vm/decrypt`,
  status: 202,
  params: VmParams,
  body: VmPartsChange,
  answer: TaskView,
})

export const recryptVm = operation({
  id: 'recryptVm',
  summary: 'Encrypt a stopped VM, or parts of it, under new data keys',
  method: 'POST',
  path: `${BASE}/vms/:vm/recrypt`,
  status: 202,
  params: VmParams,
  body: VmRecrypt,
  answer: TaskView,
})

export const addDisk = operation({
  id: 'addDisk',
  summary: 'Add a disk to a VM, which may run',
  method: 'POST',
  path: `${BASE}/vms/:vm/disks`,
  status: 202,
  params: VmParams,
  body: DiskCreate,
  answer: TaskView,
})

export const growDisk = operation({
  id: 'growDisk',
  summary: 'Make a disk of a VM larger, which may run',
  method: 'POST',
  path: `${BASE}/vms/:vm/disks/:disk/grow`,
  status: 200,
  params: DiskParams,
  body: DiskSize,
  answer: VmDetails,
})

export const removeDisk = operation({
  id: 'removeDisk',
  summary: 'Remove a disk from a VM, which may run, and delete it: its key slots are erased first',
  method: 'DELETE',
  path: `${BASE}/vms/:vm/disks/:disk`,
  status: 200,
  params: DiskParams,
  answer: VmDetails,
})

export const cloneVm = operation({
  id: 'cloneVm',
  summary: 'Make a VM like a stopped one, with an id and keys of its own',
  method: 'POST',
  path: `${BASE}/vms/:vm/clone`,
  status: 202,
  params: VmParams,
  body: VmClone,
  answer: TaskView,
})

export const listAgentVms = operation({
  id: 'listAgentVms',
  summary: 'VMs of this host',
  method: 'GET',
  path: `${BASE}/vms`,
  status: 200,
  answer: Exactly({
    vms: Type.Array(VmDetails),
    unreadable: Type.Array(
      Exactly({ vmId: Uuid, message: Type.String() }, 'a VM that nothing can be said of, and why'),
    ),
  }),
})

export const showVm = operation({
  id: 'showVm',
  summary: 'One VM; its home is decrypted for it',
  method: 'GET',
  path: `${BASE}/vms/:vm`,
  status: 200,
  params: VmParams,
  answer: VmDetails,
})

export const startVm = operation({
  id: 'startVm',
  summary: 'Start a VM with its disks and virtual TPM',
  method: 'POST',
  path: `${BASE}/vms/:vm/start`,
  status: 202,
  params: VmParams,
  body: Empty,
  answer: TaskView,
})

export const stopVm = operation({
  id: 'stopVm',
  summary: 'Stop a VM: ask the guest, then power off',
  method: 'POST',
  path: `${BASE}/vms/:vm/stop`,
  status: 202,
  params: VmParams,
  body: VmStop,
  answer: TaskView,
})

export const deleteVm = operation({
  id: 'deleteVm',
  summary: 'Delete a stopped VM: key slots are erased first',
  method: 'DELETE',
  path: `${BASE}/vms/:vm`,
  status: 200,
  params: VmParams,
  answer: Empty,
})

export const readDisk = operation({
  id: 'readDisk',
  summary: 'Open a disk of a stopped VM with its unwrapped key and read octets of it',
  method: 'POST',
  path: `${BASE}/vms/:vm/disks/:disk/read`,
  status: 200,
  params: DiskParams,
  body: Exactly({
    offset: Type.Integer({ minimum: 0, maximum: 2 ** 48 }),
    length: Type.Integer({ minimum: 1, maximum: MIB }),
    assurance: Type.Optional(Assurance),
  }),
  answer: Exactly({ data: Octets(MIB, 'plain octets of the disk') }),
})
