import { lookup } from 'node:dns/promises'
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { messageOf } from '../core/errors.js'
import { type KmipServerAddress, type KmipTls, kmipTlsOptions } from '../kmip/index.js'
import { type Certificate, parseCertificate } from '../pki/index.js'
import type { Report } from './test-findings.js'

/**
 * Finds the server by name, connects, and makes a TLS connection as the client does; each step only after the one before.
 *
 * @returns the certificate of the server where all went well
 */
export async function testNetwork(
  address: KmipServerAddress,
  tls: KmipTls,
  timeoutMs: number,
  report: Report,
): Promise<Certificate | undefined> {
  return (
    (await testName(address, report)) &&
    (await testTcp(address, timeoutMs, report)) &&
    (await testTls(address, tls, timeoutMs, report))
  )
}

async function testName({ host }: KmipServerAddress, report: Report): Promise<true | undefined> {
  if (isIP(host) !== 0) return true
  try {
    const addresses = await lookup(host, { all: true })
    report.ok('name', `${host} is ${addresses.map(({ address }) => address).join(', ')}`)
    return true
  } catch (error) {
    const message = `${host} has no address: ${messageOf(error)}; is the name right, and does the resolver answer?`
    report.failed('name', 'KMS_UNREACHABLE', message)
    return undefined
  }
}

async function testTcp(
  { host, port }: KmipServerAddress,
  timeoutMs: number,
  report: Report,
): Promise<true | undefined> {
  const socket = connectTcp({ host, port })
  try {
    await opened(socket, 'connect', timeoutMs)
    report.ok('tcp', `port ${port} accepts connections`)
    return true
  } catch (error) {
    const timedOut = error instanceof TimeoutError
    const why = timedOut ? `nothing within ${timeoutMs} ms` : messageOf(error)
    report.failed(
      'tcp',
      timedOut ? 'KMS_TIMEOUT' : 'KMS_UNREACHABLE',
      `port ${port} does not accept connections: ${why}; does the key server run, and does a firewall let this machine through?`,
    )
    return undefined
  } finally {
    socket.destroy()
  }
}

async function testTls(
  address: KmipServerAddress,
  tls: KmipTls,
  timeoutMs: number,
  report: Report,
): Promise<Certificate | undefined> {
  let socket: TLSSocket
  try {
    socket = connectTls(kmipTlsOptions(address, tls))
  } catch (error) {
    report.failed('tls', 'KMS_TLS', `our own certificates cannot be used: ${messageOf(error)}`)
    return undefined
  }
  try {
    await opened(socket, 'secureConnect', timeoutMs)
    const { standardName } = socket.getCipher()
    const what = `${socket.getProtocol() ?? 'TLS'} with ${standardName}`
    report.ok('tls', `${what}; certificate and name of the server are trusted`)
    if (!/GCM|CHACHA20/.test(standardName)) {
      report.warning('tls', `${what} is an old suite, which has to be allowed for this server`)
    }
    return parseCertificate(new Uint8Array(socket.getPeerCertificate().raw))
  } catch (error) {
    if (error instanceof TimeoutError) {
      const message = `no TLS connection within ${timeoutMs} ms: does something else listen there?`
      report.failed('tls', 'KMS_TIMEOUT', message)
    } else report.failed('tls', 'KMS_TLS', inWords(error, address))
    return undefined
  } finally {
    socket.destroy()
  }
}

class TimeoutError extends Error {}

function opened(socket: Socket, event: string, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new TimeoutError()), timeoutMs)
    const end = (error?: Error): void => {
      clearTimeout(timer)
      if (error) reject(error)
      else resolve()
    }
    socket.once(event, () => end())
    socket.once('error', end)
    socket.once('close', () => end(new Error('the server closed the connection')))
  })
}

/** What OpenSSL's and Node's codes mean for the person who has to mend it. */
const CAUSES: readonly (readonly [RegExp, string])[] = [
  [/CERT_HAS_EXPIRED/, 'the certificate of the key server has expired: it has to be renewed there'],
  [
    /CERT_NOT_YET_VALID/,
    'the certificate of the key server is not valid yet: are the clocks right?',
  ],
  [
    /SELF_SIGNED_CERT|UNABLE_TO_GET_ISSUER|UNABLE_TO_VERIFY_LEAF|UNABLE_TO_GET_ISSUER_CERT_LOCALLY/,
    'the certificate of the key server is of no authority that is trusted here: has it been replaced, or is its authority missing in the settings?',
  ],
  [
    /CERT_SIGNATURE_FAILURE/,
    'the certificate of the key server is not signed by the authority that it names',
  ],
  [
    /ALERT_UNKNOWN_CA/,
    'the key server does not trust the authority of our certificate: our certificate has to be made known there',
  ],
  [/ALERT_CERTIFICATE_EXPIRED/, 'our certificate has expired: a new one has to be set'],
  [
    /ALERT_UNSUPPORTED_CERTIFICATE/,
    'the key server does not accept the kind of our certificate: most want one for the use of clients (clientAuth)',
  ],
  [
    /ALERT_(BAD|REVOKED)?_?CERTIFICATE|CERTIFICATE_REQUIRED|CERTIFICATE_UNKNOWN/,
    'the key server does not accept our certificate: it has to be made known there',
  ],
  [
    /ALERT_HANDSHAKE_FAILURE|NO_SHARED_CIPHER|INSUFFICIENT_SECURITY/,
    'the key server has no suite in common with us, or does not accept our certificate: an old key server may need the suites of old TLS (insecureLegacyTls)',
  ],
  [/PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL/, 'the key server speaks neither TLS 1.2 nor TLS 1.3'],
  [
    /WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST/,
    'what listens there does not speak TLS',
  ],
]

function inWords(error: unknown, address: KmipServerAddress): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    const name = address.serverName ?? address.host
    return `the certificate of the key server is not for ${name} (${messageOf(error)}): is another name in it, to be given as serverName?`
  }
  const cause = CAUSES.find(([pattern]) => pattern.test(code))?.[1]
  return cause === undefined ? `no TLS connection: ${messageOf(error)}` : `${cause} (${code})`
}
