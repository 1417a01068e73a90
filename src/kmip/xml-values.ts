import { fromHex, toHex } from '../core/bytes.js'
import { unreachable } from '../core/errors.js'
import { bigIntegerOctets } from './encode.js'
import { enumerationName, enumerationValue, maskBit, maskNames } from './enumerations.js'
import { KmipError } from './errors.js'
import { tagName } from './tags.js'
import type { Ttlv, TtlvType } from './ttlv.js'

/** The tag whose enumeration or mask the names of a value are of: for Attribute Value, that of the attribute. */
export interface EnumerationContext {
  readonly tag: number
}

type Scalar = Exclude<Ttlv, { type: 'Structure' }>

/**
 * The item with this text as its value; throws `KMIP_XML` on text that the type cannot have.
 *
 * @see KMIP Profiles 2.1, clause 5.4.1
 */
export function parseXmlValue(
  tag: number,
  type: Exclude<TtlvType, 'Structure'>,
  text: string,
  context: EnumerationContext,
): Ttlv {
  const refuse = (): never => {
    throw new KmipError('KMIP_XML', `expected the text of a value of type ${type}`, {
      path: tagName(tag),
    })
  }
  const whole = (bits: number, signed: boolean): bigint =>
    wholeNumber(text, bits, signed) ?? refuse()
  switch (type) {
    case 'Integer':
      return { tag, type, value: maskValue(context.tag, text) ?? Number(whole(32, true)) }
    case 'LongInteger':
    case 'DateTimeExtended':
      return { tag, type, value: whole(64, true) }
    case 'BigInteger': {
      if (!/^([0-9a-fA-F]{16})+$/.test(text)) return refuse()
      return { tag, type, value: BigInt.asIntN(text.length * 4, BigInt(`0x${text}`)) }
    }
    case 'Enumeration': {
      const value = enumerationValue(context.tag, text) ?? Number(hexNumber(text, 32) ?? refuse())
      return { tag, type, value }
    }
    case 'Boolean':
      return text === 'true' || text === 'false' ? { tag, type, value: text === 'true' } : refuse()
    case 'TextString':
      return { tag, type, value: text }
    case 'ByteString':
      if (!/^([0-9a-fA-F]{2})*$/.test(text)) return refuse()
      return { tag, type, value: fromHex(text) }
    case 'DateTime':
      return { tag, type, value: seconds(text) ?? whole(64, true) }
    case 'Interval':
      return { tag, type, value: Number(whole(32, false)) }
    default:
      return unreachable(type)
  }
}

/** The text of a value, by name where the standard has one. */
export function xmlValue(item: Scalar, context: EnumerationContext): string {
  switch (item.type) {
    case 'Integer':
      return maskNames(context.tag, item.value) ?? String(item.value)
    case 'LongInteger':
    case 'Interval':
    case 'DateTimeExtended':
    case 'Boolean':
      return String(item.value)
    case 'BigInteger':
      return toHex(bigIntegerOctets(item.value))
    case 'Enumeration':
      return enumerationName(context.tag, item.value) ?? hex(item.value, 8)
    case 'TextString':
      return item.value
    case 'ByteString':
      return toHex(item.value)
    case 'DateTime':
      return isoSeconds(item.value)
    default:
      return unreachable(item)
  }
}

/** The bits that the text names, if it names some and no others. */
function maskValue(tag: number, text: string): number | undefined {
  let mask = 0
  for (const name of text.split(/[\s|]+/)) {
    const bit = maskBit(tag, name)
    if (bit === undefined) return undefined
    mask |= bit
  }
  return mask
}

function wholeNumber(text: string, bits: number, signed: boolean): bigint | undefined {
  const hexadecimal = hexNumber(text, bits)
  if (hexadecimal !== undefined) return signed ? BigInt.asIntN(bits, hexadecimal) : hexadecimal
  if (!/^-?\d{1,20}$/.test(text)) return undefined
  const value = BigInt(text)
  const limited = signed ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value)
  return limited === value ? value : undefined
}

function hexNumber(text: string, bits: number): bigint | undefined {
  return /^0x[0-9a-fA-F]+$/.test(text) && text.length <= 2 + bits / 4 ? BigInt(text) : undefined
}

/** Seconds of `2013-06-26T09:09:17+00:00`, if the text is a time of this form. */
function seconds(text: string): bigint | undefined {
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)$/.test(text)) return undefined
  const ms = Date.parse(text)
  return Number.isNaN(ms) ? undefined : BigInt(ms / 1000)
}

/** The time as text, or in hexadecimal outside of the years that text of this form can have. */
function isoSeconds(value: bigint): string {
  const ms = Number(value) * 1000
  if (ms >= Date.UTC(1900, 0) && ms < Date.UTC(10_000, 0)) {
    return new Date(ms).toISOString().replace('.000Z', '+00:00')
  }
  return hex(BigInt.asUintN(64, value), 16)
}

function hex(value: number | bigint, digits: number): string {
  return `0x${value.toString(16).padStart(digits, '0')}`
}
