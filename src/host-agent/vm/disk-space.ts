import { statfs } from 'node:fs/promises'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import { isErrno } from './errno.js'

/** With less room than this left, whatever failed is taken to have failed for that. */
const FULL_OCTETS = 64 * 1024

/** @throws PlatformError `VM_DISK_FULL` when the file system of the directory has less room than needed */
export async function requireSpace(directory: string, neededOctets: number): Promise<void> {
  const available = await availableOctets(directory)
  if (available < neededOctets) {
    throw new PlatformError(
      'VM_DISK_FULL',
      `expected ${neededOctets} free octets in ${directory}, found ${available}`,
    )
  }
}

/**
 * The error to give for one that was met: `VM_DISK_FULL` where a full disk was the reason, which programs do not always
 * say. To be asked before anything is cleaned up.
 */
export async function explainFull(directory: string, error: unknown): Promise<unknown> {
  if (!(await isFull(directory, error))) return error
  const message = `the disk is full: ${messageOf(error)}`
  return new PlatformError('VM_DISK_FULL', message, { cause: error })
}

async function isFull(directory: string, error: unknown): Promise<boolean> {
  if (isPlatformError(error, 'VM_DISK_FULL')) return false
  if (isErrno(error, 'ENOSPC', 'EDQUOT')) return true
  return isPlatformError(error, 'VM_PROCESS') && (await availableOctets(directory)) < FULL_OCTETS
}

async function availableOctets(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory)
  return bavail * bsize
}
