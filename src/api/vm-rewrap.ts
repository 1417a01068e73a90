import { type Static, Type } from 'typebox'
import { Exactly, Name } from './common.js'
import { TaskView } from './host-agent.js'
import { operation } from './operation.js'

export const VmRewrap = Exactly({
  provider: Type.Optional({
    ...Name,
    description: 'another key provider; without it, that of the VM',
  }),
})
export type VmRewrap = Static<typeof VmRewrap>

export const rewrapVm = operation({
  id: 'rewrapVm',
  summary: 'Have the keys of a VM wrapped anew: its data keys stay; it may run',
  method: 'POST',
  path: '/v1/vms/:vm/rewrap',
  status: 202,
  params: Exactly({ vm: Name }),
  body: VmRewrap,
  answer: TaskView,
})
