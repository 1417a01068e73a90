import { type Static, Type } from 'typebox'
import { Exactly, Name } from './common.js'
import { TaskView } from './host-agent.js'
import { operation } from './operation.js'

/** What a storage policy asks of one part of a VM. */
export const PolicyWanted = Exactly({
  encrypted: Type.Boolean(),
  provider: Type.Optional({ ...Name, description: 'key provider, of an encrypted part by name' }),
})
export type PolicyWanted = Static<typeof PolicyWanted>

/** What is asked of a VM. Parts that are not named stay as they are. */
export const ApplyPolicy = Exactly({
  home: Type.Optional(PolicyWanted),
  disks: Type.Optional(
    Type.Array(Exactly({ name: Name, ...PolicyWanted.properties }), { maxItems: 16 }),
  ),
  compare: Type.Optional(
    Type.Union([Type.Literal('samples'), Type.Literal('all')], {
      description:
        'how much of a copied disk is compared with its original: some MiB (default), or all',
    }),
  ),
})
export type ApplyPolicy = Static<typeof ApplyPolicy>

export const applyVmPolicy = operation({
  id: 'applyVmPolicy',
  summary: 'Bring a stopped VM to what storage policies ask of its home and disks',
  method: 'POST',
  path: '/v1/vms/:vm/policies',
  status: 202,
  params: Exactly({ vm: Name }),
  body: ApplyPolicy,
  answer: TaskView,
})
