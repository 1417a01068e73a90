import { concat } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { ByteReader, ByteWriter } from '../../core/reader.js'
import { describeResponseCode, parseTpm2bPublic, publicKeyOf } from '../../tpm/index.js'
import type { VtpmSession } from './vtpm-session.js'

// The few commands that change certificates in a virtual TPM, authorised by the platform: an empty password, since the
// firmware of the VM, which sets another one, has not run.

/** @see TPM 2.0 Library, Part 2, clause 6.9 (TPM_ST) */
const TAGS = { noSessions: 0x8001, sessions: 0x8002 } as const
/** @see TPM 2.0 Library, Part 2, clause 6.5.2 (TPM_CC) */
const COMMANDS = {
  nvUndefineSpace: 0x0122,
  nvDefineSpace: 0x012a,
  nvWrite: 0x0137,
  nvWriteLock: 0x0138,
  shutdown: 0x0145,
  nvRead: 0x014e,
  nvReadPublic: 0x0169,
  readPublic: 0x0173,
} as const
const RH_PLATFORM = 0x4000_000c
/** TPMS_AUTH_COMMAND: TPM_RS_PW, no nonce, no attributes, an empty password. */
const EMPTY_PASSWORD = Uint8Array.of(0x40, 0, 0, 0x09, 0, 0, 0, 0, 0)
const HEADER_OCTETS = 10
/** Every TPM takes as much at once. */
const CHUNK_OCTETS = 512
/** What the TPM sets of the attributes of an index, and a definition must not. @see Part 2, clause 13.4 (TPMA_NV) */
const STATE_BITS = (1 << 11) | (1 << 28) | (1 << 29)

/** SubjectPublicKeyInfo (DER) of a persistent key. @throws PlatformError `VTPM_CERTIFICATE` where there is none */
export async function readPersistentKey(session: VtpmSession, handle: number): Promise<Uint8Array> {
  const body = new ByteWriter('big').u32(handle).finish()
  const { code, octets } = await send(session, TAGS.noSessions, COMMANDS.readPublic, body)
  if (code !== 0) {
    const found = describeResponseCode(code)
    const message = `expected a key at 0x${handle.toString(16)} in the virtual TPM, found ${found}`
    throw new PlatformError('VTPM_CERTIFICATE', message)
  }
  const reader = new ByteReader(octets, 'big')
  const size = reader.peek(2)
  const area = parseTpm2bPublic(reader.take(2 + new ByteReader(size, 'big').u16()))
  return new Uint8Array(publicKeyOf(area).export({ type: 'spki', format: 'der' }))
}

/**
 * Replaces the contents of an index that the platform made and locked: the index is defined anew with the attributes that it
 * has, written, read back and locked.
 *
 * @throws PlatformError `VTPM_CERTIFICATE`; the state that swtpm wrote is then of no use
 */
export async function replaceNvIndex(
  session: VtpmSession,
  index: number,
  contents: Uint8Array,
): Promise<void> {
  const handles = new ByteWriter('big').u32(RH_PLATFORM).u32(index).finish()
  const execute = async (command: keyof typeof COMMANDS, handle: Uint8Array, rest: Uint8Array) => {
    const body = concat(handle, authorisation(), rest)
    const { code, octets } = await send(session, TAGS.sessions, COMMANDS[command], body)
    if (code === 0) return octets
    const where = `index 0x${index.toString(16)}`
    throw new PlatformError(
      'VTPM_CERTIFICATE',
      `${command}: ${describeResponseCode(code)}, ${where}`,
    )
  }
  const nothing = new Uint8Array()
  const before = await readNvPublic(session, index)
  await execute('nvUndefineSpace', handles, nothing)
  const nvPublic = new ByteWriter('big')
    .u32(index)
    .u16(before.nameAlgorithm)
    .u32((before.attributes & ~STATE_BITS) >>> 0)
    .u16(before.policy.length)
    .put(before.policy)
    .u16(contents.length)
    .finish()
  await execute(
    'nvDefineSpace',
    new ByteWriter('big').u32(RH_PLATFORM).finish(),
    new ByteWriter('big').u16(0).u16(nvPublic.length).put(nvPublic).finish(),
  )
  for (let offset = 0; offset < contents.length; offset += CHUNK_OCTETS) {
    const chunk = contents.subarray(offset, offset + CHUNK_OCTETS)
    const data = new ByteWriter('big').u16(chunk.length).put(chunk).u16(offset).finish()
    await execute('nvWrite', handles, data)
  }
  await execute('nvWriteLock', handles, nothing)
}

/**
 * TPM2_Shutdown(CLEAR): without it the next start would count as an attack on authorisation values.
 *
 * @throws PlatformError `VTPM_CERTIFICATE`
 */
export async function shutDown(session: VtpmSession): Promise<void> {
  const clear = Uint8Array.of(0, 0)
  const { code } = await send(session, TAGS.noSessions, COMMANDS.shutdown, clear)
  if (code !== 0) {
    throw new PlatformError('VTPM_CERTIFICATE', `shutdown: ${describeResponseCode(code)}`)
  }
}

async function readNvPublic(
  session: VtpmSession,
  index: number,
): Promise<{
  readonly nameAlgorithm: number
  readonly attributes: number
  readonly policy: Uint8Array
}> {
  const body = new ByteWriter('big').u32(index).finish()
  const { code, octets } = await send(session, TAGS.noSessions, COMMANDS.nvReadPublic, body)
  if (code !== 0) {
    const found = describeResponseCode(code)
    const message = `expected a certificate at 0x${index.toString(16)} in the virtual TPM, found ${found}`
    throw new PlatformError('VTPM_CERTIFICATE', message)
  }
  const reader = new ByteReader(octets, 'big')
  // size of the TPMS_NV_PUBLIC, nvIndex
  reader.take(2 + 4)
  const nameAlgorithm = reader.u16()
  const attributes = reader.u32()
  return { nameAlgorithm, attributes, policy: reader.take(reader.u16()) }
}

function authorisation(): Uint8Array {
  return new ByteWriter('big').u32(EMPTY_PASSWORD.length).put(EMPTY_PASSWORD).finish()
}

/** @returns response code, and the octets behind the header */
async function send(
  session: VtpmSession,
  tag: number,
  code: number,
  body: Uint8Array,
): Promise<{ readonly code: number; readonly octets: Uint8Array }> {
  const size = HEADER_OCTETS + body.length
  const command = new ByteWriter('big').u16(tag).u32(size).u32(code).put(body).finish()
  const reader = new ByteReader(await session.transmit(command), 'big')
  reader.take(6)
  return { code: reader.u32(), octets: reader.rest() }
}
