export interface LibvirtOptions {
  /** Connection URI, such as `qemu:///system`. */
  readonly uri: string
  /** Where libvirt has the states of virtual TPMs. */
  readonly swtpmDirectory: string
}

export const DEFAULT_LIBVIRT: LibvirtOptions = {
  uri: 'qemu:///system',
  swtpmDirectory: '/var/lib/libvirt/swtpm',
}
