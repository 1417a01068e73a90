import { GUEST_PORT } from '../../api/guest-channel.js'
import type { Firmware } from './accelerator.js'
import type { VmPaths } from './layout.js'
import type { Accelerator, Home } from './records.js'

/**
 * Command line of a VM that waits, without its disks and the variables of its firmware: they come with their keys over QMP, so
 * that no key is here. The machine has its flash from the moment that it is made, so that waits for them, too.
 *
 * No network, no display and no serial port: what a guest prints may be secret. QEMU may start no program.
 */
export function qemuArguments(options: {
  readonly vmId: string
  readonly home: Home
  readonly paths: VmPaths
  readonly accelerator: Accelerator
  readonly firmware: Firmware
  /** Whether all memory is locked into RAM. */
  readonly lockMemory?: boolean
  /** The machine, with its version, that it waits for the state of. Else it is the newest that QEMU has. */
  readonly incoming?: string
}): readonly string[] {
  const { vmId, home, paths, accelerator, firmware, lockMemory = false, incoming } = options
  const code = { driver: 'file', filename: firmware.code, 'node-name': 'code', 'read-only': true }
  return [
    ...['-name', home.name, '-uuid', vmId, '-S', '--preconfig'],
    ...['-nodefaults', '-no-user-config', '-display', 'none'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...['-machine', `${incoming ?? 'q35'},accel=${accelerator},pflash0=code,dump-guest-core=off`],
    ...(lockMemory ? ['-overcommit', 'mem-lock=on'] : []),
    ...['-cpu', accelerator === 'kvm' ? 'host' : 'max'],
    ...['-smp', `${home.cpus}`, '-m', `${home.memoryMib}M`],
    ...['-blockdev', JSON.stringify(code)],
    ...['-device', 'virtio-scsi-pci,id=scsi', '-device', 'virtio-rng-pci'],
    ...(home.vtpm ? [...tpmArguments(paths), ...guestPortArguments(paths)] : []),
    ...['-chardev', `socket,id=qmp,path=${paths.qmpSocket},server=on,wait=off`],
    ...['-mon', 'chardev=qmp,mode=control', '-pidfile', paths.qemuPid],
    ...(incoming === undefined ? [] : ['-incoming', 'defer']),
  ]
}

/** swtpm for one QEMU: it ends when QEMU closes the connection. State key on descriptor 3, migration key on 4. */
export function swtpmArguments(paths: VmPaths): readonly string[] {
  const key = (descriptor: number) => `fd=${descriptor},mode=aes-256-cbc,format=binary`
  return [
    ...['socket', '--tpm2', '--tpmstate', `dir=${paths.vtpm},mode=0600`],
    ...['--ctrl', `type=unixio,path=${paths.tpmSocket},mode=0600`],
    ...['--key', key(3), '--migration-key', key(4)],
    ...['--pid', `file=${paths.swtpmPid}`, '--terminate'],
  ]
}

function tpmArguments(paths: VmPaths): readonly string[] {
  return [
    ...['-chardev', `socket,id=tpm,path=${paths.tpmSocket}`],
    ...['-tpmdev', 'emulator,id=tpm,chardev=tpm', '-device', 'tpm-crb,tpmdev=tpm'],
  ]
}

/** The port that a guest attests by: the agent listens to it. */
function guestPortArguments(paths: VmPaths): readonly string[] {
  return [
    ...['-chardev', `socket,id=guest,path=${paths.guestSocket},server=on,wait=off`],
    ...['-device', 'virtio-serial-pci,id=ports,max_ports=2'],
    ...['-device', `virtserialport,bus=ports.0,chardev=guest,name=${GUEST_PORT}`],
  ]
}
