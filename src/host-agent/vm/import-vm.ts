import { createHash } from 'node:crypto'
import { rename } from 'node:fs/promises'
import { dirname, isAbsolute } from 'node:path'
import { toHex } from '../../core/bytes.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { filesOfSnapshots } from './carried-snapshots.js'
import { checkSnapshot } from './check-snapshot.js'
import { copyFileSparse } from './copy-file.js'
import { verifyDisk } from './disk.js'
import { checkDiskFile, diskFileOf, isEncrypted } from './disk-file.js'
import { explainFull, requireSpace } from './disk-space.js'
import { isErrno } from './errno.js'
import {
  type ExportManifest,
  exportedName,
  handOverTicket,
  MANIFEST,
  MAX_MANIFEST_OCTETS,
  parseManifest,
  type SealedManifest,
  verifyManifest,
} from './export-manifest.js'
import { makePrivateDirectory, readPrivateFile, syncPath, writePrivateFile } from './files.js'
import { IMPORTING, pathsOf } from './layout.js'
import { verifyNvram } from './nvram.js'
import type { OctetProgress } from './octet-progress.js'
import {
  type BroughtMark,
  Descriptor,
  encodeRecord,
  type Home,
  type KeyRecord,
  KeyRecords,
  parseRecord,
  readRecord,
} from './records.js'
import { removeVmDirectory } from './remove-vm.js'
import { SealedSnapshot } from './snapshot-record.js'
import { isCertificateFile, requiredFiles } from './vm-files.js'
import type { VmHost } from './vm-host.js'
import { homeGeneration, unwrapKeys, type VmKeys } from './vm-keys.js'
import { allKeys } from './vm-parts.js'
import type { StoredVm } from './vm-store.js'
import { checkVtpm, readVtpmRecord, recordVtpmState } from './vtpm-record.js'

const MAX_RECORD_OCTETS = 256 * 1024
const OVERHEAD_OCTETS = 4 * 1024 * 1024

/** An export as far as it can be read without keys. Untrusted: whoever can write to the directory wrote it. */
export interface FoundExport {
  readonly directory: string
  readonly sealed: SealedManifest
  readonly descriptor: Descriptor
  readonly snapshots: readonly SealedSnapshot[]
  readonly records: readonly KeyRecord[]
}

/**
 * Reads what an export says of itself, within limits, and checks that it is of one piece.
 *
 * @throws PlatformError `VM_EXPORT_CORRUPT`, `REQUEST_INVALID` for a path that is not absolute
 */
export async function readExport(directory: string): Promise<FoundExport> {
  if (!isAbsolute(directory) || directory.includes('\0')) {
    throw new PlatformError('REQUEST_INVALID', `expected an absolute path, found ${directory}`)
  }
  const sealed = parseManifest(await readPart(directory, MANIFEST, MAX_MANIFEST_OCTETS))
  const { manifest } = sealed
  const record = async (file: string): Promise<Uint8Array> => {
    const octets = await readPart(directory, file, MAX_RECORD_OCTETS)
    const digest = toHex(createHash('sha256').update(octets).digest())
    if (manifest.parts.find((part) => part.file === file)?.sha256 !== digest) {
      throw corrupt(`${file} is not the one that the manifest tells of`)
    }
    return octets
  }
  const descriptor = parseRecord(
    Descriptor,
    await record('vm.json'),
    'VM_EXPORT_CORRUPT',
    'vm.json',
  )
  const { keys } = parseRecord(
    KeyRecords,
    await record('keys.json'),
    'VM_EXPORT_CORRUPT',
    'keys.json',
  )
  for (const member of ['vmId', 'name', 'provider'] as const) {
    if (descriptor[member] !== manifest[member]) {
      throw corrupt(`vm.json has ${member} ${descriptor[member]}, the manifest ${manifest[member]}`)
    }
  }
  const snapshots: SealedSnapshot[] = []
  for (const { file } of manifest.parts) {
    if (!file.endsWith('/snapshot.json')) continue
    const found = parseRecord(SealedSnapshot, await record(file), 'VM_EXPORT_CORRUPT', file)
    if (file !== `snapshots/${found.snapshot.snapshotId}/snapshot.json`) {
      throw corrupt(`${file} is of snapshot ${found.snapshot.snapshotId}`)
    }
    snapshots.push(found)
  }
  checkParts(manifest, descriptor, snapshots)
  return { directory, sealed, descriptor, snapshots, records: keys }
}

/**
 * Makes an exported VM one of this host. Keys are unwrapped, and with the home key the manifest verified, before anything
 * is copied; each file is checked as it is copied, into a directory of its own; volumes and state are opened. Then the
 * control plane is asked, and only then there is the VM.
 *
 * On failure nothing of it remains here, and no key is released: the export is as it was. When the agent ends after
 * the control plane agreed, the VM is of this host, and the next import makes it.
 *
 * Steps: `keys`, `check`, `copy <file>` for each, `verify`, `take`, `commit`.
 *
 * @throws PlatformError `VM_EXPORT_CORRUPT`, `VM_HAND_OVER`, `VM_BUSY`, `VM_DISK_FULL`, `VM_DISK_CORRUPT`,
 *   `VM_NVRAM_CORRUPT`, `VM_KEY_WRONG`, `VM_HOME_CORRUPT`, `VTPM_STATE_…`, of the key provider, or the reason of the signal
 */
export async function importVm(
  host: VmHost,
  found: FoundExport,
  options: {
    readonly progress: OctetProgress
    readonly signal: AbortSignal | undefined
    /** Who comes again for the same is told by it that it was done. */
    readonly taskId: string | undefined
  },
): Promise<void> {
  const { sealed, descriptor, records } = found
  const { progress, signal, taskId } = options
  const { vmId, provider } = descriptor
  if (provider === undefined) throw corrupt('a plain VM is not exported')
  progress.begin('keys')
  const objects = allKeys(descriptor)
  const request = { vmId, provider, objects, records, assurance: host.assurance }
  using keys = await unwrapKeys(host.keys, request)
  progress.begin('check')
  verifyManifest(sealed, keys.of('home'))
  const { manifest } = sealed
  for (const one of found.snapshots) {
    checkSnapshot(one, descriptor, homeGeneration(records), keys.of('home'))
  }
  const { cluster, hostId } = await host.inventory.place()
  if (manifest.cluster !== cluster) {
    throw new PlatformError(
      'VM_HAND_OVER',
      `expected a host of cluster ${manifest.cluster}, found ${hostId} of ${cluster}`,
    )
  }
  const { directory } = host.store
  const needed = manifest.parts.reduce((sum, part) => sum + part.dataOctets, OVERHEAD_OCTETS)
  await requireSpace(directory, needed)
  const root = `${directory}/${IMPORTING}${vmId}`
  await makePrivateDirectory(root).catch((cause: unknown) => {
    if (!isErrno(cause, 'EEXIST')) throw cause
    throw new PlatformError('VM_BUSY', `VM ${descriptor.name} is being imported`, { cause })
  })
  try {
    const copy: StoredVm = { descriptor, paths: pathsOf(root) }
    await copyParts(found, copy, options)
    progress.begin('verify')
    await verifyCopy(host, copy, keys, records)
    for (const { snapshot } of found.snapshots) {
      const paths = pathsOf(`${copy.paths.snapshots}/${snapshot.snapshotId}`)
      const then = await readRecord(paths.descriptor, Descriptor, 'vm.json')
      await verifyDisks(host, { descriptor: then, paths }, keys, records)
    }
    await syncPath(copy.paths.root)
    signal?.throwIfAborted()
    progress.begin('take')
    const { exportId } = manifest
    const mark: BroughtMark = { format: 1, exportId, ...(taskId === undefined ? {} : { taskId }) }
    await writePrivateFile(copy.paths.brought, encodeRecord(mark))
    await syncPath(root)
    const ticket = handOverTicket(exportId, vmId, keys.of('home'))
    await host.inventory.take(await host.reports.describe(copy), { exportId, ticket })
    progress.begin('commit')
    await rename(root, `${directory}/${vmId}`)
    await syncPath(directory)
  } catch (error) {
    const reason = await explainFull(directory, error)
    await removeVmDirectory(host.programs, root)
    throw reason
  }
}

/** Exactly the parts that the VM and its snapshots have, each once. */
function checkParts(
  manifest: ExportManifest,
  descriptor: Descriptor,
  snapshots: readonly SealedSnapshot[],
): void {
  const files = manifest.parts.map(({ file }) => file)
  const required = [
    ...requiredFiles(descriptor),
    ...filesOfSnapshots(snapshots.map(({ snapshot }) => snapshot)),
  ]
  const missing = required.filter((file) => !files.includes(file))
  const others = files.filter(
    (file) => !required.includes(file) && !(descriptor.vtpm && isCertificateFile(file)),
  )
  if (missing.length > 0 || others.length > 0 || new Set(files).size !== files.length) {
    const what = [...missing.map((file) => `no ${file}`), ...others].join(', ')
    throw corrupt(`expected the parts of VM ${manifest.name}, each once, found ${what || 'others'}`)
  }
}

async function copyParts(
  { directory, sealed: { manifest }, snapshots }: FoundExport,
  { paths, descriptor }: StoredVm,
  options: { readonly progress: OctetProgress; readonly signal: AbortSignal | undefined },
): Promise<void> {
  const { progress, signal } = options
  if (descriptor.vtpm) {
    await makePrivateDirectory(paths.vtpm)
    await makePrivateDirectory(paths.vtpmCertificates)
  }
  if (snapshots.length > 0) await makePrivateDirectory(paths.snapshots)
  for (const { snapshot } of snapshots) {
    await makePrivateDirectory(`${paths.snapshots}/${snapshot.snapshotId}`)
  }
  for (const { file, octets, sha256 } of manifest.parts) {
    progress.begin(`copy ${file}`)
    const target = `${paths.root}/${file}`
    const source = `${directory}/${exportedName(file)}`
    const copied = await copyFileSparse(source, target, octets, {
      onCopied: (done) => progress.copying(done),
      ...(signal ? { signal } : {}),
    }).catch((cause: unknown) => {
      if (!(cause instanceof RangeError) && !isErrno(cause, 'ENOENT', 'ELOOP', 'ENXIO')) throw cause
      throw corrupt(messageOf(cause), cause)
    })
    if (copied.sha256 !== sha256) throw corrupt(`${file} has another digest than the manifest`)
    progress.copied(octets)
    await syncPath(dirname(target))
  }
  if (snapshots.length > 0) await syncPath(paths.snapshots)
}

/** Opens everything with the keys: what does not open here is not taken from where it may open. */
async function verifyCopy(
  host: VmHost,
  copy: StoredVm,
  keys: VmKeys,
  records: readonly KeyRecord[],
): Promise<void> {
  const home = await verifyDisks(host, copy, keys, records)
  if (home.vtpm) {
    const state = await checkVtpm(copy.paths, keys.of('vtpm'))
    const { generation } = await readVtpmRecord(copy.paths)
    await recordVtpmState(copy.paths, state, generation)
  }
}

/** Of a VM, or of one of its snapshots, whose home and disks lie in the same way. */
async function verifyDisks(
  host: VmHost,
  copy: StoredVm,
  keys: VmKeys,
  records: readonly KeyRecord[],
): Promise<Home> {
  const home = await host.store.readHome(copy, keys, records)
  for (const disk of home.disks) {
    const file = diskFileOf(copy.paths, disk)
    if (isEncrypted(file)) await verifyDisk(host.programs, file, keys.of(`disk-${disk.name}`))
    else await checkDiskFile(file)
  }
  const { descriptor, paths } = copy
  await verifyNvram(host.programs, { vmId: descriptor.vmId, paths, home }, keys)
  return home
}

async function readPart(directory: string, file: string, maxOctets: number): Promise<Uint8Array> {
  const path = `${directory}/${exportedName(file)}`
  const octets = await readPrivateFile(path, maxOctets).catch((cause: unknown) => {
    throw corrupt(`${path}: ${messageOf(cause)}`, cause)
  })
  if (!octets) throw corrupt(`expected ${path}`)
  return octets
}

function corrupt(message: string, cause?: unknown): PlatformError {
  return new PlatformError('VM_EXPORT_CORRUPT', message, { cause })
}
