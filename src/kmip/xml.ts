import { DOMParser, type Element, ParseError } from '@xmldom/xmldom'
import { attributeTag } from './attribute-names.js'
import { TTLV_LIMITS } from './decode.js'
import { KmipError } from './errors.js'
import { TAG, tagName, tagNumber } from './tags.js'
import { type Ttlv, type TtlvType, TYPE_NUMBER } from './ttlv.js'
import { type EnumerationContext, parseXmlValue, xmlValue } from './xml-values.js'

/** Characters of a document: the longest test case of the standard has about 200,000. */
const MAX_CHARACTERS = 4 << 20

/**
 * The items of a document: the messages within `<KMIP>`, or the one item that it is.
 *
 * Throws `KMIP_XML` on anything that the encoding does not have: document types, other attributes, text between
 * elements, names that are not of the standard.
 *
 * @see KMIP Profiles 2.1, clause 5.4
 */
export function messagesFromXml(text: string): readonly Ttlv[] {
  const root = parseDocument(text)
  return root.tagName === 'KMIP'
    ? elementsOf(root).map((element) => read(element, 0))
    : [read(root, 0)]
}

/** The one item of a document or element; throws `KMIP_XML` as `messagesFromXml` does. */
export function ttlvFromXml(input: string | Element): Ttlv {
  return read(typeof input === 'string' ? parseDocument(input) : input, 0)
}

/** The item as XML text, indented, with names for what the standard names. Secrets are in it. */
export function ttlvToXml(item: Ttlv): string {
  return `${write(item, '', { tag: item.tag }).join('\n')}\n`
}

function parseDocument(text: string): Element {
  if (text.length > MAX_CHARACTERS) throw new KmipError('KMIP_XML', 'the document is too long')
  // Entities and external names come with a document type; the encoding has none.
  if (text.includes('<!DOCTYPE')) throw new KmipError('KMIP_XML', 'found a document type')
  let root: Element | null
  try {
    const onError = (_level: string, message: string): never => {
      throw new ParseError(message)
    }
    root = new DOMParser({ onError, locator: false }).parseFromString(
      text,
      'text/xml',
    ).documentElement
  } catch (cause) {
    throw new KmipError('KMIP_XML', 'expected well-formed XML', { cause })
  }
  if (root === null) throw new KmipError('KMIP_XML', 'expected an element, found none')
  return root
}

function read(element: Element, depth: number, attribute?: number): Ttlv {
  if (depth > TTLV_LIMITS.maxDepth) throw new KmipError('KMIP_XML', 'elements are too deep')
  const tag = tagOf(element)
  const type = typeOf(element)
  for (const { name } of element.attributes) {
    if (!['type', 'value', 'tag', 'name'].includes(name)) {
      throw new KmipError('KMIP_XML', 'found an attribute of another kind', {
        path: element.tagName,
      })
    }
  }
  if (type === 'Structure') {
    if (element.hasAttribute('value')) {
      throw new KmipError('KMIP_XML', 'a structure has no value', { path: element.tagName })
    }
    return { tag, type, value: readChildren(element, depth) }
  }
  const text = element.getAttribute('value')
  if (text === null || elementsOf(element).length > 0) {
    throw new KmipError('KMIP_XML', 'expected a value alone', { path: element.tagName })
  }
  return parseXmlValue(tag, type, text, { tag: attribute ?? tag })
}

function readChildren(element: Element, depth: number): readonly Ttlv[] {
  let attribute: number | undefined
  return elementsOf(element).map((child) => {
    const item = read(child, depth + 1, child.tagName === 'AttributeValue' ? attribute : undefined)
    attribute = namedAttribute(item) ?? attribute
    return item
  })
}

/** What an Attribute Value that follows is a value of: its enumeration depends on it. */
function namedAttribute(item: Ttlv): number | undefined {
  return item.tag === TAG.AttributeName && item.type === 'TextString'
    ? attributeTag(item.value)
    : undefined
}

function tagOf(element: Element): number {
  const name = element.tagName
  const number =
    name === 'TTLV' ? hexTag(element.getAttribute('tag')) : (tagNumber(name) ?? hexTag(name))
  if (number === undefined) {
    throw new KmipError('KMIP_XML', 'expected a tag of KMIP', { path: name })
  }
  return number
}

function hexTag(text: string | null): number | undefined {
  return text !== null && /^0x(42|54)[0-9a-fA-F]{4}$/.test(text) ? Number(text) : undefined
}

function typeOf(element: Element): TtlvType {
  const name = element.getAttribute('type') ?? 'Structure'
  if (isType(name)) return name
  throw new KmipError('KMIP_XML', 'expected a type of KMIP', { path: element.tagName })
}

function isType(name: string): name is TtlvType {
  return Object.hasOwn(TYPE_NUMBER, name)
}

/** The elements within; throws `KMIP_XML` on text that is not white space. Comments are passed over. */
function elementsOf(element: Element): readonly Element[] {
  const elements: Element[] = []
  for (const node of element.childNodes) {
    if (node.nodeType === node.ELEMENT_NODE) elements.push(node as Element)
    else if (node.nodeType !== node.COMMENT_NODE && node.nodeValue?.trim() !== '') {
      throw new KmipError('KMIP_XML', 'found text between elements', { path: element.tagName })
    }
  }
  return elements
}

function write(item: Ttlv, indent: string, context: EnumerationContext): readonly string[] {
  const name = tagName(item.tag)
  const start = name.startsWith('0x') ? `TTLV tag="${name}"` : name
  if (item.type !== 'Structure') {
    const value = escaped(xmlValue(item, context))
    return [`${indent}<${start} type="${item.type}" value="${value}"/>`]
  }
  if (item.value.length === 0) return [`${indent}<${start}/>`]
  const lines = [`${indent}<${start}>`]
  let attribute: number | undefined
  for (const child of item.value) {
    const tag = child.tag === TAG.AttributeValue ? (attribute ?? child.tag) : child.tag
    lines.push(...write(child, `${indent}  `, { tag }))
    attribute = namedAttribute(child) ?? attribute
  }
  lines.push(`${indent}</${name.startsWith('0x') ? 'TTLV' : name}>`)
  return lines
}

function escaped(text: string): string {
  return text.replaceAll(/[&<>"\n\r\t]/g, (character) => `&#${character.charCodeAt(0)};`)
}
