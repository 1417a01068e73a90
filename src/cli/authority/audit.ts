import type { Command } from 'commander'
import { listAttestationAudit, verifyAttestationAudit } from '../../api/attestation.js'
import { listControlPlaneAudit, verifyControlPlaneAudit } from '../../api/control-plane.js'
import { listKeyProviderAudit, verifyKeyProviderAudit } from '../../api/key-provider.js'
import { listPeopleAudit, verifyPeopleAudit } from '../../api/people.js'
import { findingLine } from '../findings.js'
import { fields, table } from '../output.js'
import { addOperation } from './command.js'

const SERVICES = [
  ['attestation', listAttestationAudit, verifyAttestationAudit],
  ['key-provider', listKeyProviderAudit, verifyKeyProviderAudit],
  ['control-plane', listControlPlaneAudit, verifyControlPlaneAudit],
  ['people', listPeopleAudit, verifyPeopleAudit],
] as const

interface ListOptions {
  readonly subject?: string
}

/** Each service has an audit chain of its own. */
export function addAuditCommands(program: Command): void {
  const audit = program.command('audit').description('audit records of the services')
  for (const [service, list, verify] of SERVICES) {
    const chain = audit.command(service).description(`audit chain of the ${service} service`)
    addOperation<typeof list, ListOptions>(chain, {
      usage: 'list',
      operation: list,
      list: 'records',
      configure: (command) =>
        command.option('--subject <name>', 'only records about it: host:host-a'),
      input: (_, { subject }) => ({ query: subject === undefined ? {} : { subject } }),
      text: ({ records }) =>
        table(
          records.map((r) => [
            String(r.seq),
            r.at,
            r.outcome,
            r.action,
            r.actor,
            r.subject,
            JSON.stringify(r.detail),
          ]),
        ),
      examples: [
        `sigillo audit ${service} list`,
        `sigillo audit ${service} list --subject host:host-a --json`,
      ],
    })
    addOperation(chain, {
      usage: 'verify',
      operation: verify,
      input: () => ({}),
      text: (verdict) => [
        ...fields([
          ['records', String(verdict.records)],
          ['head', verdict.head],
          ['intact', verdict.intact ? 'yes' : 'NO'],
        ]),
        ...verdict.findings.map(findingLine),
      ],
      examples: [`sigillo audit ${service} verify`, `sigillo audit ${service} verify --json`],
    })
  }
}
