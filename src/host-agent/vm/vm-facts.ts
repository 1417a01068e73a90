import type { KeyRecord } from './records.js'
import type { StoredVm } from './vm-store.js'

/** What can be seen of a VM without its keys: enough to find out whether an operation on it was done. */
export interface VmFacts {
  readonly isRunning: boolean
  readonly isHomeEncrypted: boolean
  readonly vtpm: boolean
  readonly disks: readonly {
    readonly name: string
    readonly sizeOctets: number
    readonly isEncrypted: boolean
  }[]
  /** By object: `home`, `vtpm`, `disk-root`. A data key that takes the place of another has a higher one. */
  readonly generations: Readonly<Record<string, number>>
}

export function factsOf(
  { descriptor }: StoredVm,
  keys: readonly KeyRecord[],
  isRunning: boolean,
): VmFacts {
  const { provider, vtpm, disks } = descriptor
  return {
    isRunning,
    isHomeEncrypted: provider !== undefined,
    vtpm,
    disks: disks.map(({ name, sizeOctets, plain }) => ({ name, sizeOctets, isEncrypted: !plain })),
    generations: Object.fromEntries(keys.map(({ object, generation }) => [object, generation])),
  }
}
