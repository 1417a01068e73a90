import { tagName } from './tags.js'
import type { Ttlv, TtlvType } from './ttlv.js'
import { xmlValue } from './xml-values.js'

/** An item by its names, as people and programs read it. */
export interface TtlvJson {
  readonly tag: string
  readonly type: TtlvType
  readonly value: string | readonly TtlvJson[]
}

/** The item with names for what the standard names, and values in the text that they have in XML. Secrets are in it. */
export function ttlvToJson(item: Ttlv): TtlvJson {
  const { type } = item
  const tag = tagName(item.tag)
  if (item.type !== 'Structure') return { tag, type, value: xmlValue(item, { tag: item.tag }) }
  return { tag, type, value: item.value.map(ttlvToJson) }
}
