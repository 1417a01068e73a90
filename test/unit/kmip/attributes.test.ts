import { expect, test } from 'vitest'
import { isAttributeOf } from '../../../src/kmip/attribute-names.js'
import {
  attributeFromTtlv,
  attributeReferenceFromTtlv,
  attributeReferenceToTtlv,
  attributeToTtlv,
  customAttribute,
  type KmipAttribute,
  standardAttribute,
} from '../../../src/kmip/attributes.js'
import { TAG } from '../../../src/kmip/tags.js'
import { enumeration, structure, textString } from '../../../src/kmip/ttlv.js'

const V1: { major: number; minor: number } = { major: 1, minor: 0 }
const V2 = { major: 2, minor: 0 }
const custom = customAttribute('x-Product_Version', '0.1')

test('a custom attribute is named x- in 1.x and has the vendor x in 2.x', () => {
  expect(attributeToTtlv(custom, V1)).toEqual(
    structure(TAG.Attribute, [
      textString(TAG.AttributeName, 'x-Product_Version'),
      textString(TAG.AttributeValue, '0.1'),
    ]),
  )
  expect(attributeToTtlv(custom, V2)).toEqual(
    structure(TAG.Attribute, [
      textString(TAG.VendorIdentification, 'x'),
      textString(TAG.AttributeName, 'Product_Version'),
      textString(TAG.AttributeValue, '0.1'),
    ]),
  )
})

test.each([V1, V2])('attributes and their names come back in version $major', (version) => {
  const state = standardAttribute(enumeration(TAG.State, 2))
  for (const attribute of [custom, state]) {
    const back = attributeFromTtlv(attributeToTtlv(attribute, version), version)
    expect(back).toMatchObject(attribute)
    const reference = attributeReferenceFromTtlv(attributeReferenceToTtlv(attribute, version))
    expect(attribute).toMatchObject(reference)
  }
})

test('refuses to name in 1.x what only another vendor has, and in 2.x what has no vendor', () => {
  const value = textString(TAG.AttributeValue, 'v')
  const other: KmipAttribute = { kind: 'vendor', vendor: 'Example', name: 'a', value }
  expect(() => attributeToTtlv(other, V1)).toThrow(
    expect.objectContaining({ code: 'KMIP_VERSION' }),
  )
  const none: KmipAttribute = { kind: 'vendor', vendor: '', name: 'a', value }
  expect(() => attributeToTtlv(none, V2)).toThrow(expect.objectContaining({ code: 'KMIP_VERSION' }))
})

test('refuses an item that is no attribute of 1.x', () => {
  expect(() => attributeFromTtlv(enumeration(TAG.State, 1), V1)).toThrow(
    expect.objectContaining({ code: 'KMIP_MESSAGE' }),
  )
})

test('knows since when the standard has an attribute', () => {
  expect(isAttributeOf(TAG.Fresh, V1)).toBe(false)
  expect(isAttributeOf(TAG.Fresh, { major: 1, minor: 1 })).toBe(true)
  expect(isAttributeOf(TAG.QuantumSafe, { major: 1, minor: 4 })).toBe(false)
})
