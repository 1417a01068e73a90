import { rm } from 'node:fs/promises'
import { type Static, Type } from 'typebox'
import { Exactly, Time } from '../../api/common.js'
import { LockReason } from '../../api/control-plane.js'
import type { ErrorCode } from '../../core/error-codes.js'
import { isPlatformError, messageOf } from '../../core/errors.js'
import { isErrno } from './errno.js'
import { replacePrivateFile } from './files.js'
import type { VmPaths } from './layout.js'
import { encodeRecord, readRecord } from './records.js'

const FILE = 'lock.json'
const MAX_MESSAGE = 500

/** `lock.json`: why the keys of a VM could not be had when they were wanted last. */
const LockRecord = Exactly({
  format: Type.Literal(1),
  reason: LockReason,
  code: Type.String({ pattern: '^[A-Z][A-Z0-9_]{1,63}$' }),
  message: Type.String({ maxLength: MAX_MESSAGE }),
  since: Time,
})
export type VmLock = Omit<Static<typeof LockRecord>, 'format'>

/** The key is not where it should be. Somebody has to bring it back. */
const MISSING: ReadonlySet<ErrorCode> = new Set([
  'NOT_FOUND',
  'HOST_KEY_ABSENT',
  'KEY_PROVIDER_OTHER',
  'KEY_STATE',
  'KEY_VERSION_UNKNOWN',
  'KMS_KEY_DESTROYED',
  'KMS_KEY_NOT_EXTRACTABLE',
  'KMS_KEY_NOT_FOUND',
  'KMS_KEY_STATE',
])

/** The key may be there; nobody can be asked now, or it cannot be opened now. */
const UNREACHABLE: ReadonlySet<ErrorCode> = new Set([
  'AUTHORITY_UNREACHABLE',
  'HOST_KEY_NOT_FETCHED',
  'KEY_TPM_OTHER',
  'KEY_TPM_PCRS',
  'RATE_LIMITED',
  'SEALED',
  'TPM_UNREACHABLE',
  'UNAVAILABLE',
])

/** The key is there, and this host does not get it. */
const REFUSED: ReadonlySet<ErrorCode> = new Set([
  'AGENT_NOT_ENROLLED',
  'ATTESTATION_REFUSED',
  'FORBIDDEN',
  'HOST_NOT_APPROVED',
  'HOST_REVOKED',
  'HOST_STATUS',
  'HOST_UNKNOWN',
  'KEY_ASSURANCE',
  'KEY_CLUSTER',
  'KEY_HOST_STATUS',
  'KEY_HOURS',
  'KEY_PURPOSE',
  'KEY_STALE_POLICY',
  'KEY_TOKEN_AGE',
  'KEY_VERDICT',
  'TOKEN_REVOKED',
  'UNAUTHENTICATED',
])

/**
 * Why a VM whose keys were not had is locked; undefined for an error that is not about having them, such as a wrapped
 * key that was altered.
 */
export function lockReasonOf(error: unknown): LockReason | undefined {
  if (!isPlatformError(error)) return undefined
  const { code } = error
  if (MISSING.has(code)) return 'missing'
  if (REFUSED.has(code)) return 'refused'
  if (UNREACHABLE.has(code) || code.startsWith('KMS_')) return 'unreachable'
  return undefined
}

/** The lock of a VM, if it has one. What cannot be read is none: the next attempt finds out. */
export async function readLock(paths: VmPaths): Promise<VmLock | undefined> {
  const record = await readRecord(paths.lock, LockRecord, FILE).catch(() => undefined)
  if (!record) return undefined
  const { format: _, ...lock } = record
  return lock
}

/**
 * Notes that the keys of a VM were not had. The time of a lock that there is already stays, if its reason does.
 *
 * @returns whether this is news: there was no lock, or one for another reason
 */
export async function writeLock(
  paths: VmPaths,
  error: unknown,
  reason: LockReason,
  now: string,
): Promise<boolean> {
  const code = isPlatformError(error) ? error.code : 'INTERNAL'
  const before = await readLock(paths)
  if (before?.code === code && before.reason === reason) return false
  const since = before?.reason === reason ? before.since : now
  const message = messageOf(error).slice(0, MAX_MESSAGE)
  const record: Static<typeof LockRecord> = { format: 1, reason, code, message, since }
  await replacePrivateFile(paths.root, FILE, encodeRecord(record))
  return true
}

/** @returns whether there was a lock */
export async function removeLock(paths: VmPaths): Promise<boolean> {
  try {
    await rm(paths.lock)
    return true
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false
    throw error
  }
}
