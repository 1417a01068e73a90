import { Empty, Exactly, Name } from './common.js'
import { TaskView } from './host-agent.js'
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
