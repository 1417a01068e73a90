import { DiskCreate, VmCreate } from '../../api/host-agent.js'
import { PlatformError } from '../../core/errors.js'
import { isName, isUuid } from '../../core/names.js'
import { misfitOf } from '../../core/schema-errors.js'
import type { Secret } from '../../core/secret.js'

const DEFAULT_MEMORY_MIB = 1024
const SECTOR_OCTETS = 512
/** With `disk-` before it, the name of a disk is the name of a key. */
const MAX_DISK_NAME = 58

export interface DiskSpec {
  readonly name: string
  readonly sizeOctets?: number
  /** Path of an image. Without `sizeOctets` the disk is as large as it. */
  readonly from?: string
  /** Of an image that is a LUKS1 volume. Lent. */
  readonly passphrase?: Secret | undefined
  readonly plain: boolean
}

/** What a VM is to be, with nothing left open but the size of disks that are as large as their image. */
export interface VmSpec {
  readonly name: string
  /** Undefined: nothing of the VM is encrypted. */
  readonly provider: string | undefined
  readonly memoryMib: number
  readonly cpus: number
  readonly vtpm: boolean
  readonly disks: readonly DiskSpec[]
}

/**
 * Checks a request and fills in defaults: 1 GiB of memory, one processor, and in an encrypted VM a virtual TPM.
 *
 * @throws PlatformError `REQUEST_INVALID`; `VM_HOME_PLAIN` for a virtual TPM without a key provider
 */
export function checkSpec(request: VmCreate): VmSpec {
  const misfit = misfitOf(VmCreate, request)
  if (misfit !== undefined) throw invalid(`request${misfit}`)
  const { name, provider, memoryMib = DEFAULT_MEMORY_MIB, cpus = 1 } = request
  const { vtpm = provider !== undefined } = request
  if (vtpm && provider === undefined) {
    throw new PlatformError('VM_HOME_PLAIN', 'a virtual TPM needs an encrypted home')
  }
  const seen = new Set<string>()
  const disks = request.disks.map((disk): DiskSpec => {
    if (seen.has(disk.name)) throw invalid(`two disks have the name ${disk.name}`)
    seen.add(disk.name)
    return checkDiskSpec(disk, provider)
  })
  for (const text of [name, ...(provider === undefined ? [] : [provider])]) {
    if (!isName(text)) throw invalid(`${text} is not a name`)
  }
  requireNoId(name)
  return { name, provider, memoryMib, cpus, vtpm, disks }
}

/**
 * Checks what a disk is to be; without a word on it, it is encrypted as the home of its VM is.
 *
 * @param provider of the VM, if it has one
 * @throws PlatformError `REQUEST_INVALID`, `VM_HOME_PLAIN`
 */
export function checkDiskSpec(request: DiskCreate, provider: string | undefined): DiskSpec {
  const { name, sizeOctets, from, plain = provider === undefined } = request
  const misfit = misfitOf(DiskCreate, request)
  if (misfit !== undefined) throw invalid(`request${misfit}`)
  if (!isName(name)) throw invalid(`${name} is not a name`)
  if (name.length > MAX_DISK_NAME) {
    throw invalid(`expected at most ${MAX_DISK_NAME} characters in the name of a disk`)
  }
  if (!plain && provider === undefined) {
    throw new PlatformError('VM_HOME_PLAIN', 'an encrypted disk needs an encrypted home')
  }
  if (sizeOctets === undefined && from === undefined) {
    throw invalid(`disk ${name} needs a size or an image`)
  }
  if (sizeOctets !== undefined) requireWholeSectors(name, sizeOctets)
  return {
    name,
    ...(sizeOctets === undefined ? {} : { sizeOctets }),
    ...(from === undefined ? {} : { from }),
    plain,
  }
}

/** A VM is named by its name or its id; none has the name of an id. @throws PlatformError `REQUEST_INVALID` */
export function requireNoId(name: string): void {
  if (isUuid(name)) throw invalid(`expected a name that is no UUID, found ${name}`)
}

/** @throws PlatformError `REQUEST_INVALID` */
export function requireWholeSectors(disk: string, octets: number): void {
  if (octets % SECTOR_OCTETS !== 0) {
    throw invalid(`expected whole sectors of ${SECTOR_OCTETS} octets for disk ${disk}`)
  }
}

function invalid(message: string): PlatformError {
  return new PlatformError('REQUEST_INVALID', message)
}
