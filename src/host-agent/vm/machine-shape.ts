import { type Static, Type } from 'typebox'
import { Exactly, Name } from '../../api/common.js'
import { PlatformError } from '../../core/errors.js'
import { pluggedDisks } from './qemu-disks.js'
import type { Qmp } from './qmp.js'
import { Accelerator, type RunRecord } from './records.js'

/** What a QEMU must be like, beside the home of its VM, to take the state that another one had. */
export const MachineShape = Exactly({
  accelerator: Accelerator,
  /** What QEMU calls the machine, with its version: a newer QEMU has it still. */
  machine: Type.String({ pattern: '^[a-z0-9][a-z0-9.-]{0,63}$' }),
  /** Where the guest sees each disk. */
  disks: Type.Array(Exactly({ name: Name, index: Type.Integer({ minimum: 0, maximum: 255 }) }), {
    maxItems: 16,
  }),
})
export type MachineShape = Static<typeof MachineShape>

/** @throws PlatformError `VM_PROCESS` */
export async function shapeOf(qmp: Qmp, { accelerator }: RunRecord): Promise<MachineShape> {
  const type = await qmp.execute('qom-get', { path: '/machine', property: 'type' })
  const machine = /^([a-z0-9][a-z0-9.-]*)-machine$/.exec(String(type))?.[1]
  if (machine === undefined) throw new PlatformError('VM_PROCESS', `qemu runs a machine ${type}`)
  const disks = [...(await pluggedDisks(qmp))].map(([name, index]) => ({ name, index }))
  return { accelerator, machine, disks }
}
