import { PlatformError } from '../../core/errors.js'
import type { StoredEncryption, StoredHost } from '../inventory-ports.js'

/**
 * Whether a host is ready for encrypted VMs.
 *
 * - `incapable`: it is not safe for keys, since it is not attested, or since encryption was turned off.
 * - `prepared`: it may get keys, and has no encrypted VM yet. The first one makes it `safe`.
 * - `safe`: it has encrypted VMs, or encryption was turned on.
 * - `pending-incapable`: encryption was turned off while it was safe. It gets no keys any more; what it had may be in its
 *   memory until it is rebooted, which its TPM proves.
 *
 * @see vSphere Web Services API, HostSystem.CryptoState; CryptoManagerHostPrepare, …Enable, …Disable
 */
export type EncryptionMode = 'incapable' | 'prepared' | 'safe' | 'pending-incapable'

/** What a mode follows from. */
export type EncryptionFacts = Pick<StoredHost, 'attestation' | 'resetCount' | 'encryption'>

/** The mode of a host, and why, where that is not plain. */
export function modeOf({ attestation, resetCount, encryption }: EncryptionFacts): {
  readonly mode: EncryptionMode
  readonly reason?: string
} {
  const { setting, offAtReset } = encryption
  if (setting === 'off') {
    return offAtReset !== undefined && offAtReset === resetCount
      ? { mode: 'pending-incapable', reason: 'turned off; reboot the host' }
      : { mode: 'incapable', reason: 'turned off' }
  }
  if (attestation !== 'trusted') {
    return { mode: 'incapable', reason: `the attestation of the host is ${attestation}` }
  }
  return { mode: setting === 'on' ? 'safe' : 'prepared' }
}

/** Whether keys are withheld from a host, whatever its attestation says. */
export function isOff({ setting }: StoredEncryption): boolean {
  return setting === 'off'
}

/**
 * What an administrator makes of a host.
 *
 * @param encryptedVms how many of its VMs are encrypted
 * @throws PlatformError `HOST_ENCRYPTION_IN_USE` where it is turned off, or made to wait for the first encrypted VM, while it
 *   has such VMs; `HOST_ENCRYPTION_PENDING` before the reboot that turning off needs; `HOST_ENCRYPTION_INCAPABLE` where it is
 *   turned on and not attested; `CONFLICT` where it is as wanted
 */
export function setEncryption(
  facts: EncryptionFacts,
  wanted: StoredEncryption['setting'],
  encryptedVms: number,
): StoredEncryption {
  const { mode } = modeOf(facts)
  const before = facts.encryption.setting
  if (before === wanted) {
    throw new PlatformError('CONFLICT', `expected another setting than ${wanted}, found ${before}`)
  }
  if (mode === 'pending-incapable') {
    const expected = 'expected a host that was rebooted after encryption was turned off, found none'
    throw new PlatformError('HOST_ENCRYPTION_PENDING', expected)
  }
  if (wanted === 'on') {
    if (facts.attestation === 'trusted') return { setting: 'on' }
    const expected = `expected a host that is trusted, found ${facts.attestation}`
    throw new PlatformError('HOST_ENCRYPTION_INCAPABLE', expected)
  }
  if (encryptedVms > 0) {
    const expected = `expected no encrypted VM on the host, found ${encryptedVms}`
    throw new PlatformError('HOST_ENCRYPTION_IN_USE', expected)
  }
  if (wanted === 'on-demand') return { setting: 'on-demand' }
  const { resetCount } = facts
  return before === 'on' && resetCount !== undefined
    ? { setting: 'off', offAtReset: resetCount }
    : { setting: 'off' }
}

/** A host has an encrypted VM: where nothing else was said, its encryption is on from now on. */
export function afterEncryptedVm(encryption: StoredEncryption): StoredEncryption {
  return encryption.setting === 'on-demand' ? { setting: 'on' } : encryption
}
