import { readdir } from 'node:fs/promises'
import { type Static, Type } from 'typebox'
import { Exactly, Name, Time, Uuid } from '../../api/common.js'
import { WrappedKey } from '../../api/key-provider.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { isErrno } from './errno.js'
import { readPrivateFile } from './files.js'
import { parseRecord } from './records.js'

/** Below the directory of VMs: one directory for each disk that was detached on this host. */
export const DETACHED = 'detached'
/** In the directory of a detached disk. */
export const BUNDLE_RECORD = 'disk.json'

const MAX_RECORD_OCTETS = 64 * 1024

/**
 * A disk that is of no VM: a directory with this record and `disk.luks` or `disk.raw`. It can be copied to another host. The
 * key opens for a host that its provider serves, and for nobody else.
 */
const DiskBundle = Exactly({
  format: Type.Literal(1),
  kind: Type.Literal('sigillo disk'),
  name: Name,
  sizeOctets: Type.Integer({ minimum: 512, maximum: 2 ** 48, multipleOf: 512 }),
  /** The VM that it was of: its wrapped key is bound to it. */
  vm: Exactly({ vmId: Uuid, name: Name }),
  detachedAt: Time,
  /** Absent for a plain disk. */
  encrypted: Type.Optional(
    Exactly({
      volumeId: Uuid,
      provider: Name,
      object: Type.String({ pattern: '^disk-[a-z0-9._-]{1,58}$' }),
      wrapped: WrappedKey,
    }),
  ),
})
export type DiskBundle = Static<typeof DiskBundle>

/** @throws PlatformError `VM_DISK_BUNDLE` */
export async function readBundle(directory: string): Promise<DiskBundle> {
  const path = `${directory}/${BUNDLE_RECORD}`
  const octets = await readPrivateFile(path, MAX_RECORD_OCTETS).catch((cause: unknown) => {
    throw new PlatformError('VM_DISK_BUNDLE', `${path}: ${messageOf(cause)}`, { cause })
  })
  if (!octets) throw new PlatformError('VM_DISK_BUNDLE', `expected ${path}`)
  return parseRecord(DiskBundle, octets, 'VM_DISK_BUNDLE', path)
}

/** Name of the file with the data. */
export function bundleFile({ encrypted }: DiskBundle): string {
  return encrypted ? 'disk.luks' : 'disk.raw'
}

/** Disks that were detached on this host, with their directories. What cannot be read is left out. */
export async function listBundles(
  vmDirectory: string,
): Promise<readonly { readonly path: string; readonly bundle: DiskBundle }[]> {
  const names = await readdir(`${vmDirectory}/${DETACHED}`).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  })
  const found = names.sort().map(async (name) => {
    const path = `${vmDirectory}/${DETACHED}/${name}`
    const bundle = await readBundle(path).catch(() => undefined)
    return bundle ? [{ path, bundle }] : []
  })
  return (await Promise.all(found)).flat()
}
