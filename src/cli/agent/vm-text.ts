import type { VmDetails } from '../../api/host-agent.js'
import { fields, type Output, sizeText } from '../output.js'

/** One VM on standard output. */
export function printVm(output: Output, vm: VmDetails): void {
  output.data(vm, () => [
    ...fields([
      ['VM', vm.name],
      ['id', vm.vmId],
      ['state', vm.state],
      ['locked', vm.lock && `${vm.lock.reason} (${vm.lock.code}) since ${vm.lock.since}`],
      ['reason', vm.lock?.message],
      ['key provider', vm.provider ?? 'none: not encrypted'],
      ['memory', vm.memoryMib === undefined ? undefined : `${vm.memoryMib} MiB`],
      ['processors', vm.cpus === undefined ? undefined : String(vm.cpus)],
      ['firmware variables', vm.nvramEncrypted ? 'encrypted' : 'not encrypted'],
      ['virtual TPM', vm.vtpmEnded ? 'ended: stop and start the VM' : vm.vtpm ? 'yes' : 'no'],
      ['accelerator', vm.accelerator],
      ['process', vm.pid === undefined ? undefined : String(vm.pid)],
      ['handed over', vm.handedOverAt && `${vm.handedOverAt}: locked here`],
      ['made', vm.createdAt],
    ]),
    ...vm.disks.map((d) => `  disk ${d.name}: ${sizeText(d.sizeOctets)}, ${d.format}`),
  ])
}
