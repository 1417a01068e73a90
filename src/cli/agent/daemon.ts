import type { Command } from 'commander'
import { systemClock } from '../../core/clock.js'
import { environment, type LoadedConfig, loadConfig } from '../../core/config.js'
import { createLogger } from '../../core/logger.js'
import { AgentConfig } from '../../host-agent/config.js'
import { settingLines } from '../config-show.js'
import { createOutput } from '../output.js'
import { examples } from '../run.js'

/** Longest that a VM task is waited for when the agent stops. */
const GRACE_MS = 60_000

/** `run` and `config show`. */
export function addDaemonCommands(program: Command): void {
  program
    .command('run')
    .description('start the agent: enrol, attest, serve the socket')
    .requiredOption('--config <file>', 'configuration file')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent run --config /etc/sigillo/agent.toml',
        'SIGILLO_AGENT_LOG_LEVEL=debug sigillo-agent run --config agent.toml',
      ),
    )
    .action(async (_options: unknown, command: Command) => {
      const { hardenProcess, runUntilSignal } = await import('../../http/index.js')
      hardenProcess()
      const { startHostAgent } = await import('../../host-agent/main.js')
      const { config } = configOf(command)
      const logger = createLogger({ name: 'sigillo-agent', level: config.logLevel })
      const agent = await startHostAgent({
        config,
        clock: systemClock,
        random: Math.random,
        logger,
      })
      runUntilSignal({ logger, graceMs: GRACE_MS, close: () => agent.close() })
    })

  const config = program.command('config').description('configuration of the agent')
  config
    .command('show')
    .description('effective settings, and where each came from')
    .requiredOption('--config <file>', 'configuration file')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent config show --config agent.toml',
        'sigillo-agent config show --config agent.toml --json',
      ),
    )
    .action((_options: unknown, command: Command) => {
      const { settings } = configOf(command)
      const { json } = command.optsWithGlobals<{ json?: boolean }>()
      createOutput({ json: json === true }).data(settings, () => settingLines(settings))
    })
}

function configOf(command: Command): LoadedConfig<typeof AgentConfig> {
  const { config } = command.optsWithGlobals<{ readonly config?: string }>()
  return loadConfig(AgentConfig, { prefix: 'SIGILLO_AGENT', file: config, env: environment() })
}
