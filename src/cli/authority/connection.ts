import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { Type } from 'typebox'
import { type Client, createClient } from '../../api/client.js'
import { Exactly } from '../../api/common.js'
import { environment, loadConfig } from '../../core/config.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { readSecretFile } from '../../core/secret-file.js'
import { createOutput, type Output } from '../output.js'

/** How the administrator's commands reach the authority. */
export const ConnectionConfig = Exactly({
  url: Type.String({ description: 'URL of the authority' }),
  caFile: Type.String({ description: 'certificate authority of its TLS certificate, PEM' }),
  tokenFile: Type.String({ description: 'file with the operator token, mode 0600' }),
})

/** A page of a hundred base images with all that they may hold; a policy with rules for every file of a system. */
const MAX_ANSWER_OCTETS = 32 * 1024 * 1024

export interface Connection extends AsyncDisposable {
  readonly client: Client
  readonly output: Output
}

/** Adds the options that say where the authority is. */
export function withConnection(command: Command): Command {
  return command
    .option('--site <folder>', 'folder that `sigillo init` made (or $SIGILLO_SITE)')
    .option('--url <url>', 'URL of the authority')
    .option('--ca-file <file>', 'certificate authority of its TLS certificate')
    .option('--token-file <file>', 'file with the operator token')
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
  const flags = command.optsWithGlobals<ConnectionFlags>()
  const env = environment()
  const site = flags.site ?? env['SIGILLO_SITE']
  if (site === undefined && flags.url === undefined && env['SIGILLO_ADMIN_URL'] === undefined) {
    command.error('error: expected --site (or $SIGILLO_SITE), or --url, --ca-file and --token-file')
  }
  const { config } = loadConfig(ConnectionConfig, {
    prefix: 'SIGILLO_ADMIN',
    file: site === undefined ? undefined : join(site, 'admin.toml'),
    env,
    flags: { url: flags.url, caFile: flags.caFile, tokenFile: flags.tokenFile },
  })
  using token = readSecretFile(config.tokenFile)
  const client = createClient({
    baseUrl: config.url,
    caPem: readText(config.caFile),
    maxAnswerOctets: MAX_ANSWER_OCTETS,
    bearerToken: token.use((octets) => Buffer.from(octets).toString('utf8')),
  })
  return {
    client,
    output: createOutput({ json: flags.json === true }),
    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  }
}

/** The text of a file that a person named. */
export function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    throw new PlatformError('CONFIG_UNREADABLE', `cannot read ${file}: ${messageOf(cause)}`, {
      cause,
    })
  }
}
