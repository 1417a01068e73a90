import { type Command, InvalidArgumentError } from 'commander'
import type { ConnectionTest, KeyServersInput, KeyServersView } from '../../api/key-servers.js'
import { KMIP_PORT } from '../../api/key-servers.js'
import { parseUtf8 } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { readText } from '../../core/read-file.js'
import { MAX_KEY_FILE_OCTETS, readSecretFile } from '../../core/secret-file.js'
import { collect } from '../values.js'

/** How key servers are given on a command line. */
export interface KeyServerOptions {
  readonly server?: readonly string[]
  readonly serverName?: string
  readonly insecureLegacyTls?: boolean
  readonly kmsCa?: string
  readonly clientCertificate?: string
  readonly clientKey?: string
  readonly username?: string
  readonly passwordFile?: string
}

export function withKeyServers(command: Command): Command {
  return command
    .option(
      '--server <host[:port]>',
      'key server, in order of preference; may be repeated',
      collect,
    )
    .option('--server-name <name>', 'name in their certificates, where it is another than the host')
    .option('--insecure-legacy-tls', 'also the suites of old key servers (CBC, RSA)')
    .option('--kms-ca <file>', 'authorities of their certificates, PEM')
    .option('--client-certificate <file>', 'certificate that the service shows them, PEM')
    .option('--client-key <file>', 'its private key, PEM, mode 0600; left out: as before')
    .option('--username <name>', 'user name, where they want one')
    .option('--password-file <file>', 'file with the password, mode 0600; left out: as before')
}

/** The key servers that were given; nothing where none was. */
export function keyServersOf(options: KeyServerOptions): KeyServersInput | undefined {
  const { server, kmsCa, clientCertificate } = options
  if (server === undefined) return undefined
  if (kmsCa === undefined || clientCertificate === undefined) {
    throw new PlatformError(
      'REQUEST_INVALID',
      'expected --kms-ca and --client-certificate beside --server',
    )
  }
  return {
    servers: server.map((text) => ({
      ...addressOf(text),
      ...(options.serverName === undefined ? {} : { serverName: options.serverName }),
      ...(options.insecureLegacyTls ? { insecureLegacyTls: true } : {}),
    })),
    authorities: readText(kmsCa),
    certificate: readText(clientCertificate),
    ...(options.clientKey === undefined
      ? {}
      : { privateKey: secretText(options.clientKey, MAX_KEY_FILE_OCTETS) }),
    ...(options.username === undefined ? {} : { username: options.username }),
    ...(options.passwordFile === undefined ? {} : { password: secretText(options.passwordFile) }),
  }
}

export function keyServerFields(view: KeyServersView): (readonly [string, string | undefined])[] {
  const { servers, authorities, certificate, username, hasPassword } = view
  return [
    [
      'key servers',
      servers
        .map(({ host, port, insecureLegacyTls }) =>
          insecureLegacyTls ? `${host}:${port} (old TLS)` : `${host}:${port}`,
        )
        .join(', '),
    ],
    ['trusted', authorities.map(({ subject }) => subject).join(', ')],
    ['certificate', `${certificate.subject}, until ${certificate.notAfter}`],
    ['user', username === undefined ? undefined : `${username}${hasPassword ? ', password' : ''}`],
  ]
}

const MARKS = { ok: 'ok  ', warning: 'WARN', failed: 'FAIL' } as const

/** A test, one line for each finding, and what it comes to. */
export function testLines({ verdict, findings }: ConnectionTest): readonly string[] {
  return [
    ...findings.map(
      ({ server, step, result, code, message }) =>
        `${MARKS[result]} ${server} ${step}: ${message}${code === undefined ? '' : ` (${code})`}`,
    ),
    `test ${verdict}`,
  ]
}

/** `kms.example`, `kms.example:5696`, `[2001:db8::1]:5696` */
function addressOf(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  if (host === undefined) throw new InvalidArgumentError('expected a key server as host:port')
  return { host, port: match?.[3] === undefined ? KMIP_PORT : Number(match[3]) }
}

function secretText(file: string, maxOctets?: number): string {
  using secret = readSecretFile(file, maxOctets)
  return secret.use(parseUtf8)
}
