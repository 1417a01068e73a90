import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import type { KeyServersInput, KeyServersView } from '../api/key-servers.js'
import { parseUtf8, utf8 } from '../core/bytes.js'
import { isoTime } from '../core/clock.js'
import { messageOf, PlatformError } from '../core/errors.js'
import { Secret } from '../core/secret.js'
import type { KmipServerAddress, KmipTls } from '../kmip/index.js'
import { type Certificate, certificatePem, parseCertificates } from '../pki/index.js'

/** The key servers of one provider, with the secrets that open them. To be disposed of. */
export interface KeyServers extends Disposable {
  /** What is no secret, as it was given; PEM texts without comments. */
  readonly settings: KeyServersSettings
  readonly privateKeyPem: Secret
  readonly password: Secret | undefined
}

export type KeyServersSettings = Omit<KeyServersInput, 'privateKey' | 'password'>

/**
 * Key servers of what an administrator gave. Nothing is connected to: see `testKeyServers`.
 *
 * @param before the settings that these replace: a private key, or a password of the same user, that is left out is taken
 * from there. Stays the caller's to dispose of
 * @throws PlatformError `KEY_SERVERS` where something is missing, twice, or does not belong together
 */
export function parseKeyServers(input: KeyServersInput, before?: KeyServers): KeyServers {
  const { privateKey, password, ...given } = input
  const certificates = readAll('certificate', given.certificate)
  const settings: KeyServersSettings = {
    ...given,
    authorities: pemOf(readAll('authorities', given.authorities)),
    certificate: pemOf(certificates),
  }
  requireEachOnce(settings)
  if (password !== undefined && settings.username === undefined) {
    throw invalid('a user name beside a password')
  }
  const keyPem = privateKey ?? before?.privateKeyPem.use(parseUtf8)
  if (keyPem === undefined) throw invalid('the private key of the certificate')
  requireKeyOf(certificates[0], keyPem)
  const isSameUser = settings.username === before?.settings.username
  const kept = isSameUser ? before?.password?.use((octets) => Uint8Array.from(octets)) : undefined
  const passwordOctets = password === undefined ? kept : utf8(password)
  return keyServersOf(
    settings,
    new Secret(utf8(keyPem)),
    passwordOctets && new Secret(passwordOctets),
  )
}

export function keyServersOf(
  settings: KeyServersSettings,
  privateKeyPem: Secret,
  password: Secret | undefined,
): KeyServers {
  return {
    settings,
    privateKeyPem,
    password,
    [Symbol.dispose]() {
      privateKeyPem.dispose()
      password?.dispose()
    },
  }
}

/** What may be shown: everything but the private key and the password. */
export function viewOfKeyServers({ settings, password }: KeyServers): KeyServersView {
  const [own] = parseCertificates(settings.certificate)
  if (!own) throw new TypeError('settings without a certificate')
  return {
    servers: [...settings.servers],
    authorities: parseCertificates(settings.authorities).map(viewOfCertificate),
    certificate: viewOfCertificate(own),
    ...(settings.username === undefined ? {} : { username: settings.username }),
    hasPassword: password !== undefined,
  }
}

/** The servers as the client takes them; named `host:port` in events and findings. */
export function addressesOf({ servers }: KeyServersSettings): readonly KmipServerAddress[] {
  return servers.map((server) => ({ name: `${server.host}:${server.port}`, ...server }))
}

export function tlsOf({ settings, privateKeyPem }: KeyServers): KmipTls {
  const { authorities, certificate } = settings
  return { authorities, certificate, privateKey: privateKeyPem.use(parseUtf8) }
}

function viewOfCertificate({ subject, issuer, fingerprint, notAfterMs }: Certificate) {
  return { subject, issuer, fingerprint, notAfter: isoTime(notAfterMs) }
}

function readAll(what: string, pem: string): readonly Certificate[] {
  try {
    return parseCertificates(pem)
  } catch (cause) {
    throw invalid(`certificates in ${what} (${messageOf(cause)})`, cause)
  }
}

function pemOf(certificates: readonly Certificate[]): string {
  return certificates.map(({ der }) => certificatePem(der)).join('')
}

function requireEachOnce(settings: KeyServersSettings): void {
  const names = addressesOf(settings).map(({ name }) => name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw invalid(`each key server once, found ${twice} twice`)
}

function requireKeyOf(certificate: Certificate | undefined, keyPem: string): void {
  let key: KeyObject
  try {
    key = createPrivateKey(keyPem)
  } catch {
    // The library's error may show a part of the text.
    throw invalid('a private key in PEM without a passphrase')
  }
  if (!certificate || !createPublicKey(key).equals(certificate.publicKey)) {
    throw invalid('the private key of the first certificate, found another key')
  }
}

function invalid(expected: string, cause?: unknown): PlatformError {
  return new PlatformError('KEY_SERVERS', `expected ${expected}`, { cause })
}
