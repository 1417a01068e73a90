import { isIP } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import type { KmipServerAddress, KmipTls } from './options.js'

/** Suites with forward secrecy and authenticated encryption; those of TLS 1.3 first. */
const SUITES = [
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'TLS_AES_128_GCM_SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
]

/**
 * What the profiles of KMIP 1.x demanded: CBC, and RSA without forward secrecy.
 *
 * @see KMIP Profiles 1.4, clause 3.1
 */
const LEGACY_SUITES = [
  'ECDHE-ECDSA-AES256-SHA384',
  'ECDHE-RSA-AES256-SHA384',
  'ECDHE-ECDSA-AES128-SHA256',
  'ECDHE-RSA-AES128-SHA256',
  'AES256-GCM-SHA384',
  'AES128-GCM-SHA256',
  'AES256-SHA256',
  'AES128-SHA256',
]

/** How a key server is connected to: TLS 1.2 or 1.3, chain and name checked, our certificate shown. */
export function kmipTlsOptions(address: KmipServerAddress, tls: KmipTls): ConnectionOptions {
  const { host, port, serverName } = address
  const name = serverName ?? (isIP(host) === 0 ? host : undefined)
  return {
    host,
    port,
    ...(name === undefined ? {} : { servername: name }),
    ca: tls.authorities,
    cert: tls.certificate,
    key: tls.privateKey,
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    ciphers: [...SUITES, ...(address.insecureLegacyTls ? LEGACY_SUITES : [])].join(':'),
    rejectUnauthorized: true,
  }
}
