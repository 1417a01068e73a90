import type { Accelerator, Home } from '../vm/records.js'
import type { StoredVm } from '../vm/vm-store.js'
import { escapeXml } from './escape-xml.js'
import { diskSecret, type LibvirtSecret, nvramSecret, vtpmSecret } from './secrets.js'

/** Name space of the element in the metadata of a domain that says whose VM it is. The hook script looks for it. */
export const METADATA_NAMESPACE = 'urn:sigillo:libvirt:1'

/** A disk as a domain has it. */
export interface DomainDisk {
  readonly name: string
  readonly path: string
  /** Undefined for a plain disk. */
  readonly secret: LibvirtSecret | undefined
}

export function domainDisks({ descriptor, paths }: StoredVm): readonly DomainDisk[] {
  const { vmId, disks } = descriptor
  return disks.map(({ name, plain }) =>
    plain
      ? { name, path: paths.plainDisk(name), secret: undefined }
      : { name, path: paths.disk(name), secret: diskSecret(vmId, name, paths.disk(name)) },
  )
}

/** The variables of the firmware as a domain has them. An agent of before left those of some VMs plain. */
export function domainNvram({ descriptor, paths }: StoredVm): Omit<DomainDisk, 'name'> {
  return descriptor.nvram
    ? { path: paths.nvram, secret: nvramSecret(descriptor.vmId, paths.nvram) }
    : { path: paths.plainNvram, secret: undefined }
}

/** Every secret that a start of the domain takes. */
export function domainSecrets(vm: StoredVm): readonly LibvirtSecret[] {
  const { vmId, vtpm } = vm.descriptor
  const { secret } = domainNvram(vm)
  return [
    ...(secret ? [secret] : []),
    ...domainDisks(vm).flatMap(({ secret }) => (secret ? [secret] : [])),
    ...(vtpm ? [vtpmSecret(vmId)] : []),
  ]
}

/**
 * The domain of a VM that was made here: the machine that the agent would start, with its disks on a SCSI controller
 * in their order, its virtual TPM, and neither network nor console. Keys are in it by the names of secrets alone.
 *
 * @see libvirt, "Domain XML format"
 */
export function encodeDomain(
  vm: StoredVm,
  home: Pick<Home, 'memoryMib' | 'cpus'>,
  options: { readonly accelerator: Accelerator; readonly firmwareCode: string },
): string {
  const { vmId, name, vtpm } = vm.descriptor
  const isKvm = options.accelerator === 'kvm'
  return [
    `<domain type='${isKvm ? 'kvm' : 'qemu'}'>`,
    `  <name>${escapeXml(name)}</name>`,
    `  <uuid>${vmId}</uuid>`,
    `  <metadata>${metadataXml()}</metadata>`,
    `  <memory unit='MiB' dumpCore='off'>${home.memoryMib}</memory>`,
    `  <vcpu>${home.cpus}</vcpu>`,
    '  <os>',
    "    <type arch='x86_64' machine='q35'>hvm</type>",
    `    <loader readonly='yes' type='pflash'>${escapeXml(options.firmwareCode)}</loader>`,
    `    ${nvramXml(vm)}`,
    '  </os>',
    '  <features><acpi/></features>',
    `  <cpu mode='${isKvm ? 'host-passthrough' : 'maximum'}'/>`,
    '  <devices>',
    "    <controller type='scsi' index='0' model='virtio-scsi'/>",
    ...domainDisks(vm).map((disk, index) => indent(diskXml(disk, index))),
    ...(vtpm ? [indent(tpmXml(vtpmSecret(vmId)))] : []),
    "    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "    <memballoon model='none'/>",
    '  </devices>',
    '</domain>',
    '',
  ].join('\n')
}

export function metadataXml(): string {
  return `<sigillo:vm xmlns:sigillo='${METADATA_NAMESPACE}'/>`
}

/** `<disk>` on the SCSI controller. Its serial number, which guests see, is the name of the disk. */
export function diskXml(disk: DomainDisk, index: number): string {
  const target = `sd${String.fromCharCode('a'.charCodeAt(0) + index)}`
  return [
    "<disk type='file' device='disk'>",
    "  <driver name='qemu' type='raw' discard='ignore'/>",
    `  ${sourceXml(disk)}`,
    `  <target dev='${target}' bus='scsi'/>`,
    `  <serial>${escapeXml(disk.name)}</serial>`,
    '</disk>',
  ].join('\n')
}

/**
 * `<nvram>`. libvirt 9.0 opens an encrypted one when it is told which program does so, and refuses it else: what it fills in
 * by itself for disks, it does not for this.
 */
export function nvramXml(vm: StoredVm): string {
  const { path, secret } = domainNvram(vm)
  if (!secret) return `<nvram>${escapeXml(path)}</nvram>`
  return `<nvram type='file'>${sourceXml({ path, secret }, " engine='qemu'")}</nvram>`
}

/** `<source>` of a disk, with its encryption. */
export function sourceXml(
  { path, secret }: Pick<DomainDisk, 'path' | 'secret'>,
  engine = '',
): string {
  const file = `<source file='${escapeXml(path)}'`
  return secret
    ? `${file}><encryption format='luks'${engine}><secret type='passphrase' uuid='${secret.secretId}'/></encryption></source>`
    : `${file}/>`
}

/** `<tpm>`: swtpm under libvirt, its state encrypted and kept when the domain is undefined. */
export function tpmXml(secret: LibvirtSecret): string {
  return [
    "<tpm model='tpm-crb'>",
    "  <backend type='emulator' version='2.0' persistent_state='yes'>",
    `    <encryption secret='${secret.secretId}'/>`,
    '  </backend>',
    '</tpm>',
  ].join('\n')
}

function indent(text: string): string {
  return text.replace(/^/gm, '    ')
}
