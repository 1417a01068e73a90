import { toHex } from '../src/core/bytes.js'
import { PlatformError } from '../src/core/errors.js'
import { ByteReader, ByteWriter } from '../src/core/reader.js'
import { type BankDigest, HASH_ALGORITHMS } from '../src/tpm/index.js'
import { transmit } from './transmit.js'

// The two commands that the lab gives a TPM by itself. It needs no sessions for them, and so takes none of the three
// slots that the TPM has for its real user.

/** @see TPM 2.0 Library, Part 2, clause 6.9 (TPM_ST) */
const TAGS = { noSessions: 0x8001, sessions: 0x8002 } as const
/** @see TPM 2.0 Library, Part 2, clause 6.5.2 (TPM_CC) */
const COMMANDS = { shutdown: 0x0145, pcrExtend: 0x0182 } as const
/** TPMS_AUTH_COMMAND: TPM_RS_PW, no nonce, no attributes, an empty password. */
const EMPTY_PASSWORD = Uint8Array.of(0x40, 0, 0, 0x09, 0, 0, 0, 0, 0)
/** @see TPM 2.0 Library, Part 2, clause 6.10 (TPM_SU) */
const STARTUP_TYPES = { clear: Uint8Array.of(0, 0), state: Uint8Array.of(0, 1) } as const

/** TPM2_Shutdown, before a reset (`clear`) or a suspend (`state`). @see TPM 2.0 Library, Part 3, clause 9.4 */
export async function shutdown(socket: string, type: keyof typeof STARTUP_TYPES): Promise<void> {
  await execute(socket, TAGS.noSessions, COMMANDS.shutdown, STARTUP_TYPES[type])
}

/** TPM2_PCR_Extend. @see TPM 2.0 Library, Part 3, clause 22.2 */
export async function extendPcr(
  socket: string,
  pcr: number,
  digests: readonly BankDigest[],
): Promise<void> {
  const body = new ByteWriter('big')
    .u32(pcr)
    .u32(EMPTY_PASSWORD.length)
    .put(EMPTY_PASSWORD)
    .u32(digests.length)
  for (const { bank, digest } of digests) body.u16(HASH_ALGORITHMS[bank].id).put(digest)
  await execute(socket, TAGS.sessions, COMMANDS.pcrExtend, body.finish())
}

async function execute(socket: string, tag: number, code: number, body: Uint8Array): Promise<void> {
  const command = new ByteWriter('big')
    .u16(tag)
    .u32(10 + body.length)
    .u32(code)
    .put(body)
    .finish()
  const response = await transmit(socket, command)
  const reader = new ByteReader(response, 'big')
  reader.take(6)
  const responseCode = reader.u32()
  if (responseCode !== 0) {
    throw new PlatformError(
      'TPM_RC',
      `command 0x${code.toString(16)}: 0x${toHex(response.subarray(6, 10))}`,
    )
  }
}
