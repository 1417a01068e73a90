import type { VmState } from '../../api/control-plane.js'
import type { VmDetails } from '../../api/host-agent.js'
import { readLock, type VmLock } from './lock.js'
import { isAlive } from './processes.js'
import type { Home } from './records.js'
import { findRunning } from './run.js'
import { isRunning } from './running.js'
import type { StoredVm } from './vm-store.js'
import { readVtpmCertificates } from './vtpm.js'

/** Whether a VM runs, is stopped, or is locked and why. */
export async function stateOf({
  descriptor,
  paths,
}: StoredVm): Promise<{ readonly state: VmState; readonly lock?: VmLock }> {
  if (await isRunning(paths)) return { state: 'running' }
  const lock = descriptor.provider === undefined ? undefined : await readLock(paths)
  return lock ? { state: 'locked', lock } : { state: 'stopped' }
}

/** What people are shown of a VM: with `home` all of it, else what is known without its keys. */
export async function detailsOf(
  vm: StoredVm,
  home?: Pick<Home, 'memoryMib' | 'cpus'>,
): Promise<VmDetails> {
  const { vmId, name, provider, vtpm, nvram, createdAt } = vm.descriptor
  const record = await findRunning(vm.paths)
  return {
    ...{ vmId, name, vtpm, createdAt, ...(await stateOf(vm)) },
    nvramEncrypted: nvram !== undefined,
    ...(provider === undefined ? {} : { provider }),
    disks: vm.descriptor.disks.map(({ name, sizeOctets, plain }) => ({
      ...{ name, sizeOctets, format: plain ? 'raw' : 'luks1' },
    })),
    ...(home ? { memoryMib: home.memoryMib, cpus: home.cpus } : {}),
    ...(home && vtpm ? { vtpmCertificates: [...(await readVtpmCertificates(vm.paths))] } : {}),
    ...(vm.exported ? { handedOverAt: vm.exported.exportedAt } : {}),
    ...(record?.swtpm && !(await isAlive(record.swtpm)) ? { vtpmEnded: true as const } : {}),
    ...(record ? { accelerator: record.accelerator, pid: record.qemu.pid } : {}),
  }
}
