import type { Assurance } from '../../api/key-provider.js'
import { PlatformError } from '../../core/errors.js'
import { decryptSession, decryptWithContentKey } from '../../tokens/index.js'
import type { Tpm } from '../../tpm/index.js'
import type { Session } from './attester.js'

/**
 * Opens an answer that was encrypted to this host: by the session key in memory, or by the binding key in the TPM, which
 * opens it only while the PCRs are as they were attested.
 *
 * The result is secret: the caller fills it with zeros.
 *
 * @throws PlatformError `AGENT_NO_BINDING_KEY`, `JWE_MALFORMED`, `JWE_ALGORITHM`, `JWE_DECRYPT`, or of the TPM
 */
export async function openAnswer(
  sealed: string,
  session: Session,
  assurance: Assurance,
  openTpm: () => Promise<Tpm>,
): Promise<Uint8Array> {
  if (assurance === 'session') return decryptSession(sealed, session.keys.session.privateKey)
  const { bindingKey } = session
  if (!bindingKey) {
    throw new PlatformError('AGENT_NO_BINDING_KEY', 'expected a binding key in the TPM, found none')
  }
  const tpm = await openTpm()
  return decryptWithContentKey(sealed, (encryptedKey) =>
    tpm.rsaDecryptWithPcrPolicy(
      bindingKey.key,
      { bank: bindingKey.bank, pcrs: bindingKey.pcrs },
      encryptedKey,
    ),
  )
}
