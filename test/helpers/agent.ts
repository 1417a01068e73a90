import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LabTpm } from '../../swtpm/index.js'
import { GOOD_BOOT } from './host.js'
import type { TestSite } from './site.js'

/** Where an agent is, and who it is. */
export interface AgentPlace {
  readonly name: string
  /** For everything that it keeps. */
  readonly folder: string
  readonly tpm: LabTpm
}

/** Makes the folder of an agent, with what it finds there: the log of a good boot, and a ticket. */
export function makeAgentFolder(folder: string, ticket: string): void {
  mkdirSync(folder)
  writeFileSync(join(folder, 'log'), GOOD_BOOT)
  writeFileSync(join(folder, 'ticket'), ticket, { mode: 0o600 })
}

/** Settings of an agent over a software TPM, as environment variables. */
export function agentSettings(
  site: TestSite,
  { name, folder, tpm }: AgentPlace,
): Readonly<Record<string, string>> {
  return {
    SIGILLO_AGENT_HOST_ID: name,
    SIGILLO_AGENT_STATE_DIRECTORY: join(folder, 'state'),
    SIGILLO_AGENT_SOCKET: join(folder, 'sock'),
    SIGILLO_AGENT_AUTHORITY_URL: site.url,
    SIGILLO_AGENT_AUTHORITY_CA_FILE: site.caFile,
    SIGILLO_AGENT_AUTHORITY_TICKET_FILE: join(folder, 'ticket'),
    SIGILLO_AGENT_TPM_TCTI: tpm.tcti,
    SIGILLO_AGENT_TPM_EVENT_LOG_FILE: join(folder, 'log'),
    SIGILLO_AGENT_VM_DIRECTORY: join(folder, 'vms'),
  }
}
