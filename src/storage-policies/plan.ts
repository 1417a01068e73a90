import { PlatformError } from '../core/errors.js'
import {
  type DiskProtection,
  diskPart,
  nameOfPart,
  type PolicyPart,
  type VmProtection,
  type Wanted,
  type WantedParts,
} from './protection.js'

/** One part of a policy change. Whatever ends the change after it, the VM is in a state that the rules allow. */
export type PolicyStep =
  | { readonly do: 'encrypt'; readonly part: PolicyPart; readonly provider: string }
  | { readonly do: 'decrypt'; readonly part: PolicyPart }
  /** The data keys of all that is encrypted are wrapped by another provider: a shallow recrypt. */
  | { readonly do: 'change-provider'; readonly part: 'home'; readonly provider: string }

/** What stands in the way of a change, whatever is changed. */
export interface Obstacles {
  readonly isRunning: boolean
  readonly snapshots: number
}

/**
 * What is to be done to bring a VM from what it is to what is wanted, in this order: the home is encrypted or comes under
 * the other provider first, since everything else needs its keys; then disks are decrypted, so that room is made, then
 * disks are encrypted; the home is decrypted last. Nothing, where the VM is as wanted.
 *
 * The plan is of the VM as it is: after an interruption, the plan of what is then is the rest.
 *
 * @param defaultProvider where neither a policy nor the VM names one
 * @throws PlatformError `VM_DISK_NOT_FOUND`; `VM_HOME_PLAIN` for an encrypted disk without an encrypted home;
 *   `VM_HOME_NEEDED` for a plain home beside disks that stay encrypted; `VM_VTPM_NEEDS_HOME`; `POLICY_PROVIDERS` for more
 *   than one key provider in a VM; `POLICY_NO_PROVIDER`
 */
export function planPolicyChange(
  vm: VmProtection,
  wanted: WantedParts,
  defaultProvider?: string,
): readonly PolicyStep[] {
  for (const name of wanted.disks.keys()) requireDisk(vm, name)
  const isEncrypted = vm.provider !== undefined
  const stays = wanted.home?.encrypted ?? isEncrypted
  const disks = vm.disks.map((disk) => ({
    ...{ disk, to: wanted.disks.get(disk.name)?.encrypted ?? disk.encrypted },
  }))
  const toDecrypt = disks.filter(({ disk, to }) => disk.encrypted && !to).map(({ disk }) => disk)
  const toEncrypt = disks.filter(({ disk, to }) => !disk.encrypted && to).map(({ disk }) => disk)
  const decryptDisks = toDecrypt.map(
    (disk): PolicyStep => ({ do: 'decrypt', part: diskPart(disk) }),
  )
  if (!stays) {
    requireNothingLeft(
      vm,
      wanted,
      disks.flatMap(({ disk, to }) => (to ? [disk] : [])),
    )
    return [...decryptDisks, ...(isEncrypted ? [{ do: 'decrypt', part: 'home' } as const] : [])]
  }
  const provider = providerFor(vm, wanted, defaultProvider)
  return [
    ...(isEncrypted ? [] : [{ do: 'encrypt', part: 'home', provider } as const]),
    ...(isEncrypted && provider !== vm.provider
      ? [{ do: 'change-provider', part: 'home', provider } as const]
      : []),
    ...decryptDisks,
    ...toEncrypt.map((disk): PolicyStep => ({ do: 'encrypt', part: diskPart(disk), provider })),
  ]
}

/**
 * A change needs a VM that is stopped and has no snapshots: these have the keys and disks of their moment.
 *
 * @throws PlatformError `VM_RUNNING`, `VM_SNAPSHOTS`
 */
export function requireNoObstacle(
  { name }: Pick<VmProtection, 'name'>,
  steps: readonly PolicyStep[],
  { isRunning, snapshots }: Obstacles,
): void {
  if (steps.length === 0) return
  if (isRunning) {
    throw new PlatformError(
      'VM_RUNNING',
      `VM ${name} runs; its policies change while it is stopped`,
    )
  }
  if (snapshots > 0) {
    const expected = `expected no snapshots of VM ${name}, found ${snapshots}; remove them first`
    throw new PlatformError('VM_SNAPSHOTS', expected)
  }
}

/**
 * Whose data keys a step has to open, beside the new ones that it makes: of the home, in which all of the VM is described,
 * and of the disk itself. A disk is decrypted with both.
 */
export function partsToOpen(
  vm: VmProtection,
  { do: act, part }: PolicyStep,
): readonly PolicyPart[] {
  if (act === 'change-provider') return ['home', ...vm.disks.filter(isEncryptedDisk).map(diskPart)]
  if (act === 'encrypt') return part === 'home' ? [] : ['home']
  return part === 'home' ? ['home'] : ['home', part]
}

/** The VM after a step, as far as these rules look at it. */
export function afterStep(vm: VmProtection, step: PolicyStep): VmProtection {
  if (step.part === 'home') {
    const { provider: _, ...rest } = vm
    return step.do === 'decrypt' ? rest : { ...rest, provider: step.provider }
  }
  const encrypted = step.do === 'encrypt'
  return {
    ...vm,
    disks: vm.disks.map((disk) => (diskPart(disk) === step.part ? { ...disk, encrypted } : disk)),
  }
}

/** What a person is told of a step. */
export function describeStep(step: PolicyStep): string {
  switch (step.do) {
    case 'encrypt':
      return `encrypt ${nameOfPart(step.part)} with ${step.provider}`
    case 'decrypt':
      return `decrypt ${nameOfPart(step.part)}`
    case 'change-provider':
      return `wrap all keys with ${step.provider}`
  }
}

function requireDisk(vm: VmProtection, name: string): void {
  if (vm.disks.some((disk) => disk.name === name)) return
  throw new PlatformError('VM_DISK_NOT_FOUND', `VM ${vm.name} has no disk ${name}`)
}

/** @param left disks that are or would be encrypted beside a plain home */
function requireNothingLeft(
  vm: VmProtection,
  wanted: WantedParts,
  left: readonly DiskProtection[],
): void {
  const asked = left.filter(({ name }) => wanted.disks.get(name)?.encrypted)
  if (asked.length > 0) {
    const names = asked.map(({ name }) => name).join(', ')
    const expected = `expected an encrypted home of VM ${vm.name} for its encrypted disks (${names}), found a plain one`
    throw new PlatformError('VM_HOME_PLAIN', expected)
  }
  if (left.length > 0) {
    const names = left.map(({ name }) => name).join(', ')
    throw new PlatformError('VM_HOME_NEEDED', `decrypt the disks of VM ${vm.name} first: ${names}`)
  }
  if (vm.vtpm && vm.provider !== undefined) {
    const expected = `remove the virtual TPM of VM ${vm.name} before its home is decrypted`
    throw new PlatformError('VM_VTPM_NEEDS_HOME', expected)
  }
}

/** The one provider of everything that is encrypted in the end. */
function providerFor(
  vm: VmProtection,
  wanted: WantedParts,
  defaultProvider: string | undefined,
): string {
  const named = new Map(
    vm.disks.flatMap(({ name }): readonly (readonly [string, string])[] => {
      const of = wanted.disks.get(name)
      return of?.encrypted && of.provider !== undefined ? [[name, of.provider]] : []
    }),
  )
  const [first] = named.values()
  const provider = wanted.home?.provider ?? vm.provider ?? first ?? defaultProvider
  if (provider === undefined) {
    const expected = `expected a key provider for VM ${vm.name}, by name or as a default, found neither`
    throw new PlatformError('POLICY_NO_PROVIDER', expected)
  }
  for (const [disk, other] of named) {
    if (other === provider) continue
    const expected = `expected one key provider for all of VM ${vm.name}, found ${provider} for its home and ${other} for disk ${disk}`
    throw new PlatformError('POLICY_PROVIDERS', expected)
  }
  return provider
}

function isEncryptedDisk({ encrypted }: DiskProtection): boolean {
  return encrypted
}

/** Whether a state is one that VMs may be in. */
export function isAllowed({ provider, vtpm, disks }: VmProtection): boolean {
  return provider !== undefined || (!vtpm && !disks.some(isEncryptedDisk))
}

/** Whether a part is as wanted. */
export function isAsWanted(
  encrypted: boolean,
  provider: string | undefined,
  wanted: Wanted,
): boolean {
  if (!wanted.encrypted) return !encrypted
  return encrypted && (wanted.provider === undefined || wanted.provider === provider)
}
