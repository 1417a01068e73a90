import { newUuid } from '../../core/random.js'
import { changeVm, wrapNewKeys } from './change-vm.js'
import { copyDisk } from './disk-copy.js'
import { checkDiskFile } from './disk-file.js'
import { copyNvram, newNvram, openNvram } from './nvram.js'
import type { OctetProgress } from './octet-progress.js'
import { openDisk } from './open-disk.js'
import type { Home } from './records.js'
import { makeDisk, verifyCopy } from './verified-copy.js'
import { nvramName } from './vm-files.js'
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

/**
 * Gives the home a new key of this provider, or makes it plain. The variables of the firmware go with it: they are encrypted
 * under a key that is derived from that of the home, or plain.
 */
export async function changeHome(
  host: VmHost,
  vm: StoredVm,
  provider: string | undefined,
  { progress, signal }: Work,
): Promise<void> {
  const onStep = (step: string) => progress.begin(`home: ${step}`)
  const { vmId } = vm.descriptor
  const objects: readonly KeyObject[] = provider === undefined ? [] : ['home']
  using keys = makeKeys(objects)
  await host.withKeys(vm, homeKey(vm.descriptor), (home, opened) =>
    changeVm(host, vm, { onStep, signal }, async (staged) => {
      onStep('keys')
      const key = provider === undefined ? undefined : keys.of('home')
      const newKeys =
        provider === undefined
          ? []
          : await wrapNewKeys(host, vm, staged, { provider, objects, keys })
      onStep('nvram')
      using from = await openNvram({ vmId, paths: vm.paths, home }, opened)
      using to = newNvram({ vmId, paths: staged }, from.file.sizeOctets, key)
      await copyNvram(host.programs, from, to, signal)
      const { provider: _, nvram: old, ...rest } = home
      const changed = { ...rest, ...(provider === undefined ? {} : { provider }), ...to.home }
      const [oldName, newName] = [nvramName(old), nvramName(to.home.nvram)]
      return {
        ...{ home: changed, homeKey: key, newKeys },
        goneKeys: provider === undefined ? (['home'] as const) : [],
        files: { put: [newName], drop: oldName === newName ? [] : [oldName] },
      }
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

/** Name of the file of a disk in the directory of its VM. */
export function fileName({ name, volumeId }: Home['disks'][number]): string {
  return volumeId === undefined ? `disk-${name}.raw` : `disk-${name}.luks`
}
