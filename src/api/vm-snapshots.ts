import { type Static, Type } from 'typebox'
import { Empty, Exactly, Name, Sentence, Time, Uuid } from './common.js'
import { TaskView } from './host-agent.js'
import { operation } from './operation.js'

const VmParams = Exactly({ vm: Name })
const SnapshotParams = Exactly({ vm: Name, snapshot: Name })

export const SnapshotView = Exactly({
  snapshotId: Uuid,
  name: Name,
  description: Type.Optional(Sentence),
  createdAt: Time,
  /** What its files take, of which they may share some with others. */
  allocatedOctets: Type.Integer({ minimum: 0 }),
})
export type SnapshotView = Static<typeof SnapshotView>

export const SnapshotCreate = Exactly({ name: Name, description: Type.Optional(Sentence) })
export const SnapshotRef = Exactly({
  snapshot: Type.String({ ...Name, description: 'its name or its id' }),
})

export const listVmSnapshots = operation({
  id: 'listVmSnapshots',
  summary: 'Snapshots of a VM, the oldest first',
  method: 'GET',
  path: '/v1/vms/:vm/snapshots',
  status: 200,
  params: VmParams,
  answer: Exactly({ snapshots: Type.Array(SnapshotView) }),
})

export const createVmSnapshot = operation({
  id: 'createVmSnapshot',
  summary: 'Keep a stopped VM as it is now: home, firmware variables, virtual TPM and disks',
  method: 'POST',
  path: '/v1/vms/:vm/snapshots',
  status: 202,
  params: VmParams,
  body: SnapshotCreate,
  answer: TaskView,
})

export const revertVmSnapshot = operation({
  id: 'revertVmSnapshot',
  summary: 'Make a stopped VM what it was; what it is now is lost',
  method: 'POST',
  path: '/v1/vms/:vm/snapshots/:snapshot/revert',
  status: 202,
  params: SnapshotParams,
  body: Empty,
  answer: TaskView,
})

export const removeVmSnapshot = operation({
  id: 'removeVmSnapshot',
  summary: 'Delete a snapshot: its key slots are erased first',
  method: 'DELETE',
  path: '/v1/vms/:vm/snapshots/:snapshot',
  status: 202,
  params: SnapshotParams,
  answer: TaskView,
})
