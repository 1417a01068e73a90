import { Empty, Exactly, Name } from './common.js'
import { VmDetails } from './host-agent.js'
import { operation } from './operation.js'

/** VMs whose keys cannot be had, on the socket of the agent. */
export const unlockVm = operation({
  id: 'unlockVm',
  summary: 'Try now to have the keys of a locked VM',
  method: 'POST',
  path: '/v1/vms/:vm/unlock',
  status: 200,
  params: Exactly({ vm: Name }),
  body: Empty,
  answer: VmDetails,
})
