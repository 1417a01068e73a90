import { type Static, Type } from 'typebox'
import { Exactly, Name } from '../../api/common.js'
import type { KeyRecord } from './records.js'
import type { StoredVm } from './vm-store.js'

/** What can be seen of a VM without its keys: enough to find out whether an operation on it was done. */
export const VmFacts = Exactly({
  vmId: Type.String(),
  name: Name,
  isRunning: Type.Boolean(),
  isHomeEncrypted: Type.Boolean(),
  vtpm: Type.Boolean(),
  disks: Type.Array(
    Exactly({ name: Name, sizeOctets: Type.Integer(), isEncrypted: Type.Boolean() }),
  ),
  /** Names and ids of snapshots. */
  snapshots: Type.Array(Type.String()),
  /** Name and id of the snapshot from whose memory it went on, while that run lasts. */
  resumedFrom: Type.Optional(Type.Array(Type.String())),
  /** By object: `home`, `vtpm`, `disk-root`. A data key that takes the place of another has a higher one. */
  generations: Type.Record(Type.String(), Type.Integer()),
})
export type VmFacts = Static<typeof VmFacts>

export function factsOf(
  { descriptor }: StoredVm,
  keys: readonly KeyRecord[],
  now: Pick<VmFacts, 'isRunning' | 'snapshots' | 'resumedFrom'>,
): VmFacts {
  const { vmId, name, provider, vtpm, disks } = descriptor
  return {
    ...{ vmId, name, vtpm },
    ...now,
    isHomeEncrypted: provider !== undefined,
    disks: disks.map(({ name, sizeOctets, plain }) => ({ name, sizeOctets, isEncrypted: !plain })),
    generations: Object.fromEntries(keys.map(({ object, generation }) => [object, generation])),
  }
}
