import { expect, test } from 'vitest'
import { attributesFromTtlv, attributesToTtlv } from '../../../src/kmip/attributes.js'
import { describeTtlv } from '../../../src/kmip/mask.js'
import {
  type KmipRequest,
  requestFromTtlv,
  requestToTtlv,
  responseFromTtlv,
  responseToTtlv,
} from '../../../src/kmip/message.js'
import { TAG } from '../../../src/kmip/tags.js'
import { children, type Ttlv } from '../../../src/kmip/ttlv.js'
import { messagesFromXml } from '../../../src/kmip/xml.js'
import { saySkipped } from '../../helpers/vectors.js'
import { bindPlaceholders, oasisCases } from './oasis.js'

const cases = oasisCases()
if (cases.length === 0) saySkipped('kmip', 499)

test.each(cases)('$version $name is read as typed messages and written the same', ({ xml }) => {
  for (const message of messagesFromXml(bindPlaceholders(xml))) {
    if (message.tag === TAG.RequestMessage) {
      const request = requestFromTtlv(message)
      expect(requestToTtlv(request)).toEqual(message)
      for (const item of request.items) checkAttributes(item.payload, request)
    } else expect(responseToTtlv(responseFromTtlv(message))).toEqual(message)
    const described = describeTtlv(message)
    expect(described).not.toMatch(/^ *(KeyMaterial|Password|Data): (?!"\[secret)/m)
  }
})

function checkAttributes(payload: Ttlv, { version }: KmipRequest): void {
  const tag = version.major < 2 ? TAG.TemplateAttribute : TAG.Attributes
  for (const container of children(payload, tag)) {
    if (version.major < 2 && children(container, TAG.Name).length > 0) continue
    const attributes = attributesFromTtlv(container, version)
    expect(attributesToTtlv(attributes, version)).toEqual(container)
  }
}
