import { chmod, mkdir, readdir, rename, stat } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { canonicalJson } from '../../core/canonical-json.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import { isUuid } from '../../core/names.js'
import { isThere, readPrivateFile, syncPath } from './files.js'
import { openHome } from './home.js'
import { CREATING, DELETING, IMPORTING, MAX_SOCKET_PATH, pathsOf, type VmPaths } from './layout.js'
import { requireOwnDirectories } from './own-directory.js'
import {
  BroughtMark,
  Descriptor,
  descriptorOf,
  ExportedMark,
  Home,
  type KeyRecord,
  KeyRecords,
  readRecord,
} from './records.js'
import { homeGeneration, type VmKeys } from './vm-keys.js'

const MAX_HOME_OCTETS = 1024 * 1024
const UUID_OF_NOTHING = '00000000-0000-0000-0000-000000000000'
/** The path is written into options of swtpm and QEMU, where a comma or a space would begin another option. */
const PLAIN_PATH = /^(\/[A-Za-z0-9._-]+)+$/

export interface StoredVm {
  readonly descriptor: Descriptor
  readonly paths: VmPaths
  /** Of a VM that was handed over to another host. */
  readonly exported?: ExportedMark
}

export interface UnreadableVm {
  readonly vmId: string
  readonly error: unknown
}

/** The directory with the VMs of this host: one directory for each, named by its id. */
export class VmStore {
  readonly directory: string
  readonly #logger: Logger

  /** @throws PlatformError `CONFIG_INVALID` for a path that programs could misread or that is too long for sockets */
  constructor(directory: string, logger: Logger) {
    const longest = Math.max(
      pathsOf(`${directory}/${UUID_OF_NOTHING}`).qmpSocket.length,
      `${directory}/${CREATING}${UUID_OF_NOTHING}/job/ca`.length,
      `${pathsOf(`${directory}/${UUID_OF_NOTHING}`).change}/job/ca`.length,
    )
    if (!isAbsolute(directory) || !PLAIN_PATH.test(directory) || longest > MAX_SOCKET_PATH) {
      throw new PlatformError(
        'CONFIG_INVALID',
        `expected an absolute path of at most ${MAX_SOCKET_PATH - longest + directory.length} ` +
          `letters, digits, dots and hyphens for the VMs, found ${directory}`,
      )
    }
    this.directory = directory
    this.#logger = logger
  }

  async prepare(): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 })
    // the QEMU of libvirt may pass through, where a VM is defined in it
    const { mode } = await stat(this.directory)
    await chmod(this.directory, 0o700 | (mode & 0o011))
  }

  /** All VMs by name. One whose descriptor cannot be read is logged and left out. */
  async list(): Promise<readonly StoredVm[]> {
    return (await this.#readAll()).vms
  }

  /** Those that `list` leaves out, and why. */
  async listUnreadable(): Promise<readonly UnreadableVm[]> {
    return (await this.#readAll()).unreadable
  }

  async has(name: string): Promise<boolean> {
    return (await this.list()).some(({ descriptor }) => descriptor.name === name)
  }

  /** @param vm its id or its name @throws PlatformError `VM_NOT_FOUND`; `VM_DESCRIPTOR_CORRUPT` where directories are links */
  async find(vm: string): Promise<StoredVm> {
    const { vms, unreadable } = await this.#readAll()
    const found =
      vms.find(({ descriptor }) => descriptor.vmId === vm) ??
      vms.find(({ descriptor }) => descriptor.name === vm)
    const odd = unreadable.find(({ vmId }) => vmId === vm)
    if (odd) throw odd.error
    if (!found) throw new PlatformError('VM_NOT_FOUND', `no VM ${vm} is on this host`)
    await requireOwnDirectories(found.paths)
    return found
  }

  /** By what a VM came from another host; nothing for one that was made here. @throws PlatformError `VM_DESCRIPTOR_CORRUPT` */
  async readBrought({ paths }: StoredVm): Promise<BroughtMark | undefined> {
    if (!(await isThere(paths.brought))) return undefined
    return readRecord(paths.brought, BroughtMark, 'brought.json')
  }

  /** @throws PlatformError `VM_DESCRIPTOR_CORRUPT` */
  async readKeys({ paths }: StoredVm): Promise<readonly KeyRecord[]> {
    return (await readRecord(paths.keys, KeyRecords, 'keys.json')).keys
  }

  /** Keys that a change which was begun has or had: new ones, and those that it replaces. */
  async readKeysOfChange({ paths }: StoredVm): Promise<readonly KeyRecord[]> {
    const changes = [`${paths.change}/new`, `${paths.change}/old`]
    if ((await readdir(paths.change).catch(() => [])).length === 0) return []
    const files = [paths.keys, ...changes.map((root) => pathsOf(root).keys)]
    const records = files.map((file) =>
      readRecord(file, KeyRecords, 'keys.json').then(
        ({ keys }) => keys,
        // not yet, or no longer
        () => [],
      ),
    )
    return (await Promise.all(records)).flat()
  }

  /**
   * The home, decrypted unless it is plain. It must agree with the descriptor, which anybody could have changed.
   *
   * @throws PlatformError `VM_HOME_CORRUPT`
   */
  async readHome(vm: StoredVm, keys: VmKeys, records: readonly KeyRecord[]): Promise<Home> {
    const { descriptor, paths } = vm
    const home =
      descriptor.provider === undefined
        ? await readRecord(paths.plainHome, Home, 'home.json')
        : await this.#openHome(vm, keys, records)
    if (canonicalJson(descriptorOf(home, descriptor)) !== canonicalJson(descriptor)) {
      throw new PlatformError('VM_HOME_CORRUPT', 'the home and the descriptor of the VM differ')
    }
    return home
  }

  async #openHome(vm: StoredVm, keys: VmKeys, records: readonly KeyRecord[]): Promise<Home> {
    const { descriptor, paths } = vm
    const octets = await readPrivateFile(paths.home, MAX_HOME_OCTETS).catch((cause) => {
      throw new PlatformError('VM_HOME_CORRUPT', messageOf(cause), { cause })
    })
    if (!octets) throw new PlatformError('VM_HOME_CORRUPT', `expected ${paths.home}`)
    return openHome(octets, descriptor.vmId, homeGeneration(records), keys.of('home'))
  }

  /** From now on there is no such VM; what is left of it is at the returned path. */
  async takeAway({ descriptor, paths }: StoredVm): Promise<string> {
    const root = `${this.directory}/${DELETING}${descriptor.vmId}`
    await rename(paths.root, root)
    await syncPath(this.directory)
    return root
  }

  /** Directories of VMs that were being made or deleted when an agent ended. */
  async leftovers(): Promise<readonly string[]> {
    const names = await this.#entries((name) =>
      [CREATING, DELETING].some((prefix) => name.startsWith(prefix)),
    )
    return names.map((name) => `${this.directory}/${name}`)
  }

  /** Directories of VMs that were being imported when an agent ended. */
  async unfinishedImports(): Promise<readonly string[]> {
    const names = await this.#entries((name) => name.startsWith(IMPORTING))
    return names.map((name) => `${this.directory}/${name}`)
  }

  /** Directories of VMs that are being received, or were when an agent ended. */
  async receiving(): Promise<readonly string[]> {
    const roots = (await this.#entries(isUuid)).map((vmId) => `${this.directory}/${vmId}`)
    const found = await Promise.all(roots.map((root) => isThere(pathsOf(root).receiving)))
    return roots.filter((_, index) => found[index])
  }

  async #entries(isWanted: (name: string) => boolean): Promise<readonly string[]> {
    const entries = await readdir(this.directory, { withFileTypes: true })
    return entries.flatMap((entry) =>
      entry.isDirectory() && isWanted(entry.name) ? [entry.name] : [],
    )
  }

  async #readAll(): Promise<{ vms: StoredVm[]; unreadable: UnreadableVm[] }> {
    const vms: StoredVm[] = []
    const unreadable: UnreadableVm[] = []
    for (const vmId of await this.#entries(isUuid)) {
      if (await isThere(pathsOf(`${this.directory}/${vmId}`).receiving)) continue
      try {
        vms.push(await this.#read(vmId))
      } catch (error) {
        const reason = messageOf(error)
        this.#logger.error({ event: 'vm.unreadable', vmId, reason }, 'a VM cannot be read')
        unreadable.push({ vmId, error })
      }
    }
    vms.sort((a, b) => (a.descriptor.name < b.descriptor.name ? -1 : 1))
    return { vms, unreadable }
  }

  async #read(vmId: string): Promise<StoredVm> {
    const paths = pathsOf(`${this.directory}/${vmId}`)
    const descriptor = await readRecord(paths.descriptor, Descriptor, 'vm.json')
    if (descriptor.vmId !== vmId) {
      throw new PlatformError('VM_DESCRIPTOR_CORRUPT', `vm.json is of VM ${descriptor.vmId}`)
    }
    const exported = await readExported(paths)
    return { descriptor, paths, ...(exported ? { exported } : {}) }
  }
}

/** @throws PlatformError `VM_DESCRIPTOR_CORRUPT`: a mark that cannot be read does not unlock a VM */
async function readExported({ exported }: VmPaths): Promise<ExportedMark | undefined> {
  return (await isThere(exported)) ? readRecord(exported, ExportedMark, 'exported.json') : undefined
}
