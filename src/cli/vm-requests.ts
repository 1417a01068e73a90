import { InvalidArgumentError } from 'commander'
import type { VmCreate, VmParts } from '../api/host-agent.js'
import { PlatformError } from '../core/errors.js'
import { size } from './values.js'

/** What a new VM is to be, as options say it. */
export interface VmOptions {
  readonly provider?: string
  readonly plain?: boolean
  readonly plainDisk?: readonly string[]
  readonly memory?: number
  readonly cpus?: number
  readonly disk?: readonly string[]
  readonly vtpm: boolean
}

/** Parts of a VM, as options name them. */
export interface PartOptions {
  readonly home?: boolean
  readonly vtpm?: boolean
  readonly disk?: readonly string[]
  readonly compareAll?: boolean
  readonly provider?: string
}

/** `name=20G` is an empty disk, `name=/path` one that is filled from an image. */
export function vmSpecOf(name: string, options: VmOptions): VmCreate {
  const { provider, plain, memory, cpus, vtpm } = options
  if (provider !== undefined && plain) {
    throw new PlatformError('REQUEST_INVALID', 'expected either --provider or --plain, found both')
  }
  const disk = (text: string, isPlain: boolean) => {
    const [disk = '', ...rest] = text.split('=')
    const value = rest.join('=')
    return { name: disk, ...contentOf(text, value), ...(isPlain ? { plain: true } : {}) }
  }
  return {
    name,
    ...(provider === undefined ? {} : { provider }),
    ...(plain ? { plain } : { vtpm }),
    ...(memory === undefined ? {} : { memoryMib: memory }),
    ...(cpus === undefined ? {} : { cpus }),
    disks: [
      ...(options.disk ?? []).map((text) => disk(text, plain === true)),
      ...(options.plainDisk ?? []).map((text) => disk(text, true)),
    ],
  }
}

export function partsOf(options: PartOptions): VmParts & { compare: 'all' | 'samples' } {
  const { home, vtpm, disk } = options
  return {
    ...(home ? { home } : {}),
    ...(vtpm ? { vtpm } : {}),
    ...(disk ? { disks: [...disk] } : {}),
    compare: options.compareAll ? 'all' : 'samples',
  }
}

function contentOf(
  option: string,
  value: string,
): Pick<VmCreate['disks'][number], 'from' | 'sizeOctets'> {
  if (value.includes('/')) return { from: value }
  try {
    return { sizeOctets: size(value) }
  } catch (cause) {
    if (!(cause instanceof InvalidArgumentError)) throw cause
    throw new InvalidArgumentError(
      `expected NAME=SIZE such as root=20G, or NAME=/PATH of an image, found ${option}`,
    )
  }
}
