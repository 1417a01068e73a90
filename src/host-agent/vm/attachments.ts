import { chmod, chown, link, lstat, stat } from 'node:fs/promises'
import { type DetachedDisk, DiskAttach } from '../../api/disk-attachment.js'
import type { VmDetails } from '../../api/host-agent.js'
import { isoTime } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import { newUuid } from '../../core/random.js'
import { misfitOf } from '../../core/schema-errors.js'
import { fileName } from './change-part.js'
import { changeVm, wrapNewKeys } from './change-vm.js'
import { verifyDisk } from './disk.js'
import {
  BUNDLE_RECORD,
  bundleFile,
  DETACHED,
  type DiskBundle,
  listBundles,
  readBundle,
} from './disk-bundle.js'
import { MAX_DISKS, type VmDisks } from './disk-changes.js'
import { checkDiskFile, type DiskFile, diskFileOf, isEncrypted } from './disk-file.js'
import { isErrno } from './errno.js'
import { makePrivateDirectory, syncPath, writePrivateFile } from './files.js'
import { openImage } from './image.js'
import { checkImportFile, isSameFile, resolveImport } from './import-file.js'
import type { Following } from './part-by-part.js'
import { Progress } from './progress.js'
import { encodeRecord, type Home } from './records.js'
import { plugIfRunning, unplugIfRunning } from './running-disks.js'
import { detailsOf } from './vm-details.js'
import type { VmHost } from './vm-host.js'
import { contextOf, type KeyObject, VmKeys } from './vm-keys.js'
import { findDisk, homeKey, partOf } from './vm-parts.js'
import { checkDiskSpec } from './vm-spec.js'
import type { StoredVm } from './vm-store.js'

const STEPS = 7

/**
 * Disks that leave a VM and come into another, as they are: their data is not copied. The VM may run. Each change is whole or
 * undone whenever the process ends.
 *
 * Every method throws `VM_NOT_FOUND`, `VM_BUSY`, `VM_PROCESS`, and errors of the key provider.
 */
export interface VmAttachments {
  /**
   * Attaches a disk that was detached, from its directory: its key is wrapped anew for this VM, and the old one released.
   * Or an image: a raw one that is to be plain becomes the disk; all else is copied, and stays where it is.
   *
   * @throws PlatformError `VM_IMPORT_PATH`, `VM_IMPORT_FILE`, `VM_DISK_BUNDLE`, `VM_DISK_IN_USE`, `VM_DISK_ELSEWHERE`,
   *   `VM_DISK_CORRUPT`, `VM_KEY_WRONG`, and what `addDisk` throws
   */
  attachDisk(name: string, request: DiskAttach, following?: Following): Promise<VmDetails>
  /** The key stays wrapped for the VM that the disk was of. @throws PlatformError `VM_DISK_NOT_FOUND` */
  detachDisk(
    name: string,
    disk: string,
    following?: Pick<Following, 'onProgress'>,
  ): Promise<{ readonly vm: VmDetails; readonly detached: DetachedDisk }>
  /**
   * Whether an image may be read for somebody who is not on this host: from where disks may be attached, and no link.
   *
   * @throws PlatformError `VM_IMPORT_PATH`, `VM_IMPORT_FILE`
   */
  requireImportable(path: string): Promise<void>
  /** Those that are on this host still, where it put them. */
  listDetached(): Promise<readonly DetachedDisk[]>
}

/** A file that is to become a disk as it is. */
interface Source {
  readonly path: string
  readonly sizeOctets: number
  readonly bundle?: DiskBundle
}

export function createVmAttachments(
  host: VmHost,
  options: {
    readonly importDirectories: readonly string[]
    readonly addDisk: VmDisks['addDisk']
  },
): VmAttachments {
  const { store } = host
  const directories = [`${store.directory}/${DETACHED}`, ...options.importDirectories]

  /** The file to be taken; undefined for an image that has to be copied. */
  const sourceOf = async (path: string, isPlain: boolean): Promise<Source | undefined> => {
    const found = await lstat(path).catch((cause: unknown) => {
      throw new PlatformError('VM_IMPORT_FILE', `cannot find ${path}`, { cause })
    })
    if (found.isDirectory()) {
      const bundle = await readBundle(path)
      return { path: `${path}/${bundleFile(bundle)}`, sizeOctets: bundle.sizeOctets, bundle }
    }
    await checkImportFile(path)
    await using image = await openImage(path)
    if (!isPlain || image.format !== 'raw') return undefined
    if (image.virtualOctets !== found.size) {
      throw new PlatformError('VM_IMAGE', `expected whole sectors of 512 octets in ${path}`)
    }
    return { path, sizeOctets: found.size }
  }

  return {
    attachDisk: async (name, request, following = {}) => {
      const misfit = misfitOf(DiskAttach, request)
      if (misfit !== undefined) throw new PlatformError('REQUEST_INVALID', `request${misfit}`)
      const isVmPlain = (await store.find(name)).descriptor.provider === undefined
      const path = await resolveImport(request.from, directories)
      const source = await sourceOf(path, request.plain ?? isVmPlain)
      if (!source) return options.addDisk(name, { ...request, from: path }, following)
      return host.claim(name, 'attach-disk', (vm) => attach(host, vm, request, source, following), {
        mayRun: true,
      })
    },

    detachDisk: (name, diskName, { onProgress = () => undefined } = {}) =>
      host.claim(
        name,
        'detach-disk',
        async (vm) => {
          findDisk(vm.descriptor, diskName)
          const { vmId } = vm.descriptor
          const bundleName = `${name}-${diskName}-${newUuid().slice(0, 8)}`
          const path = `${store.directory}/${DETACHED}/${bundleName}`
          let bundle: DiskBundle | undefined
          await host.withKeys(vm, homeKey(vm.descriptor), async (home, keys) => {
            const disk = diskOf(home, diskName)
            bundle = await bundleOf(host, vm, disk)
            await unplugIfRunning(vm.paths, diskName)
            const onStep = (step: string) => onProgress(`${diskName}: ${step}`, 0)
            await changeVm(host, vm, { onStep }, async () => {
              onStep('record')
              await makePrivateDirectory(`${vm.paths.change}/give`)
              const record = `${vm.paths.change}/give/${BUNDLE_RECORD}`
              await writePrivateFile(record, encodeRecord(bundle))
              return {
                home: { ...home, disks: home.disks.filter((one) => one !== disk) },
                homeKey: vm.descriptor.provider === undefined ? undefined : keys.of('home'),
                ...{ newKeys: [], goneKeys: disk.volumeId === undefined ? [] : [partOf(disk)] },
                files: { give: [{ file: fileName(disk), bundle: bundleName }] },
              }
            })
          })
          if (!bundle) throw new TypeError('a disk that was detached has a record')
          host.logger.info(
            { event: 'vm.disk-detached', vmId, name, disk: diskName, path },
            'a disk was detached',
          )
          const now = await store.find(name)
          await host.reports.tell(now)
          return { vm: await detailsOf(now), detached: viewOf(path, bundle) }
        },
        { mayRun: true },
      ),

    requireImportable: async (path) => {
      await checkImportFile(await resolveImport(path, directories))
    },

    listDetached: async () =>
      (await listBundles(store.directory)).map(({ path, bundle }) => viewOf(path, bundle)),
  }
}

async function attach(
  host: VmHost,
  vm: StoredVm,
  request: DiskAttach,
  source: Source,
  { onProgress = () => undefined, signal }: Following,
): Promise<VmDetails> {
  const { descriptor, paths } = vm
  const { vmId, name, provider } = descriptor
  const { bundle } = source
  const isPlain = bundle?.encrypted === undefined
  const spec = checkDiskSpec(
    { name: request.name, sizeOctets: source.sizeOctets, plain: isPlain },
    provider,
  )
  if (descriptor.disks.some((disk) => disk.name === spec.name)) {
    throw new PlatformError('VM_DISK_EXISTS', `VM ${name} has a disk ${spec.name}`)
  }
  if (descriptor.disks.length >= MAX_DISKS) {
    throw new PlatformError('REQUEST_INVALID', `expected at most ${MAX_DISKS} disks in a VM`)
  }
  const progress = new Progress(onProgress, STEPS)
  const onStep = (step: string) => progress.begin(`${spec.name}: ${step}`)
  const disk = {
    ...{ name: spec.name, sizeOctets: source.sizeOctets },
    ...(bundle?.encrypted ? { volumeId: bundle.encrypted.volumeId } : {}),
  }
  const objects: readonly KeyObject[] = isPlain ? [] : [partOf(disk)]
  onStep('keys')
  using key = await openKey(host, objects[0], bundle)
  await host.withKeys(vm, homeKey(descriptor), (home, opened) =>
    changeVm(host, vm, { onStep, signal }, async (staged) => {
      const newKeys =
        provider === undefined
          ? []
          : await wrapNewKeys(host, vm, staged, { provider, objects, keys: key })
      onStep('take')
      const file: DiskFile = {
        ...diskFileOf(paths, disk),
        path: `${paths.change}/take/${fileName(disk)}`,
      }
      await makePrivateDirectory(`${paths.change}/take`)
      if (bundle) {
        await writePrivateFile(`${paths.change}/take/${BUNDLE_RECORD}`, encodeRecord(bundle))
      }
      await linkIn(source.path, file.path, host.store.directory)
      onStep('verify')
      await checkDiskFile(file)
      if (isEncrypted(file)) await verifyDisk(host.programs, file, key.of(partOf(disk)))
      const [object] = objects
      await plugIfRunning(vm.paths, disk.name, { file, key: object ? key.of(object) : undefined })
      return {
        home: { ...home, disks: [...home.disks, disk] },
        homeKey: provider === undefined ? undefined : opened.of('home'),
        ...{ newKeys, goneKeys: [] },
        files: {
          take: [{ file: fileName(disk), from: source.path, bundle: bundle !== undefined }],
        },
      }
    }),
  )
  if (bundle) await host.releases.noteBundle(bundle)
  host.logger.info(
    { event: 'vm.disk-attached', vmId, name, disk: disk.name },
    'a disk was attached',
  )
  const now = await host.store.find(name)
  await host.reports.tell(now)
  progress.end()
  return detailsOf(now)
}

/** Has the key of a detached disk unwrapped as that of the VM that it was of. */
async function openKey(
  host: VmHost,
  object: KeyObject | undefined,
  bundle: DiskBundle | undefined,
): Promise<VmKeys> {
  if (!object || !bundle?.encrypted) return new VmKeys(new Map())
  const { provider, wrapped, object: before } = bundle.encrypted
  const item = { wrapped, purpose: 'vm-disk', context: contextOf(bundle.vm.vmId, before) } as const
  const [key, ...others] = await host.keys.unwrap(provider, [item], host.assurance)
  if (key?.length !== 32 || others.length > 0) {
    for (const one of [key, ...others]) one?.dispose()
    throw new PlatformError('VM_KEY_WRONG', 'expected one key of 32 octets for the disk')
  }
  return new VmKeys(new Map([[object, key]]))
}

/** Gives the file a second name among the private files of the VM: whether it may be taken is asked of that. */
async function linkIn(from: string, to: string, directory: string): Promise<void> {
  const found = await checkImportFile(from)
  try {
    await link(from, to)
  } catch (cause) {
    if (isErrno(cause, 'EPERM')) {
      throw new PlatformError('VM_IMPORT_FILE', `the agent may not take ${from}`, { cause })
    }
    if (!isErrno(cause, 'EXDEV')) throw cause
    throw new PlatformError(
      'VM_DISK_ELSEWHERE',
      `expected ${from} on the file system of ${directory}; copy it there first`,
      { cause },
    )
  }
  if (!isSameFile(found, await lstat(to))) {
    throw new PlatformError('VM_IMPORT_FILE', `${from} became another file meanwhile`)
  }
  const { uid, gid } = await stat(directory)
  await chown(to, uid, gid)
  await chmod(to, 0o600)
  await syncPath(to)
}

async function bundleOf(
  host: VmHost,
  vm: StoredVm,
  disk: Home['disks'][number],
): Promise<DiskBundle> {
  const { vmId, name } = vm.descriptor
  const bundle: DiskBundle = {
    ...{ format: 1, kind: 'sigillo disk', name: disk.name, sizeOctets: disk.sizeOctets },
    ...{ vm: { vmId, name }, detachedAt: isoTime(host.clock.nowMs()) },
  }
  if (disk.volumeId === undefined) return bundle
  const object = partOf(disk)
  const record = (await host.store.readKeys(vm)).find((one) => one.object === object)
  if (!record) {
    throw new PlatformError('VM_DESCRIPTOR_CORRUPT', `keys.json has no key of ${object}`)
  }
  const { provider, wrapped } = record
  return { ...bundle, encrypted: { volumeId: disk.volumeId, provider, object, wrapped } }
}

function viewOf(
  path: string,
  { name, sizeOctets, vm, detachedAt, encrypted }: DiskBundle,
): DetachedDisk {
  return {
    ...{ path, name, sizeOctets, vm, detachedAt, encrypted: encrypted !== undefined },
    ...(encrypted ? { provider: encrypted.provider } : {}),
  }
}

function diskOf(home: Home, name: string): Home['disks'][number] {
  const disk = home.disks.find((candidate) => candidate.name === name)
  if (!disk) throw new TypeError('home and descriptor agree about disks')
  return disk
}
