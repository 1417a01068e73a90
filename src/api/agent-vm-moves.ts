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
