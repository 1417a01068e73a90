import { readLibvirtRecord } from '../libvirt/record.js'
import type { VmPaths } from './layout.js'
import { findRunning } from './run.js'

/** Whether a VM runs, under the agent or, as far as it is known, under libvirt. */
export async function isRunning(paths: VmPaths): Promise<boolean> {
  if (await findRunning(paths)) return true
  return (await readLibvirtRecord(paths))?.running === true
}
