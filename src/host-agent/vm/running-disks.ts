import type { OpenDisk } from './disk-copy.js'
import type { VmPaths } from './layout.js'
import {
  checkNoSecretLeft,
  freeIndex,
  plugDisk,
  pluggedDisks,
  resizeDisk,
  unplugDisk,
} from './qemu-disks.js'
import { Qmp } from './qmp.js'
import { findRunning } from './run.js'

/** Gives a disk to a VM, if that runs. @throws PlatformError `VM_KEY_WRONG`, `VM_PROCESS` */
export function plugIfRunning(paths: VmPaths, name: string, disk: OpenDisk): Promise<void> {
  return ifRunning(paths, async (qmp) => {
    await plugDisk(qmp, freeIndex(await pluggedDisks(qmp)), name, disk)
    await checkNoSecretLeft(qmp)
  })
}

/** Takes a disk away from a VM, if that runs. @throws PlatformError `VM_PROCESS` */
export function unplugIfRunning(paths: VmPaths, name: string): Promise<void> {
  return ifRunning(paths, (qmp) => unplugDisk(qmp, name))
}

/** Takes all disks but these away from a VM, if that runs. @throws PlatformError `VM_PROCESS` */
export function unplugOthersIfRunning(paths: VmPaths, kept: readonly string[]): Promise<void> {
  return ifRunning(paths, async (qmp) => {
    for (const name of (await pluggedDisks(qmp)).keys()) {
      if (!kept.includes(name)) await unplugDisk(qmp, name)
    }
  })
}

/** Tells a VM, if it runs, that a disk became larger. @throws PlatformError `VM_PROCESS` */
export function resizeIfRunning(paths: VmPaths, name: string, sizeOctets: number): Promise<void> {
  return ifRunning(paths, (qmp) => resizeDisk(qmp, name, sizeOctets))
}

async function ifRunning(paths: VmPaths, work: (qmp: Qmp) => Promise<void>): Promise<void> {
  if (!(await findRunning(paths))) return
  await using qmp = await Qmp.connect(paths.qmpSocket)
  await work(qmp)
}
