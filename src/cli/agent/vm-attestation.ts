import type { Command } from 'commander'
import { getVmAttestation } from '../../api/guest-channel.js'
import { fields } from '../output.js'
import { EXIT_REFUSED, examples } from '../run.js'
import { connectAgent, withSocket } from './connection.js'

/** Whether the guests of VMs attest. */
export function addAttestationCommand(vm: Command): void {
  withSocket(vm.command('attestation <vm>'))
    .description('whether the guest of a VM attests, and how the last time went')
    .addHelpText(
      'after',
      `\nExit status: 0 accepted, 3 refused or never attested.\n${examples(
        'sigillo-agent vm attestation web1',
        'sigillo-agent vm attestation web1 --json',
      )}`,
    )
    .action(async (name: string, _: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const answer = await agent.client.call(getVmAttestation, { params: { vm: name } })
      const { vmId, connected, last } = answer
      agent.output.data(answer, () =>
        fields([
          ['VM', vmId],
          ['port', connected ? 'open' : 'closed'],
          ['last', last ? `${last.accepted ? 'accepted' : 'refused'} at ${last.at}` : 'never'],
          ['token ends', last?.expiresAt],
          ['why', last?.code === undefined ? undefined : `${last.code}: ${last.message ?? ''}`],
        ]),
      )
      if (!last?.accepted) process.exitCode = EXIT_REFUSED
    })
}
