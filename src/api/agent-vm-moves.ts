import { Type } from 'typebox'
import { Empty, Exactly, Name } from './common.js'
import { TaskView } from './host-agent.js'
import { operation } from './operation.js'

const VmParams = Exactly({ vm: Name })

const ExportDirectory = Type.String({
  pattern: '^/',
  maxLength: 1024,
  description: 'absolute path on the host; its parent must exist, and it must not',
})

export const VmExport = Exactly({
  directory: ExportDirectory,
  move: Type.Optional(
    Type.Boolean({ description: 'the VM is of the host that imports it, and stays locked here' }),
  ),
})

export const VmImport = Exactly({ directory: ExportDirectory })

const LiveAddress = Type.String({
  pattern: '^(unix:/.{1,100}|[A-Za-z0-9.:\\[\\]-]{1,255}:[0-9]{1,5})$',
  description: 'host:port, [address]:port, or unix:/path',
})

export const VmSend = Exactly({ to: LiveAddress })
export const VmReceive = Exactly({ listen: LiveAddress })

export const sendVm = operation({
  id: 'sendVm',
  summary: 'Move a VM that runs to a host that listens for it, while its guest goes on',
  method: 'POST',
  path: '/v1/vms/:vm/send',
  status: 202,
  params: VmParams,
  body: VmSend,
  answer: TaskView,
})

export const receiveVm = operation({
  id: 'receiveVm',
  summary: 'Listen for one VM that runs on another host, and take it',
  method: 'POST',
  path: '/v1/vm-receptions',
  status: 202,
  body: VmReceive,
  answer: TaskView,
})

export const exportVm = operation({
  id: 'exportVm',
  summary: 'Write a stopped VM to a directory as it is, encrypted; or hand it over to another host',
  method: 'POST',
  path: '/v1/vms/:vm/export',
  status: 202,
  params: VmParams,
  body: VmExport,
  answer: TaskView,
})

export const importVm = operation({
  id: 'importVm',
  summary: 'Make an exported VM one of this host, with the id and the keys that it has',
  method: 'POST',
  path: '/v1/vm-imports',
  status: 202,
  body: VmImport,
  answer: TaskView,
})

export const takeBackVm = operation({
  id: 'takeBackVm',
  summary: 'Unlock a VM that was handed over and that no host took',
  method: 'POST',
  path: '/v1/vms/:vm/take-back',
  status: 202,
  params: VmParams,
  body: Empty,
  answer: TaskView,
})
