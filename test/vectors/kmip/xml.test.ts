import { expect, test } from 'vitest'
import { decodeTtlv } from '../../../src/kmip/decode.js'
import { encodeTtlv } from '../../../src/kmip/encode.js'
import { messagesFromXml, ttlvFromXml, ttlvToXml } from '../../../src/kmip/xml.js'
import { saySkipped } from '../../helpers/vectors.js'
import { bindPlaceholders, oasisCases } from './oasis.js'

const cases = oasisCases()
if (cases.length === 0) saySkipped('kmip', 499)

test.skipIf(cases.length === 0)('has the cases of the standard, 1.0 to 2.1', () => {
  const counts = new Map<string, number>()
  for (const { version } of cases) counts.set(version, (counts.get(version) ?? 0) + 1)
  expect(Object.fromEntries(counts)).toEqual({
    '1.0': 64,
    '1.1': 67,
    '1.2': 66,
    '1.4': 137,
    '2.0': 72,
    '2.1': 93,
  })
})

test.each(cases)('$version $name goes from XML to octets and back', ({ xml }) => {
  const messages = messagesFromXml(bindPlaceholders(xml))
  expect(messages.length).toBeGreaterThan(0)
  for (const message of messages) {
    const decoded = decodeTtlv(encodeTtlv(message))
    expect(decoded).toEqual(message)
    expect(ttlvFromXml(ttlvToXml(decoded))).toEqual(message)
  }
})
