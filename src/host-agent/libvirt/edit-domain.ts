import { DOMParser, type Element, XMLSerializer } from '@xmldom/xmldom'
import type { StoredVm } from '../vm/vm-store.js'
import {
  type DomainDisk,
  diskXml,
  domainDisks,
  METADATA_NAMESPACE,
  metadataXml,
  nvramXml,
  sourceXml,
  tpmXml,
} from './domain-xml.js'
import { atMostOne, children, one, type ParsedDisk, parseDomain } from './parse-domain.js'
import { vtpmSecret } from './secrets.js'

/** SCSI targets that a disk of the VM may get which the domain does not know. */
const TARGETS = 'abcdefghijklmnopqrstuvwxyz'

/**
 * A domain that was adopted as that of the VM: its disks are those of the VM, by their targets, with their encryption; its TPM
 * and NVRAM are those of the VM; all else is kept as it is.
 *
 * @throws PlatformError `LIBVIRT_DOMAIN`
 */
export function editDomain(xml: string, vm: StoredVm): string {
  const { root, disks } = parseDomain(xml)
  // of a domain that ran when it was printed
  root.removeAttribute('id')
  const devices = one(root, 'devices')
  editMetadata(root)
  editNvram(root, vm)
  const wanted = domainDisks(vm)
  const own = disks.filter(({ device }) => device !== 'cdrom' && device !== 'floppy')
  for (const disk of own) {
    const match = wanted.find(({ name }) => name === disk.target)
    if (match) editDisk(disk, match)
    else devices.removeChild(disk.element)
  }
  const targets = new Set(disks.map(({ target }) => target))
  for (const disk of wanted.filter(({ name }) => !own.some(({ target }) => target === name))) {
    const index = [...TARGETS].findIndex((letter) => !targets.has(`sd${letter}`))
    targets.add(`sd${TARGETS[index]}`)
    append(devices, diskXml(disk, index))
  }
  editTpm(devices, vm)
  return `${new XMLSerializer().serializeToString(root)}\n`
}

function editDisk({ element }: ParsedDisk, wanted: DomainDisk): void {
  one(element, 'driver').setAttribute('type', 'raw')
  for (const name of ['encryption', 'backingStore']) {
    for (const child of children(element, name)) element.removeChild(child)
  }
  replace(element, one(element, 'source'), sourceXml(wanted))
}

/** The model stays, so that the guest finds the device that it knows. */
function editTpm(devices: Element, { descriptor: { vmId, vtpm } }: StoredVm): void {
  const [tpm] = children(devices, 'tpm')
  if (!vtpm) {
    if (tpm) devices.removeChild(tpm)
    return
  }
  const model = tpm?.getAttribute('model')
  if (tpm) devices.removeChild(tpm)
  const added = append(devices, tpmXml(vtpmSecret(vmId)))
  if (model) added.setAttribute('model', model)
}

/** Where the firmware has variables and the domain does not say in which file, libvirt would make a plain one. */
function editNvram(root: Element, vm: StoredVm): void {
  const os = atMostOne(root, 'os')
  if (!os) return
  const nvram = atMostOne(os, 'nvram')
  const loader = atMostOne(os, 'loader')
  if (nvram) replace(os, nvram, nvramXml(vm))
  else if (os.getAttribute('firmware') === 'efi' || loader?.getAttribute('type') === 'pflash') {
    append(os, nvramXml(vm))
  }
}

function editMetadata(root: Element): void {
  const document = root.ownerDocument
  if (!document) throw new TypeError('the element is of no document')
  const metadata = atMostOne(root, 'metadata') ?? document.createElement('metadata')
  const isMarked = [...metadata.childNodes].some(
    (node) => (node as Element).namespaceURI === METADATA_NAMESPACE,
  )
  if (!isMarked) append(metadata, metadataXml())
  if (!metadata.parentNode) root.insertBefore(metadata, one(root, 'devices'))
}

function append(parent: Element, xml: string): Element {
  const added = importXml(parent, xml)
  parent.appendChild(added)
  return added
}

function replace(parent: Element, old: Element, xml: string): void {
  parent.replaceChild(importXml(parent, xml), old)
}

function importXml(parent: Element, xml: string): Element {
  const { documentElement } = new DOMParser().parseFromString(xml, 'text/xml')
  if (!documentElement || !parent.ownerDocument) throw new TypeError('expected an element')
  return parent.ownerDocument.importNode(documentElement, true)
}
