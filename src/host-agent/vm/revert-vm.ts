import { createHash } from 'node:crypto'
import { toHex } from '../../core/bytes.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { checkSnapshot } from './check-snapshot.js'
import { checkDiskFile, diskFileOf } from './disk-file.js'
import { explainFull } from './disk-space.js'
import { isErrno } from './errno.js'
import { exportedName } from './export-manifest.js'
import { makePrivateDirectory, readPrivateFile, syncPath } from './files.js'
import type { VmPaths } from './layout.js'
import { openNvram } from './nvram.js'
import type { OctetProgress } from './octet-progress.js'
import { commitChange, stageChange } from './pending-change.js'
import { type Accelerator, Descriptor, type Home, readRecord } from './records.js'
import { copyCheaply, type FoundSnapshot } from './snapshot-files.js'
import { checkMemory } from './snapshot-memory.js'
import type { SnapshotRecord } from './snapshot-record.js'
import { allocatedOctets, nvramName } from './vm-files.js'
import type { VmHost } from './vm-host.js'
import { homeGeneration, type VmKeys } from './vm-keys.js'
import { homeKeyOf } from './vm-parts.js'
import type { StoredVm } from './vm-store.js'
import { stageVtpmRecord } from './vtpm-record.js'

const MAX_SMALL_OCTETS = 64 * 1024 * 1024

/**
 * Puts the parts of a snapshot in the place of those of a VM that this operation has claimed, as one change: the VM is as it
 * was until all of them are on the disk and were checked, and then it is what it was at the time of the snapshot.
 *
 * Steps: `check`, `check memory` where it goes on from memory, `copy <file>` for each, `verify`, `commit`, `place`, `erase`.
 *
 * @param options.opened the home key, and that of the virtual TPM
 * @param options.accelerator of a VM that is to go on from memory, under which it would run
 * @throws PlatformError `VM_SNAPSHOT_CORRUPT`, `VM_SNAPSHOT_MEMORY`, `VM_DISK_FULL`, `VM_DISK_CORRUPT`, `VTPM_STATE_…`, or the reason of the signal
 */
export async function revertVm(
  host: VmHost,
  vm: StoredVm,
  found: FoundSnapshot,
  options: {
    readonly opened: VmKeys
    readonly accelerator: Accelerator | undefined
    readonly progress: OctetProgress
    readonly signal: AbortSignal | undefined
  },
): Promise<void> {
  const { opened, accelerator, progress, signal } = options
  const { programs, store } = host
  const { root, sealed } = found
  const { snapshot } = sealed
  progress.begin('check')
  const homeKey = homeKeyOf(vm.descriptor, opened)
  checkSnapshot(sealed, vm.descriptor, homeGeneration(await store.readKeys(vm)), homeKey)
  if (accelerator && homeKey) {
    await checkMemory(found, { homeKey, accelerator, progress, signal })
  }
  try {
    const staged = await stageChange(vm.paths)
    if (vm.descriptor.vtpm) await makePrivateDirectory(staged.vtpmCertificates)
    for (const { file, octets } of snapshot.parts) {
      progress.begin(`copy ${file}`)
      const path = `${root}/${exportedName(file)}`
      try {
        const from = { path, octets, roomOctets: await allocatedOctets(path) }
        await copyCheaply(from, `${staged.root}/${file}`, {
          directory: store.directory,
          onCopied: (done) => progress.copying(done),
          signal,
        })
      } catch (cause) {
        if (!(cause instanceof RangeError) && !isErrno(cause, 'ENOENT', 'ELOOP')) throw cause
        throw corrupt(snapshot, `is not whole: ${messageOf(cause)}`, cause)
      }
      progress.copied(octets)
    }
    progress.begin('verify')
    await checkSmallParts(staged, snapshot)
    await checkStaged(host, vm, staged, opened)
    const files: string[] = snapshot.parts.map(({ file }) => file)
    const drop = [nvramName(vm.descriptor.nvram)].filter((file) => !files.includes(file))
    if (vm.descriptor.vtpm) {
      await stageVtpmRecord(vm.paths, staged, opened.of('vtpm'))
      files.push('vtpm-backup.permall', 'vtpm.json')
      await syncPath(staged.vtpmCertificates)
    }
    signal?.throwIfAborted()
    const onStep = (step: string) => progress.begin(step)
    await host.onVm(vm.descriptor.name, () =>
      commitChange(programs, vm.paths, { put: files, drop }, onStep),
    )
  } catch (error) {
    const reason = await explainFull(store.directory, error)
    if ((await host.settleChange(vm)) !== 'completed') throw reason
  }
}

async function checkSmallParts(staged: VmPaths, snapshot: SnapshotRecord): Promise<void> {
  for (const { file, sha256 } of snapshot.parts) {
    if (file.startsWith('disk-')) continue
    const octets = await readPrivateFile(`${staged.root}/${file}`, MAX_SMALL_OCTETS)
    const digest = toHex(
      createHash('sha256')
        .update(octets ?? '')
        .digest(),
    )
    if (digest !== sha256) throw corrupt(snapshot, `has another ${file} than it was made with`)
  }
}

/** Home and volumes are those of the VM, as it was. */
async function checkStaged(
  host: VmHost,
  vm: StoredVm,
  staged: VmPaths,
  opened: VmKeys,
): Promise<void> {
  const descriptor = await readRecord(staged.descriptor, Descriptor, 'vm.json')
  const records = await host.store.readKeys(vm)
  const home: Home = await host.store.readHome({ descriptor, paths: staged }, opened, records)
  for (const disk of home.disks) await checkDiskFile(diskFileOf(staged, disk))
  using _ = await openNvram({ vmId: descriptor.vmId, paths: staged, home }, opened)
}

function corrupt(snapshot: SnapshotRecord, what: string, cause?: unknown): PlatformError {
  return new PlatformError('VM_SNAPSHOT_CORRUPT', `snapshot ${snapshot.name} ${what}`, { cause })
}
