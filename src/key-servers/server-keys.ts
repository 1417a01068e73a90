import { isPlatformError } from '../core/errors.js'
import type { Logger } from '../core/logger.js'
import type { Secret } from '../core/secret.js'
import {
  type KmipClient,
  type KmipClientEvent,
  KmipError,
  REVOCATION_REASON_CODE,
} from '../kmip/index.js'

/** Of every key that is made at key servers. */
export const SERVER_KEY_OCTETS = 32

/**
 * Reads a key of 32 octets, which belongs to the caller.
 *
 * @throws KmipError of the key server; `KMS_PROTOCOL` for a key of another length, or one that is wrapped
 */
export async function fetchServerKey(client: KmipClient, keyId: string): Promise<Secret> {
  const { material, wrapped } = await client.get(keyId)
  if (material.length === SERVER_KEY_OCTETS && wrapped === undefined) return material
  const found = `${material.length} octets${wrapped ? ', wrapped' : ''}`
  material.dispose()
  throw new KmipError(
    'KMS_PROTOCOL',
    `expected a key of ${SERVER_KEY_OCTETS} octets, found ${found}`,
  )
}

/** Destroys a key, active or not. One that is not there any more is no error. @throws KmipError of the key server */
export async function destroyServerKey(client: KmipClient, keyId: string): Promise<void> {
  try {
    await client
      .revoke(keyId, { reason: REVOCATION_REASON_CODE.CessationOfOperation })
      // A key that was not activated, or was revoked before, need not be; Destroy says whether it can be destroyed.
      .catch(() => undefined)
    await client.destroy(keyId)
  } catch (error) {
    const isGone =
      isPlatformError(error, 'KMS_KEY_NOT_FOUND') || isPlatformError(error, 'KMS_KEY_DESTROYED')
    if (!isGone) throw error
  }
}

/** Destroys a key that was made in vain. What cannot be is logged: it protects nothing, until somebody removes it there. */
export async function discardServerKey(
  client: KmipClient,
  keyId: string,
  logger: Logger,
): Promise<void> {
  try {
    await destroyServerKey(client, keyId)
  } catch (err) {
    if (!(err instanceof KmipError)) throw err
    logger.warn(
      { event: 'key-server.key-left', keyId, err },
      'a key that is not used stays in the key server',
    )
  }
}

/** News of the client of a provider, for the log. */
export function logKeyServerEvent(
  logger: Logger,
  providerId: string,
  event: KmipClientEvent,
): void {
  const { event: name, ...fields } = event
  const entry = { event: name, providerId, ...fields }
  if (name === 'kmip.server.failed') logger.warn(entry, 'a key server failed')
  else logger.info(entry, 'news of a key server')
}
