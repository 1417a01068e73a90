import { type Command, Option } from 'commander'
import type { Static } from 'typebox'
import { getVtpmAuthority } from '../../api/control-plane.js'
import {
  getVtpmRevocationList,
  revokeVtpmCertificate,
  VtpmRevocationReason,
} from '../../api/vtpm-revocations.js'
import { listVtpmCertificates } from '../../api/vtpm-states.js'
import { table } from '../output.js'
import { addOperation } from './command.js'

const REASONS = VtpmRevocationReason.anyOf.map((reason) => reason.const)

/** The authority of virtual TPMs: what it issued, and what it took back. */
export function addVtpmCommands(program: Command): void {
  const vtpm = program
    .command('vtpm')
    .description('virtual TPMs of VMs: their authority, its certificates, what it took back')
  addOperation(vtpm, {
    usage: 'authority',
    operation: getVtpmAuthority,
    input: () => ({}),
    text: ({ pem }) => [pem.trimEnd()],
    examples: ['sigillo vtpm authority > vtpm-ca.pem', 'sigillo vtpm authority --json'],
  })
  addOperation(vtpm, {
    usage: 'crl',
    operation: getVtpmRevocationList,
    input: () => ({}),
    text: ({ pem }) => [pem.trimEnd()],
    examples: ['sigillo vtpm crl > vtpm.crl', 'sigillo vtpm crl --json'],
  })
  addOperation<typeof listVtpmCertificates, { readonly vm?: string; readonly revoked?: true }>(
    vtpm,
    {
      usage: 'certificates',
      operation: listVtpmCertificates,
      list: 'certificates',
      configure: (command) =>
        command
          .option('--vm <id>', 'those of one VM')
          .option('--revoked', 'those that were taken back'),
      input: (_, { vm, revoked }) => ({
        query: { ...(vm === undefined ? {} : { vmId: vm }), ...(revoked ? { revoked } : {}) },
      }),
      text: ({ certificates }) =>
        table([
          ['CERTIFICATE', 'KIND', 'VM', 'HOST', 'ISSUED', 'TAKEN BACK'],
          ...certificates.map(({ fingerprint, kind, vmId, hostId, issuedAt, revocation }) => [
            ...[fingerprint, kind, vmId, hostId, issuedAt],
            revocation ? `${revocation.at} ${revocation.reason}` : 'no',
          ]),
        ]),
      examples: [
        'sigillo vtpm certificates --vm 5f0c8f0a-…',
        'sigillo vtpm certificates --revoked --json',
      ],
    },
  )
  addOperation<
    typeof revokeVtpmCertificate,
    { readonly reason: Static<typeof VtpmRevocationReason> }
  >(vtpm, {
    usage: 'revoke <certificate>',
    operation: revokeVtpmCertificate,
    configure: (command) =>
      command.addOption(
        new Option('--reason <reason>', 'why').choices(REASONS).makeOptionMandatory(),
      ),
    input: ([fingerprint = ''], { reason }) => ({ params: { fingerprint }, body: { reason } }),
    text: ({ revoked }) => revoked.map((fingerprint) => `taken back: ${fingerprint}`),
    destroys: ([fingerprint]) => `certificate ${fingerprint} will never be valid again`,
    examples: [
      'sigillo vtpm revoke 3f0c… --reason superseded --yes',
      'sigillo vtpm revoke 3f0c… --reason key-compromise --yes --json',
    ],
  })
}
