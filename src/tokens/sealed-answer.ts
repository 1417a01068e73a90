import { fromBase64url } from '../core/bytes.js'
import type { AttestationResultClaims } from './attestation-result-claims.js'
import { encryptToBindingKey, encryptToSession } from './jwe.js'

/** Encrypts an answer to a host by the claims of its token. */
export type AnswerSealer = typeof sealAnswer

/**
 * Encrypts an answer to an attested host: to the key in the agent's memory (`session`), or to the key in its TPM (`tpm`).
 *
 * `plaintext` stays the caller's, to be filled with zeros. Throws `TypeError` where `tpm` is wanted and the token has no
 * binding key: whoever releases keys looks at that before.
 *
 * @throws TokenError as `encryptToSession` and `encryptToBindingKey` do
 */
export async function sealAnswer(
  claims: AttestationResultClaims,
  assurance: 'session' | 'tpm',
  plaintext: Uint8Array,
): Promise<string> {
  if (assurance === 'session') return encryptToSession(claims.sigillo.session_jwk, plaintext)
  const { binding_key: bindingKey } = claims.sigillo
  if (!bindingKey) throw new TypeError('the release rule demands a binding key')
  return encryptToBindingKey(fromBase64url(bindingKey.spki), plaintext)
}
