import { type Static, Type } from 'typebox'
import { Exactly, Name, Time, Uuid } from './common.js'
import { TaskView, VmDetails } from './host-agent.js'
import { operation } from './operation.js'

/** Disks that leave a VM and come into another, on the socket of the agent. */
const BASE = '/v1'

export const DiskAttach = Exactly({
  name: Name,
  from: Type.String({
    minLength: 1,
    maxLength: 4096,
    description: 'directory of a detached disk, or a raw or qcow2 image, on the host',
  }),
  plain: Type.Optional(
    Type.Boolean({
      description: 'an image stays a disk that is not encrypted, in an encrypted VM',
    }),
  ),
})
export type DiskAttach = Static<typeof DiskAttach>

export const DetachedDisk = Exactly({
  path: Type.String({ description: 'directory with the disk and its wrapped key' }),
  name: Name,
  sizeOctets: Type.Integer(),
  encrypted: Type.Boolean(),
  provider: Type.Optional(Name),
  vm: Exactly({ vmId: Uuid, name: Name }),
  detachedAt: Time,
})
export type DetachedDisk = Static<typeof DetachedDisk>

export const attachDisk = operation({
  id: 'attachDisk',
  summary: 'Attach a disk that was detached, or an image; the VM may run',
  method: 'POST',
  path: `${BASE}/vms/:vm/attached-disks`,
  status: 202,
  params: Exactly({ vm: Name }),
  body: DiskAttach,
  answer: TaskView,
})

export const detachDisk = operation({
  id: 'detachDisk',
  summary: 'Detach a disk with its wrapped key, to be attached to another VM; the VM may run',
  method: 'DELETE',
  path: `${BASE}/vms/:vm/attached-disks/:disk`,
  status: 200,
  params: Exactly({ vm: Name, disk: Name }),
  answer: Exactly({ vm: VmDetails, detached: DetachedDisk }),
})

export const listDetachedDisks = operation({
  id: 'listDetachedDisks',
  summary: 'Disks that were detached on this host and are there still',
  method: 'GET',
  path: `${BASE}/detached-disks`,
  status: 200,
  answer: Exactly({ disks: Type.Array(DetachedDisk) }),
})
