import { newUuid } from '../../core/random.js'
import { changeVm, wrapNewKeys } from './change-vm.js'
import { formatDisk, verifyDisk } from './disk.js'
import { compareDisks, copyDisk, type OpenDisk } from './disk-copy.js'
import { checkDiskFile, createPlainDisk, isEncrypted } from './disk-file.js'
import { syncPath } from './files.js'
import type { OctetProgress } from './octet-progress.js'
import { openDisk } from './open-disk.js'
import type { Programs } from './programs.js'
import type { Home } from './records.js'
import type { VmHost } from './vm-host.js'
import { type KeyObject, makeKeys, VTPM_KEYS } from './vm-keys.js'
import { allKeys, findDisk, homeKey } from './vm-parts.js'
import type { StoredVm } from './vm-store.js'
import { recryptVtpm } from './vtpm.js'

/** How one part of a longer operation is done. */
export interface Work {
  readonly progress: OctetProgress
  readonly signal: AbortSignal | undefined
  /** How much of a copied disk is compared with its original. */
  readonly compare: 'samples' | 'all'
}

/** Gives the home a new key of this provider, or makes it plain. */
export async function changeHome(
  host: VmHost,
  vm: StoredVm,
  provider: string | undefined,
  { progress, signal }: Work,
): Promise<void> {
  const onStep = (step: string) => progress.begin(`home: ${step}`)
  const objects: readonly KeyObject[] = provider === undefined ? [] : ['home']
  using keys = makeKeys(objects)
  await host.withKeys(vm, homeKey(vm.descriptor), (home) =>
    changeVm(host, vm, { onStep, signal }, async (staged) => {
      onStep('keys')
      const { provider: _, ...rest } = home
      if (provider === undefined) {
        return { home: rest, homeKey: undefined, newKeys: [], goneKeys: ['home'], files: {} }
      }
      const newKeys = await wrapNewKeys(host, vm, staged, { provider, objects, keys })
      const changed = { ...rest, provider }
      return { home: changed, homeKey: keys.of('home'), newKeys, goneKeys: [], files: {} }
    }),
  )
}

/**
 * Has all keys of a VM wrapped by another provider, in one moment: the data keys stay, and with them disks and virtual TPM
 * (a shallow recrypt).
 */
export async function changeProvider(
  host: VmHost,
  vm: StoredVm,
  provider: string,
  { progress, signal }: Work,
): Promise<void> {
  const onStep = (step: string) => progress.begin(`provider: ${step}`)
  const objects = allKeys(vm.descriptor)
  await host.withKeys(vm, objects, (home, keys) =>
    changeVm(host, vm, { onStep, signal }, async (staged) => {
      onStep('keys')
      const request = { provider, objects, keys, areSame: true }
      const newKeys = await wrapNewKeys(host, vm, staged, request)
      return {
        ...{ home: { ...home, provider }, homeKey: keys.of('home'), newKeys, goneKeys: [] },
        files: {},
      }
    }),
  )
}

/**
 * Copies a disk into a new file, encrypted under a new key or plain, and puts that in its place when it was verified:
 * it is on the disk, opens with its key, and has what the original has.
 */
export async function changeDisk(
  host: VmHost,
  vm: StoredVm,
  name: string,
  to: 'encrypted' | 'plain',
  work: Work,
): Promise<void> {
  const { progress, signal, compare } = work
  const { programs } = host
  const { provider } = vm.descriptor
  if (provider === undefined) throw new TypeError('a plain VM has no disk to be changed')
  const object: KeyObject = `disk-${name}`
  const onStep = (step: string) => progress.begin(`${name}: ${step}`)
  const isPlain = findDisk(vm.descriptor, name).plain === true
  const oldKeys = [...homeKey(vm.descriptor), ...(isPlain ? [] : [object])]
  const objects = to === 'plain' ? [] : [object]
  using keys = makeKeys(objects)
  await host.withKeys(vm, oldKeys, (home, opened) =>
    changeVm(host, vm, { onStep, signal }, async (staged) => {
      onStep('keys')
      const disk = home.disks.find((candidate) => candidate.name === name)
      if (!disk) throw new TypeError('home and descriptor agree about disks')
      const newKeys = await wrapNewKeys(host, vm, staged, { provider, objects, keys })
      const { volumeId: _, ...rest } = disk
      const changed = { ...rest, ...(to === 'plain' ? {} : { volumeId: newUuid() }) }
      const from = openDisk(vm.paths, disk, opened)
      const target = openDisk(staged, changed, keys)
      await checkDiskFile(from.file)
      onStep('format')
      await makeDisk(programs, target)
      onStep('copy')
      const onCopied = (octets: number) => progress.copying(octets)
      await copyDisk(programs, from, target, { onCopied, ...(signal ? { signal } : {}) })
      onStep('verify')
      await verifyCopy(programs, from, target, compare, signal)
      const disks = home.disks.map((one) => (one === disk ? changed : one))
      return {
        home: { ...home, disks },
        homeKey: opened.of('home'),
        newKeys,
        goneKeys: to === 'plain' ? [object] : [],
        files: {
          put: [fileName(changed)],
          drop: isPlain === (to === 'plain') ? [] : [fileName(disk)],
        },
      }
    }),
  )
}

/** New keys for the state of the virtual TPM and for what leaves the host of it. The TPM stays the same. */
export async function changeVtpmKeys(
  host: VmHost,
  vm: StoredVm,
  { progress, signal }: Work,
): Promise<void> {
  const { provider } = vm.descriptor
  if (provider === undefined) throw new TypeError('a plain VM has no virtual TPM')
  const onStep = (step: string) => progress.begin(`vtpm: ${step}`)
  using keys = makeKeys(VTPM_KEYS)
  await host.withKeys(vm, ['home', ...VTPM_KEYS], async (home, opened) => {
    await host.vtpmStates.require(vm, opened.of('vtpm'))
    await changeVm(host, vm, { onStep, signal }, async (staged) => {
      onStep('keys')
      const newKeys = await wrapNewKeys(host, vm, staged, { provider, objects: VTPM_KEYS, keys })
      onStep('state')
      await recryptVtpm(vm.paths, staged, { old: opened.of('vtpm'), fresh: keys.of('vtpm') })
      return {
        ...{ home, homeKey: opened.of('home'), newKeys, goneKeys: [] },
        files: { put: ['vtpm/tpm2-00.permall', 'vtpm-backup.permall', 'vtpm.json'] },
      }
    })
  })
}

/** Makes the file of a disk, empty. */
export async function makeDisk(programs: Programs, { file, key }: OpenDisk): Promise<void> {
  if (isEncrypted(file) && key) await formatDisk(programs, file, key)
  else if (!isEncrypted(file)) await createPlainDisk(file)
}

/** Brings a copy to the disk, opens it with its key, and compares it with the original. */
export async function verifyCopy(
  programs: Programs,
  from: OpenDisk,
  target: OpenDisk,
  extent: 'samples' | 'all',
  signal: AbortSignal | undefined,
): Promise<void> {
  const { file, key } = target
  if (isEncrypted(file) && key) await verifyDisk(programs, file, key)
  await syncPath(file.path)
  await checkDiskFile(file)
  await compareDisks(programs, from, target, { extent, ...(signal ? { signal } : {}) })
}

/** Name of the file of a disk in the directory of its VM. */
export function fileName({ name, volumeId }: Home['disks'][number]): string {
  return volumeId === undefined ? `disk-${name}.raw` : `disk-${name}.luks`
}
