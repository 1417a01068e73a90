import { createHash } from 'node:crypto'
import { rename, rm } from 'node:fs/promises'
import { dirname, isAbsolute, normalize } from 'node:path'
import { isoTime } from '../../core/clock.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { newUuid } from '../../core/random.js'
import { filesToCarry } from './carried-snapshots.js'
import { isClosed } from './closed-directories.js'
import { copyFileSparse } from './copy-file.js'
import { checkDiskFile, diskFileOf } from './disk-file.js'
import { explainFull, requireSpace } from './disk-space.js'
import {
  type ExportedPart,
  type ExportManifest,
  exportedName,
  handOverTicket,
  MANIFEST,
  sealManifest,
} from './export-manifest.js'
import {
  isThere,
  makePrivateDirectory,
  readPrivateFile,
  replacePrivateFile,
  syncPath,
  writePrivateFile,
} from './files.js'
import { OctetProgress } from './octet-progress.js'
import type { OnProgress } from './ports.js'
import { type ExportedMark, encodeRecord, type Home } from './records.js'
import { allocatedOctets, filesOf } from './vm-files.js'
import type { VmHost } from './vm-host.js'
import { homeGeneration, type VmKeys } from './vm-keys.js'
import type { StoredVm } from './vm-store.js'

const OVERHEAD_OCTETS = 1024 * 1024
/** In the directory of an export that is not whole: of which VM it is. What lies there is ours to remove. */
const UNFINISHED = 'unfinished'

/**
 * Writes a stopped VM that this operation has claimed to a new directory, with its snapshots, as it lies on the disk: nothing is
 * decrypted.
 *
 * With `move` the VM is handed over: it stays here, locked, and is of the host that imports it. It is locked before the
 * export is whole, so that there is never a VM that can be started in two places. When the agent ends before that
 * moment, the VM is as it was, and the next export to the same directory removes what was left there.
 *
 * Steps: `check`, `copy <file>` for each, then with `move` `offer`, `lock`; `finish`.
 *
 * @param options.opened the home key, and that of the virtual TPM
 * @throws PlatformError `VM_EXPORT_TARGET`, `VM_DISK_FULL`, `VM_DISK_CORRUPT`, `VM_SNAPSHOT_CORRUPT`, `VTPM_STATE_…`, of the
 *   control plane, or the reason of the signal; the VM is as before then, and nothing is left in the directory
 */
export async function exportVm(
  host: VmHost,
  vm: StoredVm,
  home: Home,
  options: {
    readonly directory: string
    readonly move: boolean
    readonly opened: VmKeys
    readonly onProgress: OnProgress
    readonly signal: AbortSignal | undefined
  },
): Promise<void> {
  const { directory, move, opened, onProgress, signal } = options
  const { paths, descriptor } = vm
  const { vmId, name, provider } = descriptor
  if (provider === undefined) throw new TypeError('a plain VM has no key to authenticate with')
  onProgress('check', 0)
  for (const disk of home.disks) await checkDiskFile(diskFileOf(paths, disk))
  if (home.vtpm) await host.vtpmStates.require(vm, opened.of('vtpm'))
  const place = await host.inventory.place()
  const generation = homeGeneration(await host.store.readKeys(vm))
  const owner = { descriptor, generation, homeKey: opened.of('home') }
  const files = [...(await filesOf(paths.root, descriptor)), ...(await filesToCarry(paths, owner))]
  const total = files.reduce((sum, { octets }) => sum + octets, 0)
  const progress = new OctetProgress(onProgress, total)
  const partial = await prepareTarget(directory, vmId, host.closedDirectories)
  const exportId = newUuid()
  let written = partial
  try {
    const room = await Promise.all(
      files.map(({ file }) => allocatedOctets(`${paths.root}/${file}`)),
    )
    await requireSpace(
      partial,
      room.reduce((sum, octets) => sum + octets, OVERHEAD_OCTETS),
    )
    const parts: ExportedPart[] = []
    for (const { file, octets } of files) {
      progress.begin(`copy ${file}`)
      const copied = await copyFileSparse(
        `${paths.root}/${file}`,
        `${partial}/${exportedName(file)}`,
        octets,
        {
          onCopied: (done) => progress.copying(done),
          ...(signal ? { signal } : {}),
        },
      )
      progress.copied(octets)
      parts.push({ file, octets, ...copied })
    }
    const manifest: ExportManifest = {
      ...{ format: 1, exportId, vmId, name, provider, ...place, move, parts },
      exportedAt: isoTime(host.clock.nowMs()),
      generation,
    }
    if (move) {
      progress.begin('offer')
      const ticket = handOverTicket(exportId, vmId, opened.of('home'))
      const ticketDigest = createHash('sha256').update(ticket).digest()
      await host.inventory.offer(vmId, { exportId, ticketDigest })
      signal?.throwIfAborted()
      progress.begin('lock')
      const mark: ExportedMark = { format: 1, exportId, exportedAt: manifest.exportedAt }
      await replacePrivateFile(paths.root, 'exported.json', encodeRecord(mark))
    }
    progress.begin('finish')
    await writePrivateFile(`${partial}/${MANIFEST}`, sealManifest(manifest, opened.of('home')))
    await rm(`${partial}/${UNFINISHED}`)
    await syncPath(partial)
    await rename(partial, directory)
    written = directory
    await syncPath(dirname(directory))
    progress.end()
  } catch (error) {
    const reason = await explainFull(written, error)
    await rm(written, { recursive: true, force: true })
    if (move) await withdraw(host, vm)
    throw reason
  }
}

/** Unlocks a VM that was handed over. Nothing is done where it is not locked. */
export async function unlockVm({ paths }: StoredVm): Promise<void> {
  await rm(paths.exported, { force: true })
  await syncPath(paths.root)
}

/** Room that what fails takes back, as far as it can: a hand-over that stays has no export and harms nobody. */
async function withdraw(host: VmHost, vm: StoredVm): Promise<void> {
  await unlockVm(vm)
  const { vmId } = vm.descriptor
  await host.inventory.withdraw(vmId).catch((error: unknown) => {
    const reason = messageOf(error)
    host.logger.warn(
      { event: 'vm.not-withdrawn', vmId, reason },
      'a hand-over stays with the control plane until the VM is reported again',
    )
  })
}

/** @throws PlatformError `VM_EXPORT_TARGET` */
async function prepareTarget(
  directory: string,
  vmId: string,
  closed: readonly string[],
): Promise<string> {
  if (!isAbsolute(directory) || normalize(directory) !== directory || directory.includes('\0')) {
    throw target(`expected an absolute path without dots or slash at its end, found ${directory}`)
  }
  if (await isClosed(directory, closed)) {
    throw target(`expected a path outside of the directories of the agent, found ${directory}`)
  }
  if (await isThere(directory)) throw target(`${directory} exists`)
  const partial = `${directory}.${UNFINISHED}`
  if (await isThere(partial)) {
    const owner = await readPrivateFile(`${partial}/${UNFINISHED}`, OVERHEAD_OCTETS).catch(
      () => undefined,
    )
    if (Buffer.from(owner ?? []).toString('latin1') !== vmId) {
      throw target(`${partial} exists, and is no unfinished export of this VM`)
    }
    await rm(partial, { recursive: true })
  }
  try {
    await makePrivateDirectory(partial)
  } catch (cause) {
    throw target(`cannot make ${partial}: ${messageOf(cause)}`, cause)
  }
  await writePrivateFile(`${partial}/${UNFINISHED}`, vmId)
  return partial
}

function target(message: string, cause?: unknown): PlatformError {
  return new PlatformError('VM_EXPORT_TARGET', message, { cause })
}
