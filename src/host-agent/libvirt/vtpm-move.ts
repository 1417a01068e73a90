import { pbkdf2Sync } from 'node:crypto'
import { mkdir, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { isPlatformError } from '../../core/errors.js'
import { Secret } from '../../core/secret.js'
import { syncPath } from '../vm/files.js'
import type { VmPaths } from '../vm/layout.js'
import { hexText } from '../vm/programs.js'
import { recryptVtpm } from '../vm/vtpm.js'
import { checkVtpm, isStateError } from '../vm/vtpm-record.js'

const KEY_OCTETS = 32
const ITERATIONS = 1000

/** The state of a virtual TPM where one of two programs keeps it, and the key that it is encrypted under there. */
interface VtpmPlace {
  readonly paths: VmPaths
  readonly key: Secret
}

/**
 * The files of a VM with the state of its virtual TPM where libvirt has it. libvirt 9 has no setting for that place.
 *
 * The record of the state stays in the directory of the VM.
 */
export function pathsInLibvirt(paths: VmPaths, vmId: string, swtpmDirectory: string): VmPaths {
  const vtpm = `${swtpmDirectory}/${vmId}/tpm2`
  return { ...paths, vtpm, vtpmState: `${vtpm}/tpm2-00.permall` }
}

/**
 * The key that swtpm encrypts under when libvirt gives it a passphrase: PBKDF2 with HMAC-SHA-512, salt `swtpm`, 1000
 * rounds, 32 octets. The passphrase is the hexadecimal text of the DEK and has its 256 bits.
 *
 * @see swtpm(8), "--key", `pwdfile`, `kdf=pbkdf2`
 */
export function passphraseKey(dek: Secret): Secret {
  const passphrase = hexText(dek)
  try {
    return swtpmKeyOf(passphrase)
  } finally {
    passphrase.fill(0)
  }
}

/** As `passphraseKey`, of a passphrase of somebody else. */
export function swtpmKeyOf(passphrase: Uint8Array): Secret {
  return new Secret(
    new Uint8Array(pbkdf2Sync(passphrase, 'swtpm', ITERATIONS, KEY_OCTETS, 'sha512')),
  )
}

/**
 * Moves the state of the virtual TPM of a stopped VM from one place to another, encrypted anew; the TPM stays the same.
 *
 * One that was interrupted is done again and ends as one that was not: the record in the directory of the VM says which
 * of two files is the state.
 *
 * @throws PlatformError `VTPM_STATE_…`, `VM_KEY_WRONG`
 */
export async function moveVtpm(from: VtpmPlace, to: VtpmPlace): Promise<void> {
  const problem = await problemOf(from)
  if (problem === undefined) {
    await mkdir(dirname(to.paths.vtpm), { recursive: true, mode: 0o711 })
    await mkdir(to.paths.vtpm, { recursive: true, mode: 0o700 })
    await rm(to.paths.vtpmState, { force: true })
    await recryptVtpm(from.paths, to.paths, { old: from.key, fresh: to.key })
    await syncPath(to.paths.vtpm)
    await syncPath(dirname(to.paths.vtpm))
  } else if ((await problemOf(to)) !== undefined) {
    throw problem
  }
  await rm(from.paths.vtpmState, { force: true })
}

async function problemOf({ paths, key }: VtpmPlace): Promise<unknown> {
  try {
    await checkVtpm(paths, key)
    return undefined
  } catch (error) {
    if (isStateError(error) || isPlatformError(error, 'VTPM_STATE_ROLLBACK')) return error
    throw error
  }
}
