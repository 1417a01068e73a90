import { Empty, Exactly, Name } from './common.js'
import { TaskView, VmDetails } from './host-agent.js'
import { operation } from './operation.js'

/** Virtual TPMs of VMs of one host, on the socket of its agent. */
const BASE = '/v1/vms/:vm/vtpm'

const VmParams = Exactly({ vm: Name })

export const addVtpm = operation({
  id: 'addVtpm',
  summary: 'Add a virtual TPM to a stopped VM whose home is encrypted',
  method: 'POST',
  path: BASE,
  status: 202,
  params: VmParams,
  body: Empty,
  answer: TaskView,
})

export const acceptVtpmState = operation({
  id: 'acceptVtpmState',
  summary: 'Start from a state of the virtual TPM that is refused as an older one',
  method: 'POST',
  path: `${BASE}/accept-state`,
  status: 200,
  params: VmParams,
  body: Empty,
  answer: VmDetails,
})

export const restoreVtpmState = operation({
  id: 'restoreVtpmState',
  summary: 'Put the copy of the last recorded state in the place of one that is missing or damaged',
  method: 'POST',
  path: `${BASE}/restore-state`,
  status: 200,
  params: VmParams,
  body: Empty,
  answer: VmDetails,
})
