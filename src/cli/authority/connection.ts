import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { type Static, Type } from 'typebox'
import { type Client, createClient } from '../../api/client.js'
import { Exactly } from '../../api/common.js'
import { environment, loadConfig } from '../../core/config.js'
import { PlatformError } from '../../core/errors.js'
import { readText } from '../../core/read-file.js'
import { readSecretFile } from '../../core/secret-file.js'
import { createOutput, type Output } from '../output.js'

/** How the administrator's commands reach the authority. */
export const ConnectionConfig = Exactly({
  url: Type.String({ description: 'URL of the authority' }),
  caFile: Type.String({ description: 'certificate authority of its TLS certificate, PEM' }),
  tokenFile: Type.Optional(Type.String({ description: 'file with a token, mode 0600' })),
})

/** A page of a hundred base images with all that they may hold; a policy with rules for every file of a system. */
const MAX_ANSWER_OCTETS = 32 * 1024 * 1024

export interface Connection extends AsyncDisposable {
  readonly client: Client
  readonly output: Output
  /** Where the token came from. */
  readonly tokenFile: string
}

/** A connection without a token, for who logs in. */
export interface UnknownConnection extends Omit<Connection, 'tokenFile'> {
  /** Where the token of the login is to be kept; nowhere where there is no home folder. */
  readonly loginFile: string | undefined
}

/** Adds the options that say where the authority is. */
export function withConnection(command: Command): Command {
  return command
    .option('--site <folder>', 'folder that `sigillo init` made (or $SIGILLO_SITE)')
    .option('--url <url>', 'URL of the authority')
    .option('--ca-file <file>', 'certificate authority of its TLS certificate')
    .option(
      '--token-file <file>',
      'file with a token; else that of `sigillo login`, else of the site',
    )
}

interface ConnectionFlags {
  readonly site?: string
  readonly url?: string
  readonly caFile?: string
  readonly tokenFile?: string
  readonly json?: boolean
}

/** Opens the connection that a command's options describe. */
export function connect(command: Command): Connection {
  const { config, explicit, loginFile, output } = settingsOf(command)
  const login = loginFile !== undefined && existsSync(loginFile) ? loginFile : undefined
  const tokenFile = explicit ?? login ?? config.tokenFile
  if (tokenFile === undefined) {
    throw new PlatformError('CONFIG_INVALID', 'expected --token-file, or a login: sigillo login')
  }
  using token = readSecretFile(tokenFile)
  const client = createClient({
    ...clientOptions(config),
    bearerToken: token.use((octets) => Buffer.from(octets).toString('utf8')),
  })
  return { client, output, tokenFile, [Symbol.asyncDispose]: () => client[Symbol.asyncDispose]() }
}

/** As `connect`, for who has no token yet. */
export function connectUnknown(command: Command): UnknownConnection {
  const { config, explicit, loginFile, output } = settingsOf(command)
  const client = createClient(clientOptions(config))
  return {
    ...{ client, output, loginFile: explicit ?? loginFile },
    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  }
}

function settingsOf(command: Command) {
  const flags = command.optsWithGlobals<ConnectionFlags>()
  const env = environment()
  const site = flags.site ?? env['SIGILLO_SITE']
  if (site === undefined && flags.url === undefined && env['SIGILLO_ADMIN_URL'] === undefined) {
    command.error('error: expected --site (or $SIGILLO_SITE), or --url and --ca-file')
  }
  const { config } = loadConfig(ConnectionConfig, {
    prefix: 'SIGILLO_ADMIN',
    file: site === undefined ? undefined : join(site, 'admin.toml'),
    env,
    flags: { url: flags.url, caFile: flags.caFile, tokenFile: flags.tokenFile },
  })
  return {
    config,
    explicit: flags.tokenFile ?? env['SIGILLO_ADMIN_TOKEN_FILE'],
    loginFile: loginFileFor(config.url, env),
    output: createOutput({ json: flags.json === true }),
  }
}

/** One file for each authority, in the configuration of the person: its name is of the URL, and no path. */
function loginFileFor(
  url: string,
  env: Readonly<Record<string, string | undefined>>,
): string | undefined {
  const home = env['HOME']
  const folder = env['XDG_CONFIG_HOME'] ?? (home === undefined ? undefined : join(home, '.config'))
  const name = url.replace(/^https?:\/\//, '').replace(/[^A-Za-z0-9.-]/g, '_')
  return folder === undefined ? undefined : join(folder, 'sigillo', 'tokens', `${name}.token`)
}

function clientOptions(config: Static<typeof ConnectionConfig>) {
  return {
    baseUrl: config.url,
    caPem: readText(config.caFile),
    maxAnswerOctets: MAX_ANSWER_OCTETS,
  }
}
