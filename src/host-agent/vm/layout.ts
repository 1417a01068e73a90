/** Directory that a VM is made in; renamed to the VM's id when everything in it is done. */
export const CREATING = '.new-'
/** Directory of a VM that is being deleted: nothing in it is used again. */
export const DELETING = '.old-'

/** Directory of a VM that is being imported. Its keys are those of the export, which outlives it. */
export const IMPORTING = '.imp-'

/** Longest path of a unix socket on Linux, without the final zero. */
export const MAX_SOCKET_PATH = 107

/** Names of the files of one VM. What is secret in them is encrypted, but for what is plain by choice. */
export interface VmPaths {
  readonly root: string
  /** Plain: id, name, provider, disks. */
  readonly descriptor: string
  /** Encrypted: memory, processors, devices. */
  readonly home: string
  /** The same of a VM that is not encrypted. */
  readonly plainHome: string
  /** Wrapped keys. */
  readonly keys: string
  /** Why its keys could not be had; there only while it is locked. */
  readonly lock: string
  /** Digest of the vTPM state when the VM last stopped. */
  readonly vtpmRecord: string
  /** A copy of the state that `vtpmRecord` names. */
  readonly vtpmBackup: string
  /** State directory of swtpm. */
  readonly vtpm: string
  readonly vtpmState: string
  readonly vtpmCertificates: string
  /** Variables of the firmware, of a VM that is not encrypted. */
  readonly plainNvram: string
  /** The same, encrypted. */
  readonly nvram: string
  /** There when the VM was handed over to another host: it must not be used here. */
  readonly exported: string
  /** There when the VM came from another host: by which export. */
  readonly brought: string
  /** Sockets, pid files and messages of the programs; there only while the VM runs, or after a crash. */
  readonly run: string
  readonly runRecord: string
  /** New versions of files while they are made, and of those that they replace until they are erased. */
  readonly change: string
  /** One directory for each snapshot, named by its id. */
  readonly snapshots: string
  /** There while libvirt runs the VM in the place of the agent. */
  readonly libvirtRecord: string
  /** Its domain, as libvirt was given it. */
  readonly libvirtDomain: string
  /** The domain that it was adopted from, if it was. */
  readonly libvirtOrigin: string
  /** QEMU sends or takes the state of the VM through it while the VM moves. */
  readonly liveSocket: string
  /** There while the VM is received from another host: it is not one of this host yet. */
  readonly receiving: string
  readonly qmpSocket: string
  readonly tpmSocket: string
  /** Of the port that the guest attests by. */
  readonly guestSocket: string
  readonly qemuPid: string
  readonly swtpmPid: string
  readonly qemuLog: string
  readonly swtpmLog: string
  disk(name: string): string
  plainDisk(name: string): string
}

export function pathsOf(root: string): VmPaths {
  return {
    root,
    descriptor: `${root}/vm.json`,
    home: `${root}/home.enc`,
    plainHome: `${root}/home.json`,
    keys: `${root}/keys.json`,
    lock: `${root}/lock.json`,
    vtpmRecord: `${root}/vtpm.json`,
    vtpmBackup: `${root}/vtpm-backup.permall`,
    vtpm: `${root}/vtpm`,
    vtpmState: `${root}/vtpm/tpm2-00.permall`,
    vtpmCertificates: `${root}/vtpm/certs`,
    plainNvram: `${root}/nvram.fd`,
    nvram: `${root}/nvram.luks`,
    exported: `${root}/exported.json`,
    brought: `${root}/brought.json`,
    run: `${root}/run`,
    runRecord: `${root}/run/run.json`,
    change: `${root}/change`,
    snapshots: `${root}/snapshots`,
    libvirtRecord: `${root}/libvirt.json`,
    libvirtDomain: `${root}/libvirt.xml`,
    libvirtOrigin: `${root}/libvirt-origin.xml`,
    liveSocket: `${root}/run/mig.sock`,
    receiving: `${root}/receiving`,
    qmpSocket: `${root}/run/qmp.sock`,
    tpmSocket: `${root}/run/tpm.sock`,
    guestSocket: `${root}/run/att.sock`,
    qemuPid: `${root}/run/qemu.pid`,
    swtpmPid: `${root}/run/swtpm.pid`,
    qemuLog: `${root}/run/qemu.log`,
    swtpmLog: `${root}/run/swtpm.log`,
    disk: (name) => `${root}/disk-${name}.luks`,
    plainDisk: (name) => `${root}/disk-${name}.raw`,
  }
}
