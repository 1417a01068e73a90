import type { Command } from 'commander'
import {
  type AgentStatus,
  attestNow,
  createEvidence,
  getStatus,
  getToken,
  listHeldKeys,
  listKeys,
  probeKeys,
  rewrapVmKeys,
} from '../../api/host-agent.js'
import { fromHex, toBase64url } from '../../core/bytes.js'
import type { ErrorCode } from '../../core/error-codes.js'
import { PlatformError } from '../../core/errors.js'
import { randomOctets } from '../../core/random.js'
import { fields, table } from '../output.js'
import { examples } from '../run.js'
import { pcrList } from '../values.js'
import { connectAgent, followTask, withSocket } from './connection.js'

const ALL_BOOT_PCRS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14]
const NONCE_OCTETS = 32

/** What the host itself is and proves. */
export function addHostCommands(program: Command): void {
  withSocket(program.command('status'))
    .description('state of the agent and of its attestation')
    .addHelpText('after', examples('sigillo-agent status', 'sigillo-agent status --json'))
    .action(async (_options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const status = await agent.client.call(getStatus, {})
      agent.output.data(status, () => statusLines(status))
    })

  withSocket(program.command('attest'))
    .description('enrol if need be, and attest now')
    .addHelpText('after', examples('sigillo-agent attest', 'sigillo-agent attest --json'))
    .action(async (_options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const status = await agent.client.call(attestNow, { body: {} })
      agent.output.data(status, () => statusLines(status))
      if (status.lastError && status.state !== 'attested') {
        throw new PlatformError(status.lastError.code as ErrorCode, status.lastError.message)
      }
    })

  withSocket(program.command('token'))
    .description('claims of the current token, verified; the token itself is never shown')
    .addHelpText('after', examples('sigillo-agent token', 'sigillo-agent token --json'))
    .action(async (_options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const { claims } = await agent.client.call(getToken, {})
      agent.output.data(claims, () => JSON.stringify(claims, null, 2).split('\n'))
    })

  withSocket(program.command('evidence'))
    .description('a quote of this host with a nonce of yours, for verification elsewhere')
    .option('--nonce <hex>', 'nonce, at most 32 octets (default: random)')
    .option('--pcrs <list>', 'PCRs with commas between', pcrList, ALL_BOOT_PCRS)
    .addHelpText(
      'after',
      examples(
        'sigillo-agent evidence --nonce 00112233 --json > evidence.json',
        'sigillo-agent evidence --pcrs 0,4,7',
      ),
    )
    .action(async (options: { nonce?: string; pcrs: readonly number[] }, command: Command) => {
      const nonce =
        options.nonce === undefined ? randomOctets(NONCE_OCTETS) : fromHex(options.nonce)
      await using agent = connectAgent(command)
      const evidence = await agent.client.call(createEvidence, {
        body: { qualifyingData: toBase64url(nonce), pcrs: [...options.pcrs] },
      })
      agent.output.data(evidence, () =>
        evidence.pcrs.map(({ pcr, digest }) => `PCR ${pcr}: ${digest}`),
      )
    })

  const key = program.command('key').description('keys of this host')
  withSocket(key.command('list'))
    .description('wrapped keys of the VMs of this host')
    .addHelpText('after', examples('sigillo-agent key list', 'sigillo-agent key list --json'))
    .action(async (_options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const { keys } = await agent.client.call(listKeys, {})
      agent.output.data({ keys }, () =>
        table([
          ['VM', 'OBJECT', 'PURPOSE', 'PROVIDER'],
          ...keys.map((k) => [k.vmId, k.object, k.purpose, k.provider]),
        ]),
      )
    })
  withSocket(key.command('rewrap'))
    .description('have the keys of VMs wrapped anew with the newest primary keys; VMs may run')
    .option('--provider <name>', 'only keys of this provider')
    .addHelpText(
      'after',
      examples('sigillo-agent key rewrap', 'sigillo-agent key rewrap --provider gold --json'),
    )
    .action(async ({ provider }: { readonly provider?: string }, command: Command) => {
      await using agent = connectAgent(command)
      const body = provider === undefined ? {} : { provider }
      const task = await followTask(agent, await agent.client.call(rewrapVmKeys, { body }))
      agent.output.data(task, () => ['all keys are wrapped with the newest primary keys'])
    })
  withSocket(key.command('held'))
    .description('keys that the control plane delivered to this host')
    .addHelpText('after', examples('sigillo-agent key held', 'sigillo-agent key held --json'))
    .action(async (_options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const held = await agent.client.call(listHeldKeys, {})
      agent.output.data(held, () => [
        ...table([
          ['PROVIDER', 'KIND', 'WRAPS WITH', 'HELD', 'ON DISK', 'LACKING'],
          ...held.providers.map((p) => [
            p.name,
            p.kind,
            p.current?.toString() ?? '-',
            String(p.versions.length),
            String(p.kept.length),
            p.lacking.join(',') || '-',
          ]),
        ]),
        ...(held.notRestored === undefined
          ? []
          : [`keys on disk not opened: ${held.notRestored.code}: ${held.notRestored.message}`]),
        ...(held.lastError === undefined ? [] : [`last error: ${held.lastError}`]),
      ])
    })
  withSocket(key.command('probe <provider>'))
    .description('have a throw-away key wrapped and unwrapped, and compare')
    .option('--assurance <kind>', 'session or tpm', 'session')
    .addHelpText(
      'after',
      examples('sigillo-agent key probe gold', 'sigillo-agent key probe gold --assurance tpm'),
    )
    .action(
      async (provider: string, options: { assurance: 'session' | 'tpm' }, command: Command) => {
        await using agent = connectAgent(command)
        const { assurance } = options
        const times = await agent.client.call(probeKeys, { body: { provider, assurance } })
        agent.output.data(times, () => [
          `the key came back: wrapped in ${times.wrapMs} ms, unwrapped in ${times.unwrapMs} ms`,
        ])
      },
    )
}

function statusLines(status: AgentStatus): readonly string[] {
  return fields([
    ['host', status.hostId],
    ['state', status.state],
    ['authority', status.authorityUrl],
    ['cluster', status.cluster],
    ['token until', status.tokenExpiresAt],
    ['next attestation', status.nextAttestationAt],
    [
      'attestation took',
      status.lastAttestationMs === undefined ? undefined : `${status.lastAttestationMs} ms`,
    ],
    ['default provider', defaultLine(status)],
    ['binding key', status.bindingKey ? 'in the TPM' : 'none'],
    ['last error', status.lastError && `${status.lastError.message} (${status.lastError.code})`],
  ])
}

function defaultLine({ cluster, defaultProvider }: AgentStatus): string {
  if (!defaultProvider) return 'none'
  const { provider, from } = defaultProvider
  return `${provider}, of ${from === 'site' ? 'the site' : `cluster ${cluster}`}`
}
