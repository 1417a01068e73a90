import { createHash } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { toHex } from '../../core/bytes.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import { isErrno } from './errno.js'
import { readPrivateFile, replacePrivateFile, syncPath } from './files.js'
import type { VmPaths } from './layout.js'
import { encodeRecord, readRecord, VtpmRecord } from './records.js'
import {
  isPlainVtpmState,
  MAX_VTPM_STATE_OCTETS,
  parseVtpmState,
  type VtpmState,
  verifyVtpmState,
} from './vtpm-state.js'

/** A state file of swtpm. Untrusted until it verified under its key. */
export interface VtpmStateFile {
  readonly octets: Uint8Array
  readonly parsed: VtpmState
  /** SHA-256 of the file, in hexadecimal. */
  readonly digest: string
}

/**
 * How the state of a virtual TPM stands to its record: it is the one that was recorded; it is what a run left whose end
 * nobody saw; or it is another one, though nothing ran since.
 */
export type RecordStanding = 'recorded' | 'unrecorded' | 'other'

/**
 * Reads a state file. That it was written under its key has still to be verified.
 *
 * @throws PlatformError `VTPM_STATE_MISSING`; `VTPM_STATE_TRUNCATED`, also when it is empty; `VTPM_STATE_PLAIN`;
 *   `VTPM_STATE_CORRUPT` for anything else that is no state file
 */
export async function readVtpmState(path: string): Promise<VtpmStateFile> {
  const octets = await readPrivateFile(path, MAX_VTPM_STATE_OCTETS).catch((cause) => {
    throw corrupt(`cannot be read: ${messageOf(cause)}`, cause)
  })
  if (octets === undefined) throw new PlatformError('VTPM_STATE_MISSING', `expected ${path}`)
  if (isPlainVtpmState(octets)) {
    throw new PlatformError('VTPM_STATE_PLAIN', 'the state of the virtual TPM is not encrypted')
  }
  try {
    const digest = toHex(createHash('sha256').update(octets).digest())
    return { octets, parsed: parseVtpmState(octets), digest }
  } catch (cause) {
    if (!isPlatformError(cause, 'DECODE_TRUNCATED')) throw corrupt(messageOf(cause), cause)
    const message = `the state of the virtual TPM ends after ${octets.length} octets: ${messageOf(cause)}`
    throw new PlatformError('VTPM_STATE_TRUNCATED', message, { cause })
  }
}

/**
 * The state of the virtual TPM of a stopped VM, which was written under this key, and how it stands to its record.
 *
 * @throws PlatformError as `readVtpmState`; `VM_KEY_WRONG` when the file is the one that was recorded and the key another;
 *   `VTPM_STATE_CORRUPT` when it was altered, or is the state of another VM
 */
export async function openVtpmState(
  paths: VmPaths,
  dek: Secret,
): Promise<{
  readonly file: VtpmStateFile
  readonly record: VtpmRecord
  readonly standing: RecordStanding
}> {
  const record = await readVtpmRecord(paths)
  const file = await readVtpmState(paths.vtpmState)
  const isRecorded = file.digest === record.digest
  if (!verifyVtpmState(file.parsed, dek)) {
    if (isRecorded) {
      throw new PlatformError('VM_KEY_WRONG', 'the unwrapped key is not that of the virtual TPM')
    }
    throw corrupt('does not verify under its key: it was altered, or is of another VM')
  }
  const standing = isRecorded ? 'recorded' : record.state === 'running' ? 'unrecorded' : 'other'
  return { file, record, standing }
}

/**
 * Checks before the state is used that it is there (swtpm would make a new TPM without a word), that it was written under
 * the key, and that it is the one of the record. What a run left whose end nobody saw passes.
 *
 * @throws PlatformError as `openVtpmState`; `VTPM_STATE_ROLLBACK`
 */
export async function checkVtpm(paths: VmPaths, dek: Secret): Promise<VtpmStateFile> {
  const { file, record, standing } = await openVtpmState(paths, dek)
  if (standing === 'other') {
    throw new PlatformError(
      'VTPM_STATE_ROLLBACK',
      `expected the state of generation ${record.generation} with SHA-256 ${record.digest}, found ${file.digest}`,
    )
  }
  return file
}

export function readVtpmRecord(paths: VmPaths): Promise<VtpmRecord> {
  return readRecord(paths.vtpmRecord, VtpmRecord, 'vtpm.json')
}

/** Records a state as the one to start from, with a copy of it: the copy is on the disk before the record. */
export async function recordVtpmState(
  paths: VmPaths,
  file: Pick<VtpmStateFile, 'octets' | 'digest'>,
  generation: number,
): Promise<void> {
  await replacePrivateFile(paths.root, 'vtpm-backup.permall', file.octets)
  await writeVtpmRecord(paths, { state: 'stopped', generation, digest: file.digest })
}

/**
 * Records the state in staged files as the one to start from, with a generation after that of the VM: an older state that
 * comes back on purpose. The witness still has to be told.
 *
 * @throws PlatformError as `readVtpmState`; `VTPM_STATE_CORRUPT` for one that was not written under this key
 */
export async function stageVtpmRecord(paths: VmPaths, staged: VmPaths, dek: Secret): Promise<void> {
  const file = await readVtpmState(staged.vtpmState)
  if (!verifyVtpmState(file.parsed, dek)) throw corrupt('does not verify under its key')
  const { generation } = await readVtpmRecord(paths)
  await recordVtpmState(staged, file, generation + 1)
}

/** From now on the recorded digest does not bind: swtpm writes the state as it likes. */
export async function markVtpmRunning(paths: VmPaths): Promise<void> {
  const record = await readVtpmRecord(paths)
  await writeVtpmRecord(paths, { ...record, state: 'running' })
}

/**
 * Brings the state to the disk (swtpm does not) and, when this process saw the end of the run, records it as the one to
 * start from. After a run whose end nobody saw, the next start judges what is there.
 *
 * Nothing is recorded when the VM was not marked as running, or when the state is missing or cannot be read: the next
 * start says so.
 */
export async function markVtpmStopped(paths: VmPaths, wasSeen: boolean): Promise<void> {
  const record = await readVtpmRecord(paths)
  if (record.state === 'stopped') return
  // of a write that swtpm did not complete
  await rm(`${paths.vtpm}/TMP2-00.permall`, { force: true })
  try {
    await syncPath(paths.vtpmState)
    await syncPath(paths.vtpm)
    if (!wasSeen) return
    await recordVtpmState(paths, await readVtpmState(paths.vtpmState), record.generation + 1)
  } catch (error) {
    if (!isStateError(error)) throw error
  }
}

function writeVtpmRecord(paths: VmPaths, record: Omit<VtpmRecord, 'format'>): Promise<void> {
  const content: VtpmRecord = { format: 1, ...record }
  return replacePrivateFile(paths.root, 'vtpm.json', encodeRecord(content))
}

/** Whether the state is not there, or not one that could be used. */
export function isStateError(error: unknown): boolean {
  return (
    isPlatformError(error, 'VTPM_STATE_CORRUPT') ||
    isPlatformError(error, 'VTPM_STATE_TRUNCATED') ||
    isPlatformError(error, 'VTPM_STATE_PLAIN') ||
    isPlatformError(error, 'VTPM_STATE_MISSING') ||
    isErrno(error, 'ENOENT')
  )
}

export function corrupt(what: string, cause?: unknown): PlatformError {
  return new PlatformError('VTPM_STATE_CORRUPT', `the state of the virtual TPM ${what}`, { cause })
}
