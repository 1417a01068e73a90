import type { VmParts } from '../../api/host-agent.js'
import { PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import type { Descriptor } from './records.js'
import { type KeyObject, keyObjects, type VmKeys } from './vm-keys.js'

/** What of a VM is encrypted, or not, by itself. */
export type Part = 'home' | 'vtpm' | `disk-${string}`

type Known = Pick<Descriptor, 'name' | 'provider' | 'vtpm' | 'disks'>

/** The key of the home, if it has one. */
export function homeKey({ provider }: Known): readonly KeyObject[] {
  return provider === undefined ? [] : ['home']
}

/** The opened key of the home, if it has one. */
export function homeKeyOf({ provider }: Known, opened: VmKeys): Secret | undefined {
  return provider === undefined ? undefined : opened.of('home')
}

/** All keys that the VM has. */
export function allKeys(vm: Known): readonly KeyObject[] {
  if (vm.provider === undefined) return []
  return keyObjects(
    encryptedDisks(vm).map(({ name }) => name),
    vm.vtpm,
  )
}

/** @throws PlatformError `VM_DISK_NOT_FOUND` */
export function findDisk(vm: Known, name: string): Known['disks'][number] {
  const disk = vm.disks.find((candidate) => candidate.name === name)
  if (!disk) throw new PlatformError('VM_DISK_NOT_FOUND', `VM ${vm.name} has no disk ${name}`)
  return disk
}

/**
 * What is to be encrypted, in this order: the home first, since an encrypted disk needs an encrypted home. Without
 * parts: all that is plain.
 *
 * @param provider by name; where there is none, a VM that has none takes the default
 * @throws PlatformError `VM_DISK_NOT_FOUND`, `VM_ENCRYPTED`, `VM_HOME_PLAIN`; `AGENT_NO_PROVIDER` where one is needed and
 *   there is none; `REQUEST_INVALID` for one that is not that of the VM
 */
export function partsToEncrypt(
  vm: Known,
  parts: VmParts,
  provider: string | undefined,
  defaultProvider?: string,
): readonly Part[] {
  const isHomePlain = vm.provider === undefined
  const wanted = isAll(parts)
    ? [...(isHomePlain ? ['home' as const] : []), ...vm.disks.filter(isPlain).map(partOf)]
    : named(vm, parts)
  if (wanted.length === 0) throw encrypted(`all of VM ${vm.name}`)
  if (wanted.includes('vtpm')) throw encrypted('a virtual TPM')
  if (wanted.includes('home') && !isHomePlain) throw encrypted(`the home of VM ${vm.name}`)
  for (const disk of vm.disks) {
    if (wanted.includes(partOf(disk)) && !isPlain(disk)) throw encrypted(`disk ${disk.name}`)
  }
  if (isHomePlain && !wanted.includes('home')) {
    throw new PlatformError(
      'VM_HOME_PLAIN',
      `an encrypted disk needs an encrypted home, and that of VM ${vm.name} is plain`,
    )
  }
  if (isHomePlain && provider === undefined && defaultProvider === undefined) {
    throw new PlatformError(
      'AGENT_NO_PROVIDER',
      'expected a key provider for the home by name, or a default, found neither',
    )
  }
  if (!isHomePlain && provider !== undefined && provider !== vm.provider) {
    throw new PlatformError(
      'REQUEST_INVALID',
      `expected the key provider ${vm.provider} of VM ${vm.name}, found ${provider}`,
    )
  }
  return wanted
}

/**
 * What is to be decrypted, in this order: disks first, then the home. Without parts: all that is encrypted.
 *
 * @throws PlatformError `VM_DISK_NOT_FOUND`, `VM_PLAIN`; `VM_HOME_NEEDED` for the home where something would stay
 *   encrypted
 */
export function partsToDecrypt(vm: Known, parts: VmParts): readonly Part[] {
  const isHomePlain = vm.provider === undefined
  const wanted = isAll(parts)
    ? [...encryptedDisks(vm).map(partOf), ...(isHomePlain ? [] : ['home' as const])]
    : named(vm, parts)
  if (wanted.length === 0) throw plain(`all of VM ${vm.name}`)
  if (wanted.includes('vtpm')) {
    throw new PlatformError('REQUEST_INVALID', 'a virtual TPM is encrypted, or removed')
  }
  if (wanted.includes('home') && isHomePlain) throw plain(`the home of VM ${vm.name}`)
  for (const disk of vm.disks) {
    if (wanted.includes(partOf(disk)) && isPlain(disk)) throw plain(`disk ${disk.name}`)
  }
  if (!wanted.includes('home')) return wanted
  const left = encryptedDisks(vm).filter((disk) => !wanted.includes(partOf(disk)))
  if (left.length > 0) {
    const names = left.map(({ name }) => name).join(', ')
    throw new PlatformError('VM_HOME_NEEDED', `decrypt the disks of VM ${vm.name} first: ${names}`)
  }
  if (vm.vtpm) {
    throw new PlatformError('VM_HOME_NEEDED', `remove the virtual TPM of VM ${vm.name} first`)
  }
  return [...wanted.filter((part) => part !== 'home'), 'home']
}

/**
 * What is to have new keys. Without parts: all that is encrypted.
 *
 * @throws PlatformError `VM_DISK_NOT_FOUND`, `VM_PLAIN`
 */
export function partsToRecrypt(vm: Known, parts: VmParts): readonly Part[] {
  if (vm.provider === undefined) throw plain(`all of VM ${vm.name}`)
  const all: readonly Part[] = ['home', ...encryptedDisks(vm).map(partOf)]
  const wanted = isAll(parts) ? [...all, ...(vm.vtpm ? ['vtpm' as const] : [])] : named(vm, parts)
  for (const disk of vm.disks) {
    if (wanted.includes(partOf(disk)) && isPlain(disk)) throw plain(`disk ${disk.name}`)
  }
  if (wanted.includes('vtpm') && !vm.vtpm) {
    throw new PlatformError('VM_PLAIN', `VM ${vm.name} has no virtual TPM`)
  }
  return wanted
}

export function partOf({ name }: { readonly name: string }): `disk-${string}` {
  return `disk-${name}`
}

function named(vm: Known, { home, vtpm, disks = [] }: VmParts): readonly Part[] {
  return [
    ...(home ? ['home' as const] : []),
    ...[...new Set(disks)].map((name) => partOf(findDisk(vm, name))),
    ...(vtpm ? ['vtpm' as const] : []),
  ]
}

function isAll({ home, vtpm, disks = [] }: VmParts): boolean {
  return !home && !vtpm && disks.length === 0
}

function encryptedDisks(vm: Known): Known['disks'] {
  return vm.disks.filter((disk) => !isPlain(disk))
}

function isPlain(disk: Known['disks'][number]): boolean {
  return disk.plain === true
}

function encrypted(what: string): PlatformError {
  return new PlatformError('VM_ENCRYPTED', `${what} is encrypted already`)
}

function plain(what: string): PlatformError {
  return new PlatformError('VM_PLAIN', `${what} is not encrypted`)
}
