import { toHex } from '../core/bytes.js'
import { type DerNode, derText, objectIdentifier } from './der.js'

/** UTF8String, PrintableString, TeletexString, IA5String and BMPString: compared as text. */
const TEXT_TAGS: ReadonlySet<number> = new Set([0x0c, 0x13, 0x14, 0x16, 0x1e])

const LABELS: Readonly<Record<string, string>> = {
  '2.5.4.3': 'CN',
  '2.5.4.5': 'serialNumber',
  '2.5.4.6': 'C',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
  '2.23.133.2.1': 'TPMManufacturer',
  '2.23.133.2.2': 'TPMModel',
  '2.23.133.2.3': 'TPMVersion',
}

interface Attribute {
  readonly type: string
  readonly value: DerNode
}

/** The attributes of a Name: relative names in their order, each with its attributes as they stand. */
export function nameAttributes(name: DerNode): readonly (readonly Attribute[])[] {
  return name.children.map((set) =>
    set.children.map(({ children: [type, value] }) => {
      if (!type || !value) throw new TypeError('an attribute without a value')
      return { type: objectIdentifier(type), value }
    }),
  )
}

/**
 * A text that two names share exactly where they match: types of strings, case and runs of spaces do not count, nor does
 * the order within one relative name.
 *
 * @see RFC 5280, section 7.1
 */
export function canonicalName(name: DerNode): string {
  return JSON.stringify(
    nameAttributes(name).map((set) =>
      set
        .map(({ type, value }) => {
          const text = TEXT_TAGS.has(value.tag)
            ? `t${derText(value).normalize('NFKC').toLowerCase().trim().replace(/\s+/g, ' ')}`
            : `x${toHex(value.whole)}`
          return `${type}=${text}`
        })
        .sort(),
    ),
  )
}

/** A name for people, the last relative name first: `CN=…, O=…`. Bounded, without control characters. */
export function printName(name: DerNode): string {
  return nameAttributes(name)
    .map((set) =>
      set
        .map(({ type, value }) => `${LABELS[type] ?? type}=${printableText(derText(value))}`)
        .join('+'),
    )
    .reverse()
    .join(', ')
}

/** Text that the writer of a certificate chose, for people: bounded, without control characters. */
export function printableText(text: string): string {
  return text.slice(0, 64).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\ufffd]/gu, '?')
}
