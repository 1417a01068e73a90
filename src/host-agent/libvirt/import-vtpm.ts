import { PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import { makePrivateDirectory, readPrivateFile, syncPath, writePrivateFile } from '../vm/files.js'
import type { VmPaths } from '../vm/layout.js'
import { corrupt, readVtpmState, recordVtpmState } from '../vm/vtpm-record.js'
import {
  decryptVtpmState,
  encryptVtpmState,
  isPlainVtpmState,
  MAX_VTPM_STATE_OCTETS,
  parsePlainVtpmState,
  verifyVtpmState,
} from '../vm/vtpm-state.js'
import { swtpmKeyOf } from './vtpm-move.js'

/**
 * Takes the state of the virtual TPM of a domain into a VM that is being made, encrypted under its key. It stays the same
 * TPM: its certificates are those that it had, if any. The file that it is taken from stays as it is.
 *
 * @param passphrase that libvirt gives to swtpm; undefined for a state that is not encrypted
 * @throws PlatformError `VTPM_STATE_…`; `VTPM_STATE_CORRUPT` also for a wrong passphrase
 */
export async function importVtpm(
  file: string,
  passphrase: Secret | undefined,
  paths: VmPaths,
  dek: Secret,
): Promise<void> {
  using plain = await readPlain(file, passphrase)
  await makePrivateDirectory(paths.vtpm)
  await writePrivateFile(paths.vtpmState, encryptVtpmState(plain, dek))
  await syncPath(paths.vtpm)
  const state = await readVtpmState(paths.vtpmState)
  if (!verifyVtpmState(state.parsed, dek)) throw corrupt('does not verify after encryption')
  await recordVtpmState(paths, state, 1)
}

async function readPlain(file: string, passphrase: Secret | undefined): Promise<Secret> {
  if (passphrase) {
    using key = passphrase.use(swtpmKeyOf)
    const { parsed } = await readVtpmState(file)
    if (!verifyVtpmState(parsed, key)) {
      throw corrupt('does not verify under this passphrase: it was altered, or that is another')
    }
    return decryptVtpmState(parsed, key)
  }
  const octets = await readPrivateFile(file, MAX_VTPM_STATE_OCTETS).catch((cause) => {
    throw corrupt('cannot be read', cause)
  })
  if (!octets) throw new PlatformError('VTPM_STATE_MISSING', `expected ${file}`)
  if (!isPlainVtpmState(octets)) {
    throw corrupt('is encrypted: say where its passphrase is (--vtpm-passphrase /file)')
  }
  try {
    return parsePlainVtpmState(octets)
  } catch (cause) {
    throw corrupt('is no state file of swtpm', cause)
  } finally {
    octets.fill(0)
  }
}
