import { type Static, Type } from 'typebox'
import {
  AuditPage,
  AuditQuery,
  AuditVerdict,
  Empty,
  Exactly,
  HexDigest,
  Name,
  Next,
  NumberedPageQuery,
  Octets,
  PageQuery,
  Sentence,
  Time,
  Uuid,
} from './common.js'
import { onObject, onSite } from './needs.js'
import { operation } from './operation.js'
import { Tag } from './tags.js'

const BASE = '/control-plane/v1'

// ---------------------------------------------------------------- what hosts call

/** `locked`: it does not run, and cannot be started, since its keys could not be had when they were wanted last. */
export const VmState = Type.Union([
  Type.Literal('stopped'),
  Type.Literal('running'),
  Type.Literal('locked'),
])
export type VmState = Static<typeof VmState>

/** What of a VM has a key of its own. */
export const KeyObjectName = Type.String({
  pattern: '^(home|vtpm|vtpm-migration|disk-[a-z0-9._-]{1,58})$',
})

const WrappingKey = {
  providerId: Uuid,
  version: Type.Integer({ minimum: 1 }),
}

/** Missing: the key is not where it should be. Unreachable: nobody can be asked now. Refused: not for this host. */
export const LockReason = Type.Union([
  Type.Literal('missing'),
  Type.Literal('unreachable'),
  Type.Literal('refused'),
])
export type LockReason = Static<typeof LockReason>

/** Why a VM is locked. */
export const VmLock = Exactly({
  reason: LockReason,
  code: Type.String({ pattern: '^[A-Z][A-Z0-9_]{1,63}$' }),
  since: Time,
})

/** What a host tells of a VM: names and states, no keys. */
export const VmReport = Exactly({
  name: Name,
  state: VmState,
  /** Of a VM in the state `locked`. */
  lock: Type.Optional(VmLock),
  /** Absent for a VM that is not encrypted. */
  provider: Type.Optional(Name),
  disks: Type.Array(
    Exactly({ name: Name, sizeOctets: Type.Integer({ minimum: 0 }), encrypted: Type.Boolean() }),
    {
      maxItems: 64,
    },
  ),
  vtpm: Type.Boolean(),
  vtpmIdentity: Type.Optional(
    Exactly(
      {
        keys: Type.Array(HexDigest, {
          maxItems: 8,
          description: 'SHA-256 of the SubjectPublicKeyInfo of each endorsement key',
        }),
        certificates: Type.Array(HexDigest, { maxItems: 8, description: 'SHA-256 of each' }),
      },
      'what is in the virtual TPM: certificates that are not in it any more are taken back',
    ),
  ),
  snapshots: Type.Optional(Type.Integer({ minimum: 0 })),
  key: Type.Optional(Exactly(WrappingKey, 'what the key of the VM home is wrapped with')),
  keys: Type.Optional(
    Type.Array(Exactly({ object: KeyObjectName, ...WrappingKey }), {
      maxItems: 64,
      description: 'what each data key of the VM is wrapped with',
    }),
  ),
})
export type VmReport = Static<typeof VmReport>

const VmParams = Exactly({ vmId: Uuid })

export const reportVm = operation({
  id: 'reportVm',
  summary: 'Report a VM of this host to the inventory',
  method: 'PUT',
  path: `${BASE}/host/vms/:vmId`,
  status: 200,
  params: VmParams,
  body: VmReport,
  answer: Empty,
})

export const forgetVm = operation({
  id: 'forgetVm',
  summary: 'Report that a VM of this host was deleted',
  method: 'DELETE',
  path: `${BASE}/host/vms/:vmId`,
  status: 200,
  params: VmParams,
  answer: Empty,
})

export const issueVtpmCertificate = operation({
  id: 'issueVtpmCertificate',
  summary: 'Certify the endorsement key of a virtual TPM of a VM of this host',
  method: 'POST',
  path: `${BASE}/host/vtpm-certificates`,
  status: 201,
  body: Exactly({
    vmId: Uuid,
    kind: Type.Union([Type.Literal('ek'), Type.Literal('platform')]),
    publicKey: Octets(1024, 'SubjectPublicKeyInfo of the endorsement key, DER'),
    tpm: Exactly({
      manufacturer: Type.String({ pattern: '^id:[0-9A-Fa-f]{8}$' }),
      model: Type.String({ pattern: '^[A-Za-z0-9 ._-]{1,64}$' }),
      version: Type.String({ pattern: '^id:[0-9A-Fa-f]{1,16}$' }),
      specification: Type.Optional(
        Exactly({
          family: Type.String({ pattern: '^[0-9.]{1,16}$' }),
          level: Type.Integer({ minimum: 0, maximum: 65_535 }),
          revision: Type.Integer({ minimum: 0, maximum: 65_535 }),
        }),
      ),
    }),
  }),
  answer: Exactly({ certificate: Octets(8192, 'DER') }),
})

export const getVtpmAuthority = operation({
  id: 'getVtpmAuthority',
  summary: 'Certificate of the authority that certifies virtual TPMs',
  method: 'GET',
  path: `${BASE}/vtpm-authority`,
  status: 200,
  answer: Exactly({ pem: Type.String() }),
})

// ---------------------------------------------------------------- what administrators call

export const ClusterView = Exactly({ name: Name, createdAt: Time })

export const createCluster = operation({
  id: 'createCluster',
  needs: onSite('Host.Inventory.EditCluster'),
  summary: 'Make a cluster: hosts that share policy and key providers',
  method: 'POST',
  path: `${BASE}/clusters`,
  status: 201,
  body: Exactly({ name: Name }),
  answer: ClusterView,
  errors: ['CONFLICT'],
  example: { name: 'lab' },
})

export const listClusters = operation({
  id: 'listClusters',
  needs: onObject('System.Read'),
  summary: 'Clusters',
  method: 'GET',
  path: `${BASE}/clusters`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ clusters: Type.Array(ClusterView), next: Next }),
})

/** The storage policy of the home or a disk, and how that is beside it. */
const PartPolicy = Exactly({
  policy: Name,
  given: Type.Boolean({ description: 'false: nobody gave one, and this says what is' }),
  compliance: Type.Union([
    Type.Literal('compliant'),
    Type.Literal('out-of-date'),
    Type.Literal('not-compliant'),
  ]),
  reason: Type.Optional(Sentence),
})
export type PartPolicy = Static<typeof PartPolicy>

export const VmView = Exactly({
  vmId: Uuid,
  hostId: Name,
  cluster: Name,
  reportedAt: Time,
  tags: Type.Array(Tag),
  policies: Exactly({
    home: PartPolicy,
    disks: Type.Array(Exactly({ name: Name, ...PartPolicy.properties })),
  }),
  report: VmReport,
})
export type VmView = Static<typeof VmView>

export const listVms = operation({
  id: 'listVms',
  needs: onObject('System.Read'),
  summary: 'VMs as their hosts last reported them',
  method: 'GET',
  path: `${BASE}/vms`,
  status: 200,
  query: Exactly({
    cluster: Type.Optional(Name),
    hostId: Type.Optional(Name),
    provider: Type.Optional({ ...Name, description: 'of the home' }),
    keyVersion: Type.Optional(
      Type.Integer({ minimum: 1, description: 'one of its keys is wrapped with this version' }),
    ),
    encrypted: Type.Optional(Type.Boolean({ description: 'whether the home is' })),
    state: Type.Optional(VmState),
    tag: Type.Optional({ ...Tag, description: 'this tag, or one in this folder' }),
    ...PageQuery,
  }),
  answer: Exactly({ vms: Type.Array(VmView), next: Next }),
})

export const EventView = Exactly({
  seq: Type.Integer(),
  at: Time,
  severity: Type.Union([Type.Literal('info'), Type.Literal('warning'), Type.Literal('error')]),
  type: Type.String({ description: 'stable name of the kind of event: vm.created' }),
  subject: Type.String(),
  message: Type.String(),
  detail: Type.Optional(
    Type.Record(Type.String(), Type.Unknown(), { description: 'what it is about, for programs' }),
  ),
})
export type EventView = Static<typeof EventView>

export const listEvents = operation({
  id: 'listEvents',
  needs: onObject('System.Read'),
  summary: 'Event log of the site, newest last',
  method: 'GET',
  path: `${BASE}/events`,
  status: 200,
  query: Exactly(NumberedPageQuery),
  answer: Exactly({ events: Type.Array(EventView), next: Next }),
})

export const CONTROL_PLANE_EVENT_STREAM = {
  id: 'streamControlPlaneEvents',
  needs: onObject('System.Read'),
  summary: 'Events as they happen, as Server-Sent Events',
  path: `${BASE}/events/stream`,
} as const

export const listControlPlaneAudit = operation({
  id: 'listControlPlaneAudit',
  needs: onSite('System.Read'),
  summary: 'Audit records of the control plane',
  method: 'GET',
  path: `${BASE}/audit`,
  status: 200,
  query: AuditQuery,
  answer: AuditPage,
})

export const verifyControlPlaneAudit = operation({
  id: 'verifyControlPlaneAudit',
  needs: onSite('System.Read'),
  summary: 'Recompute the hash chain of the audit records',
  method: 'GET',
  path: `${BASE}/audit/verification`,
  status: 200,
  answer: AuditVerdict,
})
