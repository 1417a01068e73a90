import { rm } from 'node:fs/promises'
import { type Static, Type } from 'typebox'
import { Exactly } from '../../api/common.js'
import { isThere, replacePrivateFile, syncPath } from '../vm/files.js'
import type { VmPaths } from '../vm/layout.js'
import { encodeRecord, readRecord } from '../vm/records.js'

const FILE = 'libvirt.json'

/** `libvirt.json`: libvirt runs the VM, or is about to, or has just ceased to. Where it is not, the agent does. */
const LibvirtRecord = Exactly({
  format: Type.Literal(1),
  /** While a definition or its way back is not done, nobody starts the VM. */
  phase: Type.Union([
    Type.Literal('defining'),
    Type.Literal('defined'),
    Type.Literal('undefining'),
  ]),
  /** As far as it is known: libvirt does not tell of every end when its hook is not installed. */
  running: Type.Boolean(),
})
export type LibvirtRecord = Static<typeof LibvirtRecord>

/** @throws PlatformError `VM_DESCRIPTOR_CORRUPT` */
export async function readLibvirtRecord(paths: VmPaths): Promise<LibvirtRecord | undefined> {
  return (await isThere(paths.libvirtRecord))
    ? readRecord(paths.libvirtRecord, LibvirtRecord, FILE)
    : undefined
}

export async function writeLibvirtRecord(
  paths: VmPaths,
  record: Omit<LibvirtRecord, 'format'>,
): Promise<void> {
  const content: LibvirtRecord = { format: 1, ...record }
  await replacePrivateFile(paths.root, FILE, encodeRecord(content))
}

/** From now on the agent runs the VM. */
export async function dropLibvirtRecord(paths: VmPaths): Promise<void> {
  await rm(paths.libvirtRecord, { force: true })
  await syncPath(paths.root)
}
