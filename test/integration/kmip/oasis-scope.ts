import {
  CRYPTOGRAPHIC_ALGORITHM,
  enumerationName,
  KEY_FORMAT_TYPE,
  OBJECT_GROUP_MEMBER,
  OBJECT_TYPE,
  OPERATION,
  PADDING_METHOD,
} from '../../../src/kmip/enumerations.js'
import { OPERATIONS } from '../../../src/kmip/server/operations.js'
import { TAG } from '../../../src/kmip/tags.js'
import { child, children, type Ttlv } from '../../../src/kmip/ttlv.js'
import type { OasisCase } from '../../vectors/kmip/oasis.js'
import { caseMessages } from './oasis-case.js'

/** Cases that another one has to go before: they use its objects. */
const AFTER: Readonly<Record<string, string>> = { 'SASED-M-3': 'SASED-M-2', 'TL-M-3': 'TL-M-2' }

/** What cannot be seen from the messages of a case. */
const BY_NAME: readonly (readonly [RegExp, string])[] = [
  [/^TC_142/, 'its wrapped key with attributes is the one without, which cannot be'],
  [/^TC-SK-CREATE-ENCRYPT/, 'encrypts with a key that is not active'],
  [/^TC_92_10/, 'its response has another date than its request'],
  [/^SKFF_O_6_11/, 'expects a group that the server gives by itself'],
  [/^TC_ECC_2_12/, 'wants a key in another format than it was registered in'],
  [/^CS-BC-M-14-20/, 'wants Permission Denied, where the same case of 2.1 wants the wrong state'],
]

const { ChaCha20, ChaCha20Poly1305 } = CRYPTOGRAPHIC_ALGORITHM

/** Signs of what this server does not have, in requests. */
const SIGNS: readonly (readonly [(item: Ttlv) => boolean, string])[] = [
  [isValue(TAG.ObjectType, OBJECT_TYPE.Template), 'templates'],
  [
    (item) => item.tag === TAG.TemplateAttribute && children(item, TAG.Name).length > 0,
    'templates',
  ],
  [({ tag }) => tag === TAG.InitIndicator || tag === TAG.CorrelationValue, 'data in parts'],
  [isValue(TAG.PaddingMethod, PADDING_METHOD.OAEP), 'encryption with RSA'],
  [isValue(TAG.CryptographicAlgorithm, ChaCha20), 'encryption with ChaCha20'],
  [isValue(TAG.CryptographicAlgorithm, ChaCha20Poly1305), 'encryption with ChaCha20'],
  [isKeyWithoutValue, 'keys without their value'],
  [isValue(TAG.ObjectGroupMember, OBJECT_GROUP_MEMBER.GroupMemberDefault), 'default members'],
  [isValue(TAG.KeyFormatType, KEY_FORMAT_TYPE.PKCS_12), 'keys in PKCS#12'],
]

/** Attributes that are read out of certificates. */
const CERTIFICATE_ATTRIBUTE =
  /value="(Certificate\s+(Subject|Issuer|Identifier)|X\.509\s)|<CertificateSubjectCN/

/** Algorithms of new keys. */
const OTHER_ALGORITHM =
  /Cryptographic Algorithm"\s*\/>\s*<AttributeValue type="Enumeration" value="(SKIPJACK|DES|BLOWFISH|RC[245]|CAST5|IDEA|TWOFISH|CAMELLIA)"/

/** The case that has to be run before this one, in the same server. */
export function caseBefore(one: OasisCase, all: readonly OasisCase[]): OasisCase | undefined {
  const found = Object.entries(AFTER).find(([name]) => plain(one.name).startsWith(name))
  if (found === undefined) return undefined
  return all.find(
    ({ version, name }) => version === one.version && plain(name).startsWith(found[1]),
  )
}

/** Why a case of the standard is not one for this server; nothing when it is. */
export function whySkipped(one: OasisCase, all: readonly OasisCase[]): string | undefined {
  const requests = caseMessages(one.xml, 0).filter(({ tag }) => tag === TAG.RequestMessage)
  const operations = requests.flatMap((request) =>
    children(request, TAG.BatchItem).map((item) => Number(child(item, TAG.Operation)?.value)),
  )
  const unknown = operations.filter(
    (number) => !OPERATIONS.some(({ operation }) => operation === number),
  )
  if (unknown.length > 0) {
    const names = unknown.map((number) => enumerationName(TAG.Operation, number))
    return `operation ${[...new Set(names)].join(', ')}`
  }
  const sign = SIGNS.find(([isSign]) => requests.some((request) => has(request, isSign)))
  if (sign !== undefined) return sign[1]
  if (CERTIFICATE_ATTRIBUTE.test(one.xml)) return 'attributes read out of certificates'
  if (credentials(requests) > 1) return 'users told apart by credentials that it does not know'
  if (OTHER_ALGORITHM.test(one.xml)) return 'keys of other algorithms'
  const before = caseBefore(one, all)
  if (before === undefined && usesForeignObject(one, requests)) {
    return 'objects that the case does not make'
  }
  const whyBefore = before && whySkipped(before, all)
  if (whyBefore !== undefined) return whyBefore
  return BY_NAME.find(([name]) => name.test(one.name))?.[1]
}

function credentials(requests: readonly Ttlv[]): number {
  const found = new Set<string>()
  for (const request of requests) {
    const header = child(request, TAG.RequestHeader)
    const authentication = header && child(header, TAG.Authentication)
    if (authentication !== undefined) {
      found.add(JSON.stringify(authentication, (_key, value) => String(value) && value))
    }
  }
  return found.size
}

/** Whether nothing is made by the case, or what is named was not named by a response before. */
function usesForeignObject({ xml }: OasisCase, requests: readonly Ttlv[]): boolean {
  const makes = requests.some((request) =>
    children(request, TAG.BatchItem).some((item) =>
      [OPERATION.Create, OPERATION.Register].some(
        (number) => number === child(item, TAG.Operation)?.value,
      ),
    ),
  )
  return !makes && /UniqueIdentifier type/.test(xml)
}

function isValue(tag: number, value: number): (item: Ttlv) => boolean {
  return (item) => item.tag === tag && item.value === value
}

function isKeyWithoutValue(item: Ttlv): boolean {
  return item.tag === TAG.KeyBlock && child(item, TAG.KeyValue) === undefined
}

/** Enumerations of attributes in 1.x stand in Attribute Value. */
function has(item: Ttlv, isSign: (item: Ttlv) => boolean): boolean {
  if (isSign(item)) return true
  return item.type === 'Structure' && item.value.some((one) => has(one, isSign))
}

function plain(name: string): string {
  return name.replaceAll('_', '-')
}
