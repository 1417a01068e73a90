import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { fromBase64url } from '../../src/core/bytes.js'
import type { PublicArea } from '../../src/tpm/index.js'
import { imported } from './key-pair.js'

/** A key with the public area of a TPM's key and its private part in memory: what a forger has. */
export interface SoftwareKey {
  readonly area: PublicArea
  readonly privateKey: KeyObject
}

/** A new key pair for this template, with its public part filled in. */
export function softwareKey(template: PublicArea): SoftwareKey {
  if (template.type === 'ecc') {
    const { publicKey, privateKey } = imported(
      generateKeyPairSync('ec', { namedCurve: template.curve }),
    )
    const { x = '', y = '' } = publicKey.export({ format: 'jwk' })
    return { area: { ...template, x: fromBase64url(x), y: fromBase64url(y) }, privateKey }
  }
  const { publicKey, privateKey } = imported(
    generateKeyPairSync('rsa', { modulusLength: template.keyBits }),
  )
  const { n = '' } = publicKey.export({ format: 'jwk' })
  return { area: { ...template, modulus: fromBase64url(n) }, privateKey }
}
