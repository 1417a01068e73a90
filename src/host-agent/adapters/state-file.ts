import {
  chmodSync,
  closeSync,
  constants,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { Exactly, Name, Octets } from '../../api/common.js'
import { messageOf, PlatformError } from '../../core/errors.js'

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
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  chmodSync(directory, 0o700)
  const path = join(directory, FILE)
  const temporary = `${path}.new`
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants
  const descriptor = openSync(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600)
  try {
    writeSync(descriptor, JSON.stringify(state))
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
  renameSync(temporary, path)
  const folder = openSync(dirname(path), constants.O_RDONLY)
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}

function unreadable(directory: string, cause: unknown): PlatformError {
  const message = `cannot read ${join(directory, FILE)}: ${messageOf(cause)}`
  return new PlatformError('AGENT_STATE', message, { cause })
}
