import { type Static, Type } from 'typebox'
import { Empty, Exactly, Name, Next, Octets, PageQuery, Time, Uuid } from './common.js'
import { VmReport } from './control-plane.js'
import { onObject } from './needs.js'
import { operation } from './operation.js'

const BASE = '/control-plane/v1'
const VmParams = Exactly({ vmId: Uuid })
const DIGEST_OCTETS = 32

// ---------------------------------------------------------------- what hosts call

export const offerVm = operation({
  id: 'offerVm',
  summary: 'Hand a stopped VM of this host over to the host that has its files and its home key',
  method: 'PUT',
  path: `${BASE}/host/vms/:vmId/hand-over`,
  status: 200,
  params: VmParams,
  body: Exactly({
    exportId: Uuid,
    ticketDigest: Octets(DIGEST_OCTETS, 'SHA-256 of the ticket that the other host will show'),
  }),
  answer: Empty,
})

export const withdrawVm = operation({
  id: 'withdrawVm',
  summary: 'Take back a VM that was handed over, while no host took it',
  method: 'DELETE',
  path: `${BASE}/host/vms/:vmId/hand-over`,
  status: 200,
  params: VmParams,
  answer: Empty,
})

export const takeVm = operation({
  id: 'takeVm',
  summary: 'Make a VM that was handed over, or that no host has, one of this host',
  method: 'POST',
  path: `${BASE}/host/vms/:vmId/take-over`,
  status: 200,
  params: VmParams,
  body: Exactly({
    exportId: Uuid,
    ticket: Octets(DIGEST_OCTETS, 'derived from the home key of the VM'),
    report: VmReport,
  }),
  answer: Empty,
})

// ---------------------------------------------------------------- what administrators call

export const HandOverView = Exactly({
  vmId: Uuid,
  exportId: Uuid,
  hostId: Name,
  cluster: Name,
  offeredAt: Time,
})
export type HandOverView = Static<typeof HandOverView>

export const listHandOvers = operation({
  id: 'listHandOvers',
  needs: onObject('System.Read'),
  summary: 'VMs that hosts have handed over and that no host took yet',
  method: 'GET',
  path: `${BASE}/hand-overs`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ handOvers: Type.Array(HandOverView), next: Next }),
})
