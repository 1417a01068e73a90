import { randomOctets } from '../../../core/random.js'
import { Secret } from '../../../core/secret.js'
import type { KmipAttribute } from '../../attributes.js'
import { decodeTtlv } from '../../decode.js'
import { encodeTtlv } from '../../encode.js'
import { CRYPTOGRAPHIC_ALGORITHM, OBJECT_TYPE, OPERATION } from '../../enumerations.js'
import { TAG } from '../../tags.js'
import { asStructure, enumeration, requiredChild, textString, valueAt } from '../../ttlv.js'
import type { Answer, Call, Operation } from '../call.js'
import { digestOf, factsOf, isWrapped, keyOctets, symmetricKeyBody } from '../key-block.js'
import { givenAttributes, storeNewObject } from '../new-object.js'
import { objectTag } from '../object.js'
import { KmipRefusal } from '../refusal.js'

/** @see KMIP 2.1 Specification, clause 6.1.8 */
export const CREATE: Operation = {
  operation: OPERATION.Create,
  since: { major: 1, minor: 0 },
  fields: [TAG.ObjectType],
  fieldsOf1: [TAG.TemplateAttribute],
  fieldsOf2: [TAG.Attributes, TAG.ProtectionStorageMasks],
  run: create,
}

/** @see KMIP 2.1 Specification, clause 6.1.44 */
export const REGISTER: Operation = {
  operation: OPERATION.Register,
  since: { major: 1, minor: 0 },
  fields: [
    ...[TAG.ObjectType, TAG.Certificate, TAG.SymmetricKey, TAG.PrivateKey, TAG.PublicKey],
    ...[TAG.SecretData, TAG.OpaqueObject, TAG.PGPKey],
  ],
  fieldsOf1: [TAG.TemplateAttribute],
  fieldsOf2: [TAG.Attributes, TAG.ProtectionStorageMasks],
  run: register,
}

const SAFE_BITS = 256

function create(call: Call): Answer {
  const objectType = valueAt(call.payload, TAG.ObjectType, 'Enumeration')
  if (objectType !== OBJECT_TYPE.SymmetricKey) {
    throw new KmipRefusal('InvalidField', 'this operation makes symmetric keys alone')
  }
  const attributes = givenAttributes(call)
  const id = makeSymmetricKey(call, attributes)
  return {
    items: [enumeration(TAG.ObjectType, objectType), textString(TAG.UniqueIdentifier, id)],
    placeholder: { id },
  }
}

/** A new random key with these attributes, algorithm and length among them; the id. */
export function makeSymmetricKey(call: Call, attributes: readonly KmipAttribute[]): string {
  const algorithm = numberOf(attributes, TAG.CryptographicAlgorithm)
  const lengthBits = numberOf(attributes, TAG.CryptographicLength)
  const quantumSafe = attributes.some(
    (one) => one.kind === 'standard' && one.tag === TAG.QuantumSafe && one.value.value === true,
  )
  if (quantumSafe && (algorithm !== CRYPTOGRAPHIC_ALGORITHM.AES || lengthBits < SAFE_BITS)) {
    throw new KmipRefusal('GeneralFailure', 'such a key is not safe against quantum computers')
  }
  const key = randomOctets(keyOctets(algorithm, lengthBits))
  const body = symmetricKeyBody(key, algorithm, lengthBits)
  key.fill(0)
  return store(call, OBJECT_TYPE.SymmetricKey, body, attributes)
}

function register(call: Call): Answer {
  const objectType = valueAt(call.payload, TAG.ObjectType, 'Enumeration')
  const object = asStructure(requiredChild(call.payload, objectTag(objectType)))
  const others = call.payload.value.filter(
    (item) => item !== object && REGISTER.fields.slice(1).includes(item.tag),
  )
  if (others.length > 0) throw new KmipRefusal('InvalidMessage', 'one object is registered')
  const attributes = givenAttributes(call)
  const id = store(call, objectType, new Secret(encodeTtlv(object)), attributes)
  return { items: [textString(TAG.UniqueIdentifier, id)], placeholder: { id } }
}

function store(
  call: Call,
  objectType: number,
  body: Secret,
  attributes: readonly KmipAttribute[],
): string {
  try {
    return body.use((octets) => {
      const object = asStructure(decodeTtlv(octets))
      const facts = factsOf(objectType, object)
      const digest = isWrapped(object) ? undefined : digestOf(object, facts)
      return storeNewObject(call, { objectType, body, facts, digest, attributes }).id
    })
  } catch (error) {
    body.dispose()
    throw error
  }
}

function numberOf(attributes: readonly KmipAttribute[], tag: number): number {
  const found = attributes.find((one) => one.kind === 'standard' && one.tag === tag)
  if (typeof found?.value.value === 'number') return found.value.value
  throw new KmipRefusal('MissingData', 'a key needs an algorithm and a length')
}
