/** How a VM is encrypted: everything that rules about storage policies ask. */
export interface VmProtection {
  readonly name: string
  /** Key provider of all that is encrypted. Undefined: the home is plain, and with it all of the VM. */
  readonly provider?: string | undefined
  readonly vtpm: boolean
  readonly disks: readonly DiskProtection[]
}

export interface DiskProtection {
  readonly name: string
  readonly encrypted: boolean
}

/** What a storage policy asks of one part of a VM. */
export interface Wanted {
  readonly encrypted: boolean
  /** The key provider by name. Undefined: that of the VM, else the default. */
  readonly provider?: string | undefined
}

/** What is asked of a VM: of its home and of disks by name. A part that is not named stays as it is. */
export interface WantedParts {
  readonly home?: Wanted | undefined
  readonly disks: ReadonlyMap<string, Wanted>
}

/** What of a VM has a storage policy of its own. */
export type PolicyPart = 'home' | `disk-${string}`

export function diskPart({ name }: { readonly name: string }): `disk-${string}` {
  return `disk-${name}`
}

/** A part as people call it. */
export function nameOfPart(part: PolicyPart): string {
  return part === 'home' ? 'the home' : `disk ${part.slice('disk-'.length)}`
}
