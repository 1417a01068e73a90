import { X509Certificate } from 'node:crypto'
import { Type } from 'typebox'
import { utf8 } from '../../core/bytes.js'
import type { Secret } from '../../core/secret.js'
import type { CertifiedTpm } from '../../pki/index.js'
import { makePrivateDirectory, syncPath, writePrivateFile } from './files.js'
import type { VmPaths } from './layout.js'
import type { Programs } from './programs.js'
import { parseRecord } from './records.js'
import { requireCertificatesInside } from './vtpm.js'
import type { VtpmCertificateName } from './vtpm-certificates.js'
import { readPersistentKey, replaceNvIndex, shutDown } from './vtpm-commands.js'
import {
  checkVtpm,
  corrupt,
  readVtpmRecord,
  readVtpmState,
  recordVtpmState,
} from './vtpm-record.js'
import { type VtpmSession, withVtpm } from './vtpm-session.js'
import { verifyVtpmState } from './vtpm-state.js'

/** Where certificates are in NV memory. @see TCG EK Credential Profile 2.x, clause 2.2.1 (low and high range); swtpm_setup(8) */
const NV_INDEXES: Readonly<Record<VtpmCertificateName, number>> = {
  'ek-rsa': 0x01c0_0002,
  'ek-ec': 0x01c0_0016,
  platform: 0x01c0_8000,
}

/** Persistent handles of the endorsement keys, as swtpm_setup makes them. */
const KEY_HANDLES = { 'ek-rsa': 0x8101_0001, 'ek-ec': 0x8101_0016 } as const

/** As swtpm describes itself, for certificates. */
const TpmInformation = Type.Object({
  TPMSpecification: Type.Object({
    family: Type.String({ pattern: '^[0-9.]{1,16}$' }),
    level: Type.Integer({ minimum: 0, maximum: 65_535 }),
    revision: Type.Integer({ minimum: 0, maximum: 65_535 }),
  }),
  TPMAttributes: Type.Object({
    manufacturer: Type.String({ pattern: '^id:[0-9A-Fa-f]{8}$' }),
    model: Type.String({ pattern: '^[A-Za-z0-9 ._-]{1,64}$' }),
    version: Type.String({ pattern: '^id:[0-9A-Fa-f]{1,16}$' }),
  }),
})

/** What a certificate of a virtual TPM has to say: its endorsement keys (SubjectPublicKeyInfo, DER), and its maker. */
export interface VtpmIdentity {
  readonly keys: Readonly<Record<keyof typeof KEY_HANDLES, Uint8Array>>
  readonly tpm: CertifiedTpm
}

/** Certificates to be put into a virtual TPM, DER. */
export type NewCertificates = ReadonlyMap<VtpmCertificateName, Uint8Array>

/**
 * Makes the state of the vTPM of a stopped VM anew, in files beside it, with other certificates in its NV memory. Keys and
 * all else in it stay.
 *
 * The TPM is started for it, which guests see as one more reset.
 *
 * @param certify says which certificates the keys are to have; what it returns was checked
 * @returns names of the staged files, in the directory of the VM
 * @throws PlatformError as `checkVtpm`; of `certify`; `VTPM_CERTIFICATE`; `VM_PROCESS`
 */
export async function replaceVtpmCertificates(
  options: {
    readonly programs: Programs
    readonly paths: VmPaths
    readonly staged: VmPaths
    readonly dek: Secret
  },
  certify: (identity: VtpmIdentity) => Promise<NewCertificates>,
): Promise<readonly string[]> {
  const { paths, staged, dek } = options
  const certificates = await withCopy(options, async (session) => {
    const issued = await certify(await identityOf(session))
    for (const [name, der] of issued) await replaceNvIndex(session, NV_INDEXES[name], der)
    await shutDown(session)
    return issued
  })
  const state = await readVtpmState(staged.vtpmState)
  if (!verifyVtpmState(state.parsed, dek)) throw corrupt('does not verify with new certificates')
  requireCertificatesInside(state.parsed, dek, certificates)
  await makePrivateDirectory(staged.vtpmCertificates)
  for (const [name, der] of certificates) {
    const pem = new X509Certificate(der).toString()
    await writePrivateFile(`${staged.vtpmCertificates}/${name}.pem`, pem)
  }
  for (const path of [staged.vtpmState, staged.vtpmCertificates, staged.vtpm]) await syncPath(path)
  const { generation } = await readVtpmRecord(paths)
  await recordVtpmState(staged, state, generation + 1)
  return [
    ...['vtpm/tpm2-00.permall', 'vtpm-backup.permall', 'vtpm.json'],
    ...[...certificates.keys()].map((name) => `vtpm/certs/${name}.pem`),
  ]
}

/**
 * What certificates of the vTPM of a stopped VM have to say, from the TPM itself. A copy of its state is started, so that it
 * stays as it is.
 *
 * @throws PlatformError as `checkVtpm`; `VTPM_CERTIFICATE`; `VM_PROCESS`
 */
export function readVtpmIdentity(options: {
  readonly programs: Programs
  readonly paths: VmPaths
  readonly staged: VmPaths
  readonly dek: Secret
}): Promise<VtpmIdentity> {
  return withCopy(options, identityOf)
}

/** Starts a copy of the state among the staged files. */
async function withCopy<T>(
  options: {
    readonly programs: Programs
    readonly paths: VmPaths
    readonly staged: VmPaths
    readonly dek: Secret
  },
  use: (session: VtpmSession) => Promise<T>,
): Promise<T> {
  const { programs, paths, staged, dek } = options
  const { octets } = await checkVtpm(paths, dek)
  await writePrivateFile(staged.vtpmState, octets)
  // short, since paths of sockets are; it goes with the change
  const socketDirectory = `${paths.change}/s`
  await makePrivateDirectory(socketDirectory)
  return withVtpm({ programs, dek, stateDirectory: staged.vtpm, socketDirectory }, use)
}

async function identityOf(session: VtpmSession): Promise<VtpmIdentity> {
  const octets = utf8(await session.information())
  const what = 'what swtpm says of itself'
  const { TPMAttributes, TPMSpecification } = parseRecord(
    TpmInformation,
    octets,
    'VM_PROCESS',
    what,
  )
  const { manufacturer, model, version } = TPMAttributes
  const { family, level, revision } = TPMSpecification
  return {
    keys: {
      'ek-rsa': await readPersistentKey(session, KEY_HANDLES['ek-rsa']),
      'ek-ec': await readPersistentKey(session, KEY_HANDLES['ek-ec']),
    },
    tpm: { manufacturer, model, version, specification: { family, level, revision } },
  }
}
