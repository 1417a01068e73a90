import { enumerationName, maskNames } from './enumerations.js'
import { TAG, tagName } from './tags.js'
import { type Ttlv, textString } from './ttlv.js'
import { xmlValue } from './xml-values.js'

/**
 * Tags whose values are secrets, or may be: material of keys in every format, what proves who a client is, and what
 * Encrypt, Decrypt and Sign take and give.
 */
const SECRET: ReadonlySet<number> = new Set([
  TAG.KeyMaterial,
  TAG.KeyValue,
  TAG.Key,
  TAG.D,
  TAG.P,
  TAG.Q,
  TAG.X,
  TAG.PrivateExponent,
  TAG.PrimeExponentP,
  TAG.PrimeExponentQ,
  TAG.CRTCoefficient,
  TAG.OpaqueDataValue,
  TAG.CredentialValue,
  TAG.Password,
  TAG.HashedPassword,
  TAG.ServerHashedPassword,
  TAG.OneTimePassword,
  TAG.TicketValue,
  TAG.Data,
  TAG.DerivationData,
  TAG.PKCS_11InputParameters,
  TAG.PKCS_11OutputParameters,
])

/** What may be read within a secret: who says that they are it, and what a Key Value is beside its material. */
const PLAIN: ReadonlySet<number> = new Set([TAG.Username, TAG.Attribute, TAG.Attributes])

/**
 * The item with every secret replaced by the text `[secret]` and its length.
 *
 * A value is masked by its tag, wherever it stands. Not masked: values of custom attributes, names, certificates.
 */
export function maskSecrets(item: Ttlv): Ttlv {
  return masked(item, false)
}

/**
 * The item as a tree of lines, one for each item, secrets masked. Control characters of untrusted text are escaped,
 * so that a line stays a line.
 */
export function describeTtlv(item: Ttlv): string {
  return `${describe(maskSecrets(item), '').join('\n')}\n`
}

function masked(item: Ttlv, within: boolean): Ttlv {
  const secret = (within || SECRET.has(item.tag)) && !PLAIN.has(item.tag)
  if (item.type === 'Structure') {
    return { ...item, value: item.value.map((one) => masked(one, secret)) }
  }
  if (!secret) return item
  const length =
    item.type === 'ByteString' || item.type === 'TextString' ? `, ${item.value.length} long` : ''
  return textString(item.tag, `[secret${length}]`)
}

function describe(item: Ttlv, indent: string): readonly string[] {
  const name = tagName(item.tag)
  if (item.type !== 'Structure') {
    return [`${indent}${name}: ${valueText(item)} (${item.type})`]
  }
  return [`${indent}${name}`, ...item.value.flatMap((one) => describe(one, `${indent}  `))]
}

function valueText(item: Exclude<Ttlv, { type: 'Structure' }>): string {
  switch (item.type) {
    case 'TextString':
      return JSON.stringify(item.value)
    case 'Enumeration':
      return enumerationName(item.tag, item.value) ?? `0x${item.value.toString(16)}`
    case 'Integer':
      return maskNames(item.tag, item.value) ?? String(item.value)
    default:
      return xmlValue(item, { tag: item.tag })
  }
}
