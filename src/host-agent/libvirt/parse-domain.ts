import { DOMParser, type Element, type Node, ParseError } from '@xmldom/xmldom'
import { PlatformError } from '../../core/errors.js'
import { isUuid } from '../../core/names.js'

/** Domains with many devices have some 20,000 characters. */
export const MAX_DOMAIN_CHARACTERS = 256 * 1024
/** The description of a domain is some eight elements deep. */
const MAX_DEPTH = 32

/** A disk of a domain, as far as it matters here. Members are as they stand in the XML. */
export interface ParsedDisk {
  readonly element: Element
  readonly device: string
  readonly type: string
  /** `file` of `<source>`. */
  readonly file: string | undefined
  readonly format: string | undefined
  readonly target: string
  /** Ids of the secrets of its encryption; undefined where it has none. */
  readonly encryption:
    | { readonly format: string; readonly secretIds: readonly string[] }
    | undefined
}

/** Variables of the firmware of a domain. Members are as they stand in the XML. */
export interface ParsedNvram {
  readonly type: string
  readonly format: string
  readonly file: string | undefined
  readonly encryption: ParsedDisk['encryption']
}

/** A TPM of a domain, as far as it matters here. */
export interface ParsedTpm {
  readonly element: Element
  readonly backend: string
  readonly version: string | undefined
  readonly secretId: string | undefined
}

export interface ParsedDomain {
  readonly root: Element
  readonly vmId: string
  readonly name: string
  readonly disks: readonly ParsedDisk[]
  readonly tpms: readonly ParsedTpm[]
  /** Undefined where it says nothing of them. */
  readonly nvram: ParsedNvram | undefined
}

/**
 * Reads the description of a domain. Untrusted: what libvirt would make of it is not checked.
 *
 * Refuses document types (with them go entities and outside names), another root or name space, more than one name, id
 * or list of devices, and what is deeper or longer than descriptions of domains are.
 *
 * @throws PlatformError `LIBVIRT_DOMAIN`
 */
export function parseDomain(text: string): ParsedDomain {
  const root = parseRoot(text)
  const vmId = textOf(one(root, 'uuid')).toLowerCase()
  if (!isUuid(vmId)) throw unfit(`expected a UUID, found ${JSON.stringify(vmId.slice(0, 64))}`)
  const devices = one(root, 'devices')
  return {
    root,
    vmId,
    name: textOf(one(root, 'name')),
    disks: children(devices, 'disk').map(parseDisk),
    tpms: children(devices, 'tpm').map(parseTpm),
    nvram: parseNvram(root),
  }
}

/** Elements of this name within, not deeper; of no name space, as all of libvirt's are. */
export function children(parent: Element, name: string): readonly Element[] {
  const found: Element[] = []
  for (const node of parent.childNodes) {
    if (isElement(node) && node.localName === name && !node.namespaceURI) found.push(node)
  }
  return found
}

/** @throws PlatformError `LIBVIRT_DOMAIN` where there are several */
export function atMostOne(parent: Element, name: string): Element | undefined {
  const [first, second] = children(parent, name)
  if (second) throw unfit(`expected one <${name}> in <${parent.tagName}>, found several`)
  return first
}

/** @throws PlatformError `LIBVIRT_DOMAIN` where there is none, or several */
export function one(parent: Element, name: string): Element {
  const element = atMostOne(parent, name)
  if (!element) throw unfit(`expected <${name}> in <${parent.tagName}>`)
  return element
}

export function textOf(element: Element): string {
  return element.textContent?.trim() ?? ''
}

export function unfit(message: string, cause?: unknown): PlatformError {
  return new PlatformError('LIBVIRT_DOMAIN', message, { cause })
}

function parseRoot(text: string): Element {
  if (text.length > MAX_DOMAIN_CHARACTERS) {
    throw unfit(`expected at most ${MAX_DOMAIN_CHARACTERS} characters of XML`)
  }
  if (/<!(DOCTYPE|ENTITY)/i.test(text)) throw unfit('a document type is not taken')
  let root: Element | null
  try {
    const onError = (_level: string, message: string): never => {
      throw new ParseError(message)
    }
    const parser = new DOMParser({ onError, locator: false })
    root = parser.parseFromString(text, 'text/xml').documentElement
  } catch (cause) {
    throw unfit('expected well-formed XML', cause)
  }
  if (root?.tagName !== 'domain' || root.namespaceURI) {
    throw unfit('expected the element <domain>, of no name space')
  }
  requireShallow(root)
  return root
}

function requireShallow(root: Element): void {
  const left: { readonly node: Node; readonly depth: number }[] = [{ node: root, depth: 0 }]
  for (let next = left.pop(); next; next = left.pop()) {
    const { node, depth } = next
    if (depth > MAX_DEPTH) throw unfit(`expected at most ${MAX_DEPTH} elements in one another`)
    for (const child of node.childNodes) left.push({ node: child, depth: depth + 1 })
  }
}

function parseDisk(element: Element): ParsedDisk {
  const source = atMostOne(element, 'source')
  // of old it stood beside the source, and libvirt still reads it there
  const encryptions = [element, ...(source ? [source] : [])].flatMap((place) =>
    children(place, 'encryption'),
  )
  const [encryption, second] = encryptions
  if (second) throw unfit('expected one <encryption> for a disk, found several')
  return {
    element,
    device: element.getAttribute('device') ?? 'disk',
    type: element.getAttribute('type') ?? '',
    file: source?.getAttribute('file') ?? undefined,
    format: atMostOne(element, 'driver')?.getAttribute('type') ?? undefined,
    target: one(element, 'target').getAttribute('dev') ?? '',
    encryption: encryption && parseEncryption(encryption),
  }
}

function parseNvram(root: Element): ParsedNvram | undefined {
  const os = atMostOne(root, 'os')
  const nvram = os && atMostOne(os, 'nvram')
  if (!nvram) return undefined
  const source = atMostOne(nvram, 'source')
  const encryption = source && atMostOne(source, 'encryption')
  return {
    type: nvram.getAttribute('type') ?? 'file',
    format: nvram.getAttribute('format') ?? 'raw',
    file: (source ? source.getAttribute('file') : textOf(nvram)) || undefined,
    encryption: encryption && parseEncryption(encryption),
  }
}

function parseEncryption(encryption: Element): NonNullable<ParsedDisk['encryption']> {
  return {
    format: encryption.getAttribute('format') ?? '',
    secretIds: children(encryption, 'secret').map((secret) => secret.getAttribute('uuid') ?? ''),
  }
}

function parseTpm(element: Element): ParsedTpm {
  const backend = one(element, 'backend')
  return {
    element,
    backend: backend.getAttribute('type') ?? '',
    version: backend.getAttribute('version') ?? undefined,
    secretId: atMostOne(backend, 'encryption')?.getAttribute('secret') ?? undefined,
  }
}

function isElement(node: Node): node is Element {
  return node.nodeType === node.ELEMENT_NODE
}
