import { createKmipClient, type KmipClient, type KmipClientOptions } from '../kmip/index.js'
import { addressesOf, type KeyServers, tlsOf } from './key-servers.js'

/**
 * A client of these key servers, in their order. Connects when it is first used; close it to end its connections.
 *
 * @param options what the caller wants otherwise: events, timeouts, a clock
 */
export function openKeyServerClient(
  servers: KeyServers,
  options: Pick<KmipClientOptions, 'events' | 'timeouts' | 'clock'> = {},
): KmipClient {
  const { username } = servers.settings
  const credentials =
    username === undefined
      ? undefined
      : { username, ...(servers.password ? { password: servers.password } : {}) }
  return createKmipClient({
    servers: addressesOf(servers.settings),
    tls: tlsOf(servers),
    ...(credentials ? { credentials } : {}),
    ...options,
  })
}
