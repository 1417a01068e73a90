import { createPublicKey, type JsonWebKey } from 'node:crypto'
import { fromHex, toBase64url } from '../../core/bytes.js'
import { DecodeError } from '../../core/errors.js'

const RSA_MODULUS = /^(?:[0-9a-f]{2}){256,512}$/
const EC_POINT = /^x=([0-9a-f]{96}),y=([0-9a-f]{96}),id=secp384r1$/
const EXPONENT_65537 = 'AQAB'

/**
 * SubjectPublicKeyInfo (DER) of an endorsement key as swtpm_setup writes it on a command line: the modulus of an RSA
 * key of 2048 to 4096 bits (exponent 65537), or `x=…,y=…,id=secp384r1`.
 *
 * @throws DecodeError `DECODE_VALUE`, also for a point that is not on the curve
 */
export function parseEndorsementKey(text: string): Uint8Array {
  const base64url = (hex: string) => toBase64url(fromHex(hex))
  const point = EC_POINT.exec(text)
  let key: JsonWebKey
  if (RSA_MODULUS.test(text)) {
    key = { kty: 'RSA', n: base64url(text), e: EXPONENT_65537 }
  } else if (point) {
    const [, x = '', y = ''] = point
    key = { kty: 'EC', crv: 'P-384', x: base64url(x), y: base64url(y) }
  } else {
    throw new DecodeError('DECODE_VALUE', 0, 'expected an RSA or P-384 endorsement key')
  }
  try {
    const spki = createPublicKey({ key, format: 'jwk' }).export({ type: 'spki', format: 'der' })
    return new Uint8Array(spki)
  } catch (cause) {
    throw new DecodeError('DECODE_VALUE', 0, 'expected a valid endorsement key', { cause })
  }
}
