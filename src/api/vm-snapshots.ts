import { type Static, Type } from 'typebox'
import { Exactly, Name, Sentence, Time, Uuid } from './common.js'
import { TaskView } from './host-agent.js'
import { operation } from './operation.js'

const VmParams = Exactly({ vm: Name })
const SnapshotParams = Exactly({ vm: Name, snapshot: Name })

export const SnapshotView = Exactly({
  snapshotId: Uuid,
  name: Name,
  description: Type.Optional(Sentence),
  createdAt: Time,
  /** Whether the VM ran. Without its memory, disks are as after a power cut. */
  running: Type.Boolean(),
  /** Whether it has the memory of the VM: going back leaves the VM running, as it was then. */
  memory: Type.Boolean(),
  /** What its files take, of which they may share some with others. */
  allocatedOctets: Type.Integer({ minimum: 0 }),
})
export type SnapshotView = Static<typeof SnapshotView>

export const SnapshotCreate = Exactly({
  name: Name,
  description: Type.Optional(Sentence),
  memory: Type.Optional(
    Type.Boolean({
      description: 'of a VM that runs, whether its memory is kept: it is unless told',
    }),
  ),
})
export const SnapshotRef = Exactly({
  snapshot: Type.String({ ...Name, description: 'its name or its id' }),
})

const Resuming = {
  memory: Type.Optional(
    Type.Boolean({
      description:
        'of a snapshot with memory, whether the guest goes on from it: it does unless told',
    }),
  ),
}
export const SnapshotRevert = Exactly({ ...SnapshotRef.properties, ...Resuming })

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
  summary:
    'Keep a VM as it is now: home, firmware variables, virtual TPM, disks, and memory if it runs',
  method: 'POST',
  path: '/v1/vms/:vm/snapshots',
  status: 202,
  params: VmParams,
  body: SnapshotCreate,
  answer: TaskView,
})

export const revertVmSnapshot = operation({
  id: 'revertVmSnapshot',
  summary: 'Make a stopped VM what it was, running if its memory was kept; what it is now is lost',
  method: 'POST',
  path: '/v1/vms/:vm/snapshots/:snapshot/revert',
  status: 202,
  params: SnapshotParams,
  body: Exactly(Resuming),
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
