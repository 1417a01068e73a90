import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { Exactly, Name, Octets } from '../../api/common.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { replaceFile } from './replace-file.js'

/**
 * What the agent keeps between runs: the attestation key as its TPM wraps it, and who it was enrolled as.
 *
 * Nothing here is secret: the key opens in its own TPM alone.
 */
export const AgentStateFile = Exactly({
  version: Type.Literal(1),
  attestationKey: Exactly({
    kind: Type.String(),
    publicBlob: Octets(2048, 'TPM2B_PUBLIC'),
    privateBlob: Octets(2048, 'TPM2B_PRIVATE'),
  }),
  enrolled: Type.Optional(Exactly({ hostId: Name, cluster: Name, authorityUrl: Type.String() })),
})
export type AgentStateFile = Static<typeof AgentStateFile>

const FILE = 'agent.json'

/** The kept state, or nothing on a first start; throws `AGENT_STATE` where it cannot be read. */
export function readState(directory: string): AgentStateFile | undefined {
  let text: string
  try {
    text = readFileSync(join(directory, FILE), 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw unreadable(directory, cause)
  }
  try {
    return Value.Parse(AgentStateFile, JSON.parse(text))
  } catch (cause) {
    throw unreadable(directory, cause)
  }
}

/** Replaces the state in one step: after a crash the old or the new one is there. */
export function writeState(directory: string, state: AgentStateFile): void {
  replaceFile(directory, FILE, JSON.stringify(state))
}

function unreadable(directory: string, cause: unknown): PlatformError {
  const message = `cannot read ${join(directory, FILE)}: ${messageOf(cause)}`
  return new PlatformError('AGENT_STATE', message, { cause })
}
