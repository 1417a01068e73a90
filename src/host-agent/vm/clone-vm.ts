import { rename } from 'node:fs/promises'
import { isoTime } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import { newUuid } from '../../core/random.js'
import type { CreateDeps } from './create-vm.js'
import { copyDisk } from './disk-copy.js'
import { checkDiskFile } from './disk-file.js'
import { explainFull, requireSpace } from './disk-space.js'
import { makePrivateDirectory, syncPath, writePrivateFile } from './files.js'
import { sealHome } from './home.js'
import { CREATING, pathsOf } from './layout.js'
import { LUKS_PAYLOAD_OCTETS } from './luks-header.js'
import { copyNvram, newNvram, openNvram } from './nvram.js'
import type { OctetProgress } from './octet-progress.js'
import { openDisk } from './open-disk.js'
import { descriptorOf, encodeRecord, type Home } from './records.js'
import { removeVmDirectory } from './remove-vm.js'
import { makeDisk, verifyCopy } from './verified-copy.js'
import { keyObjects, makeKeys, type VmKeys, wrapKeys } from './vm-keys.js'
import type { StoredVm } from './vm-store.js'
import { copyVtpm, makeVtpm } from './vtpm.js'

const OVERHEAD_OCTETS = 4 * 1024 * 1024

/** What becomes of the virtual TPM: a new identity, the same one twice, or none. */
export type ClonedVtpm = 'new' | 'copy' | 'none'

/**
 * Makes a VM like another that is stopped and claimed: all keys new, with an id and volume ids of its own. It is made in
 * a directory of its own, as in `createVm`: until that has its final name there is no clone, and on failure nothing of it
 * remains.
 *
 * @param source.keys all of them
 * @throws PlatformError `VM_DISK_FULL`, `VM_DISK_CORRUPT`, `VM_COPY_DIFFERS`, `VM_PROCESS`, `VTPM_…`, of the key
 *   provider, or the reason of the signal
 */
export async function cloneVm(
  deps: CreateDeps,
  source: { readonly vm: StoredVm; readonly home: Home; readonly keys: VmKeys },
  options: {
    readonly name: string
    /** No VM has it. */
    readonly vmId: string
    readonly vtpm: ClonedVtpm
    readonly compare: 'samples' | 'all'
    readonly signal: AbortSignal | undefined
    readonly progress: OctetProgress
  },
): Promise<void> {
  const { vm, home: original, keys: oldKeys } = source
  const { name, vmId, vtpm, compare, signal, progress } = options
  const { programs } = deps
  const { provider } = original
  const needed = original.disks.reduce(
    (sum, { sizeOctets }) => sum + sizeOctets + LUKS_PAYLOAD_OCTETS,
    OVERHEAD_OCTETS,
  )
  await requireSpace(deps.directory, needed)
  const root = `${deps.directory}/${CREATING}${vmId}`
  const paths = pathsOf(root)
  const disks = original.disks.map(({ volumeId, ...disk }) => ({
    ...disk,
    ...(volumeId === undefined ? {} : { volumeId: newUuid() }),
  }))
  const isEncrypted = (disk: (typeof disks)[number]) => disk.volumeId !== undefined
  const encryptedDisks = disks.filter(isEncrypted).map((disk) => disk.name)
  const objects = provider === undefined ? [] : keyObjects(encryptedDisks, vtpm !== 'none')
  using keys = makeKeys(objects)
  const homeKey = provider === undefined ? undefined : keys.of('home')
  using oldNvram = await openNvram({ ...vm.descriptor, paths: vm.paths, home: original }, oldKeys)
  using nvram = newNvram({ vmId, paths }, oldNvram.file.sizeOctets, homeKey)
  const { nvram: _, ...others } = original
  const home: Home = { ...others, ...{ name, vtpm: vtpm !== 'none', disks }, ...nvram.home }
  const descriptor = descriptorOf(home, { vmId, createdAt: isoTime(deps.now()) })
  try {
    await makePrivateDirectory(root)
    progress.begin('keys')
    const records =
      provider === undefined ? [] : await wrapKeys(deps.keys, { vmId, provider, objects, keys })
    await writePrivateFile(paths.keys, encodeRecord({ format: 1, keys: records }))
    progress.begin('home')
    if (homeKey) await writePrivateFile(paths.home, sealHome(home, vmId, 1, homeKey))
    else await writePrivateFile(paths.plainHome, encodeRecord(home))
    await copyNvram(programs, oldNvram, nvram, signal)
    await writePrivateFile(paths.descriptor, encodeRecord(descriptor))
    for (const [index, disk] of original.disks.entries()) {
      const copy = home.disks[index]
      if (!copy) throw new TypeError('a clone has the disks of its original')
      const from = openDisk(vm.paths, disk, oldKeys)
      const target = openDisk(paths, copy, keys)
      await checkDiskFile(from.file)
      progress.begin(`${disk.name}: format`)
      await makeDisk(programs, target)
      progress.begin(`${disk.name}: copy`)
      const onCopied = (octets: number) => progress.copying(octets)
      await copyDisk(programs, from, target, { onCopied, ...(signal ? { signal } : {}) })
      progress.begin(`${disk.name}: verify`)
      await verifyCopy(programs, from, target, compare, signal)
      progress.copied(disk.sizeOctets)
    }
    if (vtpm !== 'none') progress.begin('vtpm')
    if (vtpm === 'new') {
      const { certifier, vtpmSlots: slots, now } = deps
      await makePrivateDirectory(paths.vtpm)
      const jobDirectory = `${paths.root}/job`
      await makeVtpm({
        ...{ programs, paths, jobDirectory, vmId, certifier, slots, now },
        dek: keys.of('vtpm'),
      })
    } else if (vtpm === 'copy') {
      await copyVtpm(vm.paths, paths, { old: oldKeys.of('vtpm'), fresh: keys.of('vtpm') })
    }
    signal?.throwIfAborted()
    progress.begin('commit')
    await syncPath(root)
    await rename(root, `${deps.directory}/${vmId}`)
    await syncPath(deps.directory)
  } catch (error) {
    const reason = await explainFull(deps.directory, error)
    await deps.dropKeys(vmId, root)
    await removeVmDirectory(programs, root)
    throw reason
  }
}

/** @throws PlatformError `REQUEST_INVALID`, `VM_HOME_PLAIN` for a virtual TPM that cannot be */
export function vtpmOfClone(home: Home, wanted: ClonedVtpm | undefined): ClonedVtpm {
  const vtpm = wanted ?? (home.vtpm ? 'new' : 'none')
  if (vtpm === 'copy' && !home.vtpm) {
    throw new PlatformError('REQUEST_INVALID', `VM ${home.name} has no virtual TPM to be copied`)
  }
  if (vtpm === 'new' && home.provider === undefined) {
    throw new PlatformError('VM_HOME_PLAIN', 'a virtual TPM needs an encrypted home')
  }
  return vtpm
}
