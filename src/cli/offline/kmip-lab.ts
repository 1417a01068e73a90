import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { messageOf, PlatformError } from '../../core/errors.js'
import { readText } from '../../core/read-file.js'
import { createAuthority, issueClientCertificate, issueServerCertificate } from '../../pki/index.js'

const DAYS = 365

/** The certificates of a key server for development, and of a client of it: files, and the texts of the server's. */
export interface KmipLab extends Disposable {
  readonly caFile: string
  readonly clientCertificateFile: string
  readonly clientKeyFile: string
  readonly tls: {
    readonly authorities: string
    readonly certificate: string
    readonly privateKey: string
  }
}

/**
 * Certificates in a folder: those that are there, or new ones. Without a folder they are made in a temporary one,
 * which goes away at the end.
 *
 * @throws PlatformError `CONFIG_UNREADABLE` when the folder holds some of the files and not all
 */
export async function openKmipLab(options: {
  readonly folder: string | undefined
  readonly host: string
  readonly now: number
}): Promise<KmipLab> {
  const isTemporary = options.folder === undefined
  const folder =
    options.folder === undefined ? mkdtempSync(join(tmpdir(), 'sigillo-kmip-')) : options.folder
  const file = (name: string): string => join(resolve(folder), name)
  if (!isThere(file('ca.pem'))) await makeCertificates(file, folder, options)
  return {
    caFile: file('ca.pem'),
    clientCertificateFile: file('client.pem'),
    clientKeyFile: file('client.key'),
    tls: {
      authorities: readText(file('ca.pem')),
      certificate: readText(file('server.pem')),
      privateKey: readText(file('server.key')),
    },
    [Symbol.dispose]() {
      if (isTemporary) rmSync(folder, { recursive: true, force: true })
    },
  }
}

async function makeCertificates(
  file: (name: string) => string,
  folder: string,
  { host, now }: { readonly host: string; readonly now: number },
): Promise<void> {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const validity = { validityDays: DAYS, now }
  const authority = await createAuthority({
    commonName: 'Sigillo KMIP development',
    keyType: 'p256',
    ...validity,
  })
  const isAddress = /^[\d.]+$|:/.test(host)
  const server = await issueServerCertificate(authority, {
    dnsNames: isAddress ? ['localhost'] : ['localhost', host],
    ipAddresses: isAddress && host !== '127.0.0.1' ? ['127.0.0.1', host] : ['127.0.0.1'],
    ...validity,
  })
  const client = await issueClientCertificate(authority, { commonName: 'client', ...validity })
  write(file('server.pem'), server.certificatePem)
  write(file('server.key'), server.privateKeyPem)
  write(file('client.pem'), client.certificatePem)
  write(file('client.key'), client.privateKeyPem)
  // The last: where it is, all are.
  write(file('ca.pem'), authority.certificatePem)
}

function isThere(path: string): boolean {
  try {
    readFileSync(path)
    return true
  } catch {
    return false
  }
}

function write(path: string, text: string): void {
  try {
    writeFileSync(path, text, { mode: 0o600, flag: 'wx' })
  } catch (cause) {
    throw new PlatformError('CONFIG_UNREADABLE', `cannot write ${path}: ${messageOf(cause)}`, {
      cause,
    })
  }
}
