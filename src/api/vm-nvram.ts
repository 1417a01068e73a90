import { Empty, Exactly, Name } from './common.js'
import { VmDetails } from './host-agent.js'
import { operation } from './operation.js'

export const resetNvram = operation({
  id: 'resetNvram',
  summary: 'Give a stopped VM the firmware variables of a new machine; its own are lost',
  method: 'POST',
  path: '/v1/vms/:vm/nvram/reset',
  status: 200,
  params: Exactly({ vm: Name }),
  body: Empty,
  answer: VmDetails,
})
