import { createHash } from 'node:crypto'
import { fromHex, utf8 } from '../../core/bytes.js'
import type { KeyObject } from '../vm/vm-keys.js'
import { escapeXml } from './escape-xml.js'

/** A secret of libvirt: what it is for, and the name that a domain knows it by. Its value is not here. */
export interface LibvirtSecret {
  readonly secretId: string
  /** What it opens; the key of firmware variables is derived from that of the home. */
  readonly object: KeyObject | 'nvram'
  readonly usage: 'volume' | 'vtpm'
  /** Unique among secrets of this usage. */
  readonly usageId: string
}

/** The secret with the key of one encrypted disk. */
export function diskSecret(vmId: string, disk: string, path: string): LibvirtSecret {
  const object: KeyObject = `disk-${disk}`
  return { secretId: secretIdOf(vmId, object), object, usage: 'volume', usageId: path }
}

/** The secret with the key of the variables of the firmware. */
export function nvramSecret(vmId: string, path: string): LibvirtSecret {
  const secretId = secretIdOf(vmId, 'nvram')
  return { secretId, object: 'nvram', usage: 'volume', usageId: path }
}

/** The secret with the key of the state of the virtual TPM. */
export function vtpmSecret(vmId: string): LibvirtSecret {
  const secretId = secretIdOf(vmId, 'vtpm')
  return { secretId, object: 'vtpm', usage: 'vtpm', usageId: `sigillo-${vmId}` }
}

/**
 * The definition of a secret. Ephemeral: libvirt keeps the value in memory alone. Private: it hands the value to no
 * client, only to its own drivers.
 *
 * @see libvirt, "Secret XML format"
 */
export function encodeSecret(secret: LibvirtSecret): string {
  const { secretId, usage, usageId } = secret
  const name = usage === 'volume' ? 'volume' : 'name'
  return [
    "<secret ephemeral='yes' private='yes'>",
    `  <uuid>${secretId}</uuid>`,
    '  <description>Sigillo: has a value only while a VM is being started</description>',
    `  <usage type='${usage}'><${name}>${escapeXml(usageId)}</${name}></usage>`,
    '</secret>',
    '',
  ].join('\n')
}

/**
 * A name-based UUID in the name space of the VM: the same at every start, on every host, and never that of another VM.
 *
 * @see RFC 9562, section 5.5
 */
function secretIdOf(vmId: string, object: LibvirtSecret['object']): string {
  const digest = createHash('sha1')
    .update(fromHex(vmId.replaceAll('-', '')))
    .update(utf8(`sigillo libvirt secret ${object}`))
    .digest()
    .subarray(0, 16)
  digest[6] = ((digest[6] ?? 0) & 0x0f) | 0x50
  digest[8] = ((digest[8] ?? 0) & 0x3f) | 0x80
  return digest.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
