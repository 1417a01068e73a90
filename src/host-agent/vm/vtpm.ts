import { createHash, X509Certificate } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { timingSafeEqual, view } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import { parseCertificates, spkiOf } from '../../pki/index.js'
import { makePrivateDirectory, readPrivateFile, syncPath, writePrivateFile } from './files.js'
import type { VmPaths } from './layout.js'
import type { VtpmCertifier } from './ports.js'
import { type Programs, runChecked } from './programs.js'
import type { Slots } from './slots.js'
import { openCertificateJob, type VtpmCertificateName } from './vtpm-certificates.js'
import {
  checkVtpm,
  corrupt,
  readVtpmRecord,
  readVtpmState,
  recordVtpmState,
} from './vtpm-record.js'
import {
  decryptVtpmState,
  encryptVtpmState,
  type VtpmState,
  verifyVtpmState,
} from './vtpm-state.js'

const SETUP_TIMEOUT_MS = 120_000
const CERTIFICATE_NAMES: readonly VtpmCertificateName[] = ['ek-rsa', 'ek-ec', 'platform']
const MAX_PEM_OCTETS = 16 * 1024

/**
 * Manufactures the vTPM of a VM: endorsement keys (RSA-2048 and P-384), certificates for them by the certifier, NV
 * memory locked, PCR bank SHA-256, state encrypted under the DEK. Then checks all of that with eyes of our own.
 *
 * @throws PlatformError of the certifier; `VTPM_CERTIFICATE`; `VTPM_STATE_CORRUPT`; `VM_PROCESS`; `VM_DISK_FULL`
 */
export async function makeVtpm(options: {
  readonly programs: Programs
  /** Of the VM; its `vtpm` is there already, and empty. */
  readonly paths: VmPaths
  /** For files of the manufacture: not there yet, and gone afterwards. It must allow the execution of files. */
  readonly jobDirectory: string
  readonly vmId: string
  readonly dek: Secret
  readonly certifier: VtpmCertifier
  /** Waited for: making keys and waiting for swtpm_setup by too many at once helps nobody. */
  readonly slots: Slots
  readonly now: () => number
}): Promise<void> {
  const { programs, paths, jobDirectory: directory, vmId, dek, certifier, now } = options
  await makePrivateDirectory(directory)
  const issued = await options.slots.run(async () => {
    await using job = await openCertificateJob({ directory, vmId, certifier, now })
    await writePrivateFile(
      `${directory}/setup.conf`,
      `create_certs_tool = ${job.tool}\ncreate_certs_tool_config = /dev/null\n` +
        'create_certs_tool_options = /dev/null\nactive_pcr_banks = sha256\n',
    )
    try {
      await runChecked(programs.swtpmSetup, setupArguments(paths, directory, vmId), {
        key: dek,
        keyAt: 'descriptor-3',
        timeoutMs: SETUP_TIMEOUT_MS,
        temporaryDirectory: directory,
      })
    } catch (error) {
      throw job.failure ?? error
    }
    return job.issued
  })
  await rm(directory, { recursive: true })

  const state = await readVtpmState(paths.vtpmState)
  if (!verifyVtpmState(state.parsed, dek)) throw corrupt('does not verify after manufacture')
  const missing = CERTIFICATE_NAMES.find((name) => !issued.has(name))
  if (missing) throw new PlatformError('VTPM_CERTIFICATE', `no certificate ${missing} was issued`)
  requireCertificatesInside(state.parsed, dek, issued)
  await makePrivateDirectory(paths.vtpmCertificates)
  for (const [name, der] of issued) {
    await writePrivateFile(
      `${paths.vtpmCertificates}/${name}.pem`,
      new X509Certificate(der).toString(),
    )
  }
  for (const path of [paths.vtpmState, paths.vtpmCertificates, paths.vtpm]) await syncPath(path)
  await recordVtpmState(paths, state, 1)
}

/**
 * Encrypts the state of the vTPM of a stopped VM anew, into files beside it. The TPM stays the same.
 *
 * @throws PlatformError as `checkVtpm`
 */
export async function recryptVtpm(
  paths: VmPaths,
  staged: VmPaths,
  keys: { readonly old: Secret; readonly fresh: Secret },
): Promise<void> {
  const { parsed } = await checkVtpm(paths, keys.old)
  using plain = decryptVtpmState(parsed, keys.old)
  await writePrivateFile(staged.vtpmState, encryptVtpmState(plain, keys.fresh))
  const fresh = await readVtpmState(staged.vtpmState)
  using back = decryptVtpmState(fresh.parsed, keys.fresh)
  const isSame = plain.use((one) => back.use((other) => timingSafeEqual(one, other)))
  if (!verifyVtpmState(fresh.parsed, keys.fresh) || !isSame) {
    throw corrupt('is another after encryption')
  }
  const { generation } = await readVtpmRecord(paths)
  await recordVtpmState(staged, fresh, generation + 1)
}

/**
 * Copies the vTPM of a stopped VM into a VM that is being made, under another key. Both are then the same TPM, with the
 * same secrets and certificates, which name the first VM.
 *
 * @throws PlatformError as `checkVtpm`
 */
export async function copyVtpm(
  paths: VmPaths,
  copy: VmPaths,
  keys: { readonly old: Secret; readonly fresh: Secret },
): Promise<void> {
  await makePrivateDirectory(copy.vtpm)
  await recryptVtpm(paths, copy, keys)
  await makePrivateDirectory(copy.vtpmCertificates)
  for (const name of CERTIFICATE_NAMES) {
    const pem = await readPrivateFile(`${paths.vtpmCertificates}/${name}.pem`, MAX_PEM_OCTETS)
    if (pem) await writePrivateFile(`${copy.vtpmCertificates}/${name}.pem`, pem)
  }
  for (const path of [copy.vtpmCertificates, copy.vtpm]) await syncPath(path)
}

/** Certificates of the vTPM, PEM: RSA endorsement key, P-384 endorsement key, platform. */
export async function readVtpmCertificates(paths: VmPaths): Promise<readonly string[]> {
  const certificates: string[] = []
  for (const name of CERTIFICATE_NAMES) {
    const file = `${paths.vtpmCertificates}/${name}.pem`
    const pem = await readPrivateFile(file, MAX_PEM_OCTETS)
    if (pem) certificates.push(view(pem).toString('latin1'))
  }
  return certificates
}

/**
 * What the inventory is told of a vTPM: digests of its keys and certificates. Nothing where not all of the certificates are
 * there: who is told of some would take the others back.
 *
 * @throws PlatformError `CERT_…` where one cannot be read
 */
export async function vtpmIdentityOf(
  paths: VmPaths,
): Promise<{ readonly keys: string[]; readonly certificates: string[] } | undefined> {
  const all = (await readVtpmCertificates(paths)).flatMap((pem) => parseCertificates(pem))
  if (all.length !== CERTIFICATE_NAMES.length) return undefined
  const keys = all.map(({ publicKey }) =>
    createHash('sha256').update(spkiOf(publicKey)).digest('hex'),
  )
  return {
    keys: [...new Set(keys)],
    certificates: all.map(({ fingerprint }) => fingerprint),
  }
}

function setupArguments(paths: VmPaths, directory: string, vmId: string): readonly string[] {
  return [
    ...['--tpm2', '--tpmstate', paths.vtpm, '--config', `${directory}/setup.conf`],
    ...['--create-ek-cert', '--create-platform-cert', '--lock-nvram', '--vmid', vmId],
    ...['--pcr-banks', 'sha256', '--keyfile-fd', '3', '--cipher', 'aes-256-cbc'],
  ]
}

/**
 * NV memory has exactly these certificates: they are in the plain state as they are.
 *
 * @throws PlatformError `VTPM_CERTIFICATE`
 */
export function requireCertificatesInside(
  state: VtpmState,
  dek: Secret,
  certificates: ReadonlyMap<VtpmCertificateName, Uint8Array>,
): void {
  using plain = decryptVtpmState(state, dek)
  for (const [name, der] of certificates) {
    if (!plain.use((octets) => view(octets).includes(view(der)))) {
      throw new PlatformError('VTPM_CERTIFICATE', `the virtual TPM has no certificate ${name}`)
    }
  }
}
