import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'

/**
 * The same keys in objects of their own.
 *
 * Node 20 may stand still for ever when the JWK of a generated EC key is asked for (see `src/tokens/signing-key.ts`);
 * of a key that was imported, never.
 */
export function imported(pair: { readonly publicKey: KeyObject; readonly privateKey: KeyObject }) {
  const spki = pair.publicKey.export({ type: 'spki', format: 'der' })
  const pkcs8 = pair.privateKey.export({ type: 'pkcs8', format: 'der' })
  return {
    publicKey: createPublicKey({ key: spki, type: 'spki', format: 'der' }),
    privateKey: createPrivateKey({ key: pkcs8, type: 'pkcs8', format: 'der' }),
  }
}
