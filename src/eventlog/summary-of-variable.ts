import { toHex } from '../core/bytes.js'
import { unreachable } from '../core/errors.js'
import type { DescribedSignature } from './signature-list.js'
import type { VariableMeaning } from './variable-meaning.js'

const MAX_OCTETS = 16

/** The value of a variable in a few words. */
export function summaryOfVariable(meaning: VariableMeaning, value: Uint8Array): string {
  switch (meaning.kind) {
    case 'empty':
      return 'empty'
    case 'flag':
      return meaning.set ? 'on' : 'off'
    case 'signature-lists':
      return summaryOfSignatures(
        meaning.lists.flatMap(({ signatures }) => signatures),
        meaning.lists.reduce((sum, { omitted }) => sum + (omitted ?? 0), 0),
      )
    case 'authority':
      return summaryOfSignatures([meaning.signature])
    case 'sbat-level':
      return meaning.entries
        .map(({ component, generation, date }) =>
          [component, generation, date].filter(Boolean).join(','),
        )
        .join(' ')
    case 'boot-order':
      return meaning.options.join(', ')
    case 'load-option':
      return `"${meaning.option.description}" ${meaning.option.devicePath}`
    case 'octets': {
      const start = toHex(value.subarray(0, MAX_OCTETS))
      return value.length > MAX_OCTETS ? `${start}… (${value.length} octets)` : start
    }
    case 'unreadable':
      return `cannot be read (${meaning.code})`
    default:
      return unreachable(meaning)
  }
}

function summaryOfSignatures(signatures: readonly DescribedSignature[], omitted = 0): string {
  const names = signatures.flatMap((signature) =>
    'certificate' in signature
      ? [signature.certificate.subject ?? signature.certificate.fingerprint]
      : [],
  )
  const hashes = signatures.filter((signature) => 'hash' in signature).length
  const others = signatures.length - names.length - hashes + omitted
  return [
    ...names,
    ...(hashes > 0 ? [hashes === 1 ? '1 hash' : `${hashes} hashes`] : []),
    ...(others > 0 ? [`${others} other entries`] : []),
  ].join('; ')
}
