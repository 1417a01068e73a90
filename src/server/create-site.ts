import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { toBase64url } from '../core/bytes.js'
import { messageOf, PlatformError } from '../core/errors.js'
import { randomOctets } from '../core/random.js'
import { createAuthority, issueServerCertificate } from '../pki/index.js'
import { createOperator, openStore } from '../store/index.js'
import { SERVICES } from './serve.js'

const CA_DAYS = 3650
const SERVER_DAYS = 825
const PASSPHRASE_OCTETS = 32

/**
 * Makes a new site in a folder: configuration, passphrase, TLS authority and certificate, and a first administrator.
 *
 * Everything in the folder is for the owner alone (0700, 0600).
 *
 * @throws PlatformError `CONFLICT` where the folder is there already
 */
export async function createSite(options: {
  readonly folder: string
  /** `host:port` */
  readonly listen: string
  readonly mode: 'production' | 'lab'
  readonly nowMs: number
}): Promise<{ readonly adminFile: string; readonly configFile: string; readonly url: string }> {
  const folder = resolve(options.folder)
  makeFolder(folder)
  const file = (name: string) => join(folder, name)
  const write = (name: string, text: string) =>
    writeFileSync(file(name), text, { mode: 0o600, flag: 'wx' })

  const host = hostOf(options.listen)
  const url = `https://${options.listen}`
  const authority = await createAuthority({
    commonName: 'Sigillo site TLS authority',
    keyType: 'p384',
    validityDays: CA_DAYS,
    now: options.nowMs,
  })
  const isAddress = /^[\d.]+$|:/.test(host)
  const server = await issueServerCertificate(authority, {
    dnsNames: isAddress ? [] : [host],
    ipAddresses: isAddress ? [host] : [],
    validityDays: SERVER_DAYS,
    now: options.nowMs,
  })
  write('passphrase', `${toBase64url(randomOctets(PASSPHRASE_OCTETS))}\n`)
  write('tls-ca.pem', authority.certificatePem)
  write('tls-ca.key', await authority.privateKeyPem())
  write('tls.pem', server.certificatePem)
  write('tls.key', server.privateKeyPem)
  write('authority.toml', authorityToml({ ...options, folder }))
  write('admin.toml', toml({ url, caFile: file('tls-ca.pem'), tokenFile: file('admin.token') }))
  await using store = await openStore({ file: file('sigillo.db') })
  const { token } = await createOperator(store, {
    name: 'admin',
    role: 'administrator',
    services: SERVICES,
    nowMs: options.nowMs,
  })
  write('admin.token', `${token}\n`)
  return { adminFile: file('admin.toml'), configFile: file('authority.toml'), url }
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { mode: 0o700 })
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'EEXIST') {
      throw new PlatformError('CONFLICT', `expected a new folder, found ${folder}`, { cause })
    }
    const message = `cannot make ${folder}: ${messageOf(cause)}`
    throw new PlatformError('CONFIG_UNREADABLE', message, { cause })
  }
}

function hostOf(listen: string): string {
  const match = /^(\[([^\]]+)\]|[^:]+):\d{1,5}$/.exec(listen)
  const host = match?.[2] ?? match?.[1]
  if (host === undefined || listen.endsWith(':0')) {
    throw new PlatformError('CONFIG_INVALID', `expected host:port, found ${listen}`)
  }
  return host
}

function authorityToml(options: {
  readonly folder: string
  readonly listen: string
  readonly mode: string
}): string {
  const { folder, listen, mode } = options
  return [
    '[server]',
    toml({
      listen,
      tlsCertificateFile: join(folder, 'tls.pem'),
      tlsKeyFile: join(folder, 'tls.key'),
    }),
    '[store]',
    toml({ file: join(folder, 'sigillo.db') }),
    '[seal]',
    toml({ passphraseFile: join(folder, 'passphrase') }),
    '[attestation]',
    toml({ mode }),
  ].join('\n')
}

/** `key = "value"` lines; JSON strings are TOML strings. */
function toml(members: Readonly<Record<string, string>>): string {
  return Object.entries(members)
    .map(([name, value]) => `${name} = ${JSON.stringify(value)}\n`)
    .join('')
}
