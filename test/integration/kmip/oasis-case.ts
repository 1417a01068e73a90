import { toHex } from '../../../src/core/bytes.js'
import { encodeTtlv } from '../../../src/kmip/encode.js'
import { OPERATION } from '../../../src/kmip/enumerations.js'
import { TAG, tagName } from '../../../src/kmip/tags.js'
import { child, children, type Ttlv } from '../../../src/kmip/ttlv.js'
import { messagesFromXml } from '../../../src/kmip/xml.js'
import type { OasisCase } from '../../vectors/kmip/oasis.js'

/** Sends a request and returns the response. */
export type Exchange = (request: Ttlv) => Promise<Ttlv>

/** The time of a case: what `$NOW` stands for. */
export interface CaseClock {
  nowMs: number
}

/** Dates of a server's answer may be so many seconds from those of the case, which may have been waited for. */
const NEAR_SECONDS = 600n
/** A case that says that a request is repeated until the state changes waits for two minutes. */
const REPEAT_MS = 130_000

/** Attributes that the standard leaves to servers, and that this one does not keep, or with values of its own. */
const OF_THE_SERVER: ReadonlySet<string> = new Set([
  ...['LeaseTime', 'RandomNumberGenerator', 'ShortUniqueIdentifier', 'ProtectionStorageMask'],
])

/**
 * Runs cases of the standard, one after the other, and returns what was answered otherwise than it says; nothing when all was. What a
 * server chooses, identifiers, random keys and times, is taken from its answers and put into the requests after it.
 */
export async function runCases(
  cases: readonly OasisCase[],
  exchange: Exchange,
  clock: CaseClock,
): Promise<readonly string[]> {
  const run = new CaseRun(clock)
  for (const one of cases) {
    const differences = await runCase(one, run, exchange, clock)
    if (differences.length > 0) return differences
  }
  return []
}

async function runCase(
  { xml }: OasisCase,
  run: CaseRun,
  exchange: Exchange,
  clock: CaseClock,
): Promise<readonly string[]> {
  const messages = caseMessages(xml, clock.nowMs)
  const repeats = xml.includes('[REPEAT]')
  for (let index = 0; index < messages.length; index += 2) {
    const [request, expected] = messages.slice(index, index + 2)
    if (request === undefined || expected === undefined) return ['the case has no response']
    const sent = run.bound(request)
    let differences = run.compare(sent, await exchange(sent), expected)
    if (differences.length > 0 && repeats) {
      clock.nowMs += REPEAT_MS
      differences = run.compare(sent, await exchange(sent), expected)
    }
    if (differences.length > 0) {
      return differences.map((difference) => `message ${index / 2 + 1}: ${difference}`)
    }
  }
  return []
}

/** Requests and the responses to them, with octets that stand for the placeholders. */
export function caseMessages(xml: string, nowMs: number): readonly Ttlv[] {
  return messagesFromXml(withSentinels(xml, nowMs))
}

/** Octets that stand for a placeholder until they are bound. */
function sentinel(name: string): string {
  return toHex(Buffer.from(`placeholder ${name}`))
}

function isSentinel(octets: Uint8Array): boolean {
  return Buffer.from(octets).toString('latin1').startsWith('placeholder ')
}

function withSentinels(xml: string, nowMs: number): string {
  return xml
    .replaceAll(/<!--[\s\S]*?-->/g, '')
    .replaceAll(/>[^<>]+</g, '><')
    .replaceAll(/"\$NOW([+-]\d+)?"/g, (_all, offset: string | undefined) => {
      const ms = nowMs + Number(offset ?? 0) * 1000
      return `"${new Date(ms).toISOString().replace(/\.\d{3}Z$/, '+00:00')}"`
    })
    .replaceAll(
      /type="ByteString"\s+value="\$([A-Z_0-9]+)"/g,
      (_all, name: string) => `type="ByteString" value="${sentinel(name)}"`,
    )
}

class CaseRun {
  readonly #clock: CaseClock
  readonly #texts = new Map<string, string>()
  readonly #octets = new Map<string, Uint8Array>()
  /** Objects whose keys the server made. */
  readonly #random = new Set<string>()
  readonly #last = new Map<number, Uint8Array>()

  constructor(clock: CaseClock) {
    this.#clock = clock
  }

  /** The item with what the server chose in the place of what the case has. */
  bound(item: Ttlv): Ttlv {
    if (item.type === 'Structure')
      return { ...item, value: item.value.map((one) => this.bound(one)) }
    if (item.type === 'TextString') {
      return { ...item, value: this.#texts.get(item.value) ?? item.value }
    }
    if (item.type !== 'ByteString') return item
    const isPlaceholder = Buffer.from(item.value).toString('latin1').startsWith('placeholder ')
    const value =
      this.#octets.get(toHex(item.value)) ?? (isPlaceholder ? this.#last.get(item.tag) : undefined)
    return value === undefined ? item : { ...item, value }
  }

  compare(request: Ttlv, actual: Ttlv, expected: Ttlv): readonly string[] {
    const asked = children(request, TAG.BatchItem)
    const got = children(actual, TAG.BatchItem)
    const wanted = children(expected, TAG.BatchItem)
    if (got.length !== wanted.length) return [`${wanted.length} items, found ${got.length}`]
    return wanted.flatMap((item, index) => {
      const [one, requested] = [got[index], asked[index]]
      if (one === undefined || requested === undefined) return ['no item']
      return this.#compareItem(requested, one, item)
    })
  }

  #compareItem(request: Ttlv, actual: Ttlv, expected: Ttlv): readonly string[] {
    for (const tag of [TAG.Operation, TAG.UniqueBatchItemID, TAG.ResultStatus, TAG.ResultReason]) {
      const [got, wanted] = [child(actual, tag), child(expected, tag)]
      if (textOf(got) !== textOf(wanted)) {
        const message = child(actual, TAG.ResultMessage)?.value
        return [`${tagName(tag)} ${textOf(wanted)}, found ${textOf(got)} (${String(message)})`]
      }
    }
    const got = child(actual, TAG.ResponsePayload)
    const wanted = child(expected, TAG.ResponsePayload)
    if (wanted === undefined) return got === undefined ? [] : ['a payload that is not expected']
    const asked = child(request, TAG.RequestPayload)
    if (got === undefined || asked === undefined) return ['no payload']
    const operation = child(expected, TAG.Operation)?.value
    const mayDiffer = this.#isRandom(operation, asked, got)
    switch (operation) {
      case OPERATION.Query:
        return []
      case OPERATION.DiscoverVersions:
        return this.#contains(got, wanted)
      case OPERATION.GetAttributes:
      case OPERATION.GetAttributeList:
        return this.#compareAttributes(asked, got, wanted, mayDiffer)
      default:
        return this.#compareOne(got, wanted, mayDiffer)
    }
  }

  /** Whether octets of this answer depend on a key or a vector that the server made. */
  #isRandom(operation: unknown, asked: Ttlv, got: Ttlv): boolean {
    const id = child(got, TAG.UniqueIdentifier)
    if (id?.type !== 'TextString') return false
    if (operation === OPERATION.Create || operation === OPERATION.ReKey) this.#random.add(id.value)
    const hasOwnIv =
      operation === OPERATION.Encrypt &&
      child(got, TAG.IVCounterNonce) !== undefined &&
      child(asked, TAG.IVCounterNonce) === undefined
    return hasOwnIv || this.#random.has(id.value)
  }

  #contains(got: Ttlv, wanted: Ttlv): readonly string[] {
    const [all, expected] = [valuesOf(got), valuesOf(wanted)]
    return expected
      .filter((item) => !all.some((one) => this.#compareOne(one, item, false).length === 0))
      .map((item) => `no ${JSON.stringify(item, bigintText)}`)
  }

  #compareAttributes(asked: Ttlv, got: Ttlv, wanted: Ttlv, mayDiffer: boolean): readonly string[] {
    const named = valuesOf(asked).some(({ tag }) => tag !== TAG.UniqueIdentifier)
    const [all, expected] = [attributesIn(got), attributesIn(wanted)]
    const missing = expected.filter(
      (item) =>
        !OF_THE_SERVER.has(nameOf(item)) &&
        !all.some((one) => this.#compareOne(one, item, mayDiffer).length === 0),
    )
    const names = new Set(expected.map(nameOf))
    const more = named ? all.filter((one) => !names.has(nameOf(one))) : []
    return [
      ...missing.map((one) => `no attribute ${nameOf(one)} as ${JSON.stringify(one, bigintText)}`),
      ...more.map((one) => `attribute ${nameOf(one)} is not expected`),
    ]
  }

  #compareOne(got: Ttlv, wanted: Ttlv, mayDiffer: boolean): readonly string[] {
    const name = tagName(wanted.tag)
    if (got.tag !== wanted.tag || got.type !== wanted.type) {
      return [`${name} (${wanted.type}), found ${tagName(got.tag)} (${got.type})`]
    }
    if (wanted.type === 'Structure' && got.type === 'Structure') {
      const [items, others] = [sorted(got), sorted(wanted)]
      if (items.length !== others.length) {
        return [`${name}: ${others.map(nameOf).join(' ')}, found ${items.map(nameOf).join(' ')}`]
      }
      return others.flatMap((item, index) => {
        const one = items[index]
        return one === undefined ? [] : this.#compareOne(one, item, mayDiffer)
      })
    }
    if (wanted.type === 'TextString' && got.type === 'TextString') {
      if (wanted.tag === TAG.AttributeName && nameOf(wanted) === nameOf(got)) return []
      if (wanted.value.startsWith('$') && !this.#texts.has(wanted.value)) {
        this.#texts.set(wanted.value, got.value)
      }
      const value = this.#texts.get(wanted.value) ?? wanted.value
      return value === got.value ? [] : [`${name} ${value}, found ${got.value}`]
    }
    if (wanted.type === 'ByteString' && got.type === 'ByteString') {
      this.#last.set(got.tag, got.value)
      const bound = this.#octets.get(toHex(wanted.value))
      if (bound === undefined && (isSentinel(wanted.value) || mayDiffer)) {
        this.#octets.set(toHex(wanted.value), got.value)
        return []
      }
      const value = bound ?? wanted.value
      return toHex(value) === toHex(got.value) || mayDiffer
        ? []
        : [`${name} ${toHex(value)}, found ${toHex(got.value)}`]
    }
    if (wanted.type === 'DateTime' && got.type === 'DateTime') {
      const apart = got.value > wanted.value ? got.value - wanted.value : wanted.value - got.value
      // A date of long ago was written when the case was.
      const isOld = wanted.value < BigInt(this.#clock.nowMs / 1000) - 3n * 31_536_000n
      return apart <= NEAR_SECONDS || isOld ? [] : [`${name} ${wanted.value}, found ${got.value}`]
    }
    return wanted.value === got.value
      ? []
      : [`${name} ${String(wanted.value)}, found ${String(got.value)}`]
  }
}

function valuesOf(item: Ttlv): readonly Ttlv[] {
  return item.type === 'Structure' ? item.value : []
}

/** An index of zero is as good as none. */
function sorted(item: Ttlv): readonly Ttlv[] {
  return valuesOf(item).filter((one) => one.tag !== TAG.AttributeIndex || one.value !== 0)
}

function attributesIn(payload: Ttlv): readonly Ttlv[] {
  return valuesOf(payload).flatMap((item) =>
    item.tag === TAG.Attributes ? valuesOf(item) : [item],
  )
}

/** The name of an attribute in any of its forms, without spaces. */
function nameOf(item: Ttlv): string {
  if (item.tag === TAG.Attribute || item.tag === TAG.AttributeReference) {
    const name = item.type === 'Structure' ? child(item, TAG.AttributeName) : undefined
    if (name !== undefined) return String(name.value).replaceAll(/\s/g, '')
    if (item.type === 'Enumeration') return tagName(item.value)
  }
  if (item.tag === TAG.AttributeName) return String(item.value).replaceAll(/\s/g, '')
  return tagName(item.tag)
}

function textOf(item: Ttlv | undefined): string {
  return item === undefined ? 'none' : toHex(encodeTtlv(item))
}

function bigintText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value
}
