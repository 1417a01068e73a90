import { join } from 'node:path'
import type { Command } from 'commander'
import type { Static } from 'typebox'
import { systemClock } from '../../core/clock.js'
import { environment, type LoadedConfig, loadConfig } from '../../core/config.js'
import { PlatformError } from '../../core/errors.js'
import { createLogger } from '../../core/logger.js'
import type { AuthorityConfig } from '../../server/index.js'
import { buildVersion } from '../build.js'
import { settingLines } from '../config-show.js'
import { createOutput } from '../output.js'
import { examples } from '../run.js'

const GRACE_MS = 10_000

// The services are loaded by the commands that need them: the others answer at once.
const server = () => import('../../server/index.js')
const http = () => import('../../http/index.js')
const native = () => import('../../../native/index.js')

interface ConfigFlags {
  readonly site?: string
  readonly config?: string
  readonly listen?: string
  readonly json?: boolean
}

/** `init`, `serve` and `config show`. */
export function addSiteCommands(program: Command): void {
  program
    .command('init <folder>')
    .description('make a new site: configuration, keys, TLS, a first administrator')
    .option('--listen <host:port>', 'where the authority will listen', '127.0.0.1:8440')
    .option('--mode <mode>', 'production, or lab where test anchors are accepted', 'production')
    .addHelpText(
      'after',
      examples(
        'sigillo init /etc/sigillo --listen authority.example:8440',
        'sigillo init ./lab --mode lab && sigillo serve --site ./lab',
      ),
    )
    .action(async (folder: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<ConfigFlags & { mode: string; listen: string }>()
      const mode = modeOf(options.mode)
      const { createSite } = await server()
      const site = await createSite({
        folder,
        listen: options.listen,
        mode,
        nowMs: systemClock.nowMs(),
      })
      createOutput({ json: options.json === true }).data(site, () => [
        `site made in ${folder}`,
        `start it:       sigillo serve --site ${folder}`,
        `administer it:  sigillo --help (with --site ${folder}, or $SIGILLO_SITE)`,
      ])
    })

  withConfig(program.command('serve [services...]'))
    .description(
      'start the authority: all services, or some of attestation, key-provider, control-plane',
    )
    .addHelpText(
      'after',
      examples('sigillo serve --site ./lab', 'sigillo serve attestation --config authority.toml'),
    )
    .action(async (services: readonly string[], _options: unknown, command: Command) => {
      const { hardenProcess, runUntilSignal } = await http()
      hardenProcess()
      const { SERVICES, startAuthority } = await server()
      const { config } = await configOf(command)
      const wanted = services.map((name) => {
        const service = SERVICES.find((known) => known === name)
        if (service) return service
        throw new PlatformError('CONFIG_INVALID', `expected ${SERVICES.join(', ')}, found ${name}`)
      })
      const logger = createLogger({ name: 'sigillo', level: config.logLevel })
      const authority = await startAuthority({
        config,
        services: wanted.length === 0 ? SERVICES : wanted,
        build: buildVersion(),
        clock: systemClock,
        logger,
        openTpm: async (tpm) => (await native()).openTpm(tpm),
      })
      runUntilSignal({ logger, graceMs: GRACE_MS, close: () => authority.close() })
    })

  const config = program.command('config').description('configuration of the authority')
  withConfig(config.command('show'))
    .description('effective settings, and where each came from')
    .addHelpText(
      'after',
      examples('sigillo config show --site ./lab', 'sigillo config show --config a.toml --json'),
    )
    .action(async (_options: unknown, command: Command) => {
      const { settings } = await configOf(command)
      const { json } = command.optsWithGlobals<ConfigFlags>()
      createOutput({ json: json === true }).data(settings, () => settingLines(settings))
    })
}

function withConfig(command: Command): Command {
  return command
    .option('--site <folder>', 'folder that `sigillo init` made (or $SIGILLO_SITE)')
    .option('--config <file>', 'configuration file')
    .option('--listen <host:port>', 'where to listen')
}

async function configOf(command: Command): Promise<LoadedConfig<typeof AuthorityConfig>> {
  const flags = command.optsWithGlobals<ConfigFlags>()
  const env = environment()
  const site = flags.site ?? env['SIGILLO_SITE']
  const { AuthorityConfig: schema } = await server()
  return loadConfig(schema, {
    prefix: 'SIGILLO',
    file: flags.config ?? (site === undefined ? undefined : join(site, 'authority.toml')),
    env,
    flags: { 'server.listen': flags.listen },
  })
}

function modeOf(mode: string): Static<typeof AuthorityConfig>['attestation']['mode'] {
  if (mode === 'production' || mode === 'lab') return mode
  throw new PlatformError('CONFIG_INVALID', `expected production or lab, found ${mode}`)
}
