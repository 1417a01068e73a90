import { rmSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PlatformError } from '../src/core/errors.js'
import { type Authority, createAuthority } from '../src/pki/index.js'
import type { HashName } from '../src/tpm/index.js'
import { createLabTpm, type LabTpm } from './lab-tpm.js'
import { manufacture } from './manufacture.js'

/** Longest path of a unix socket, without its terminating zero. */
const MAX_SOCKET_PATH = 107
const CA_DAYS = 365
const DEFAULT_BANKS: readonly HashName[] = ['sha256']

/** A laboratory of software TPMs, with a certificate authority of its own. */
export interface Lab extends AsyncDisposable {
  readonly directory: string
  /** Certificates of the lab's root and of its issuing authority, PEM. */
  readonly anchorsPem: string
  /**
   * Manufactures a TPM: seeds, endorsement keys (RSA-2048 and P-384), and their certificates.
   *
   * @param name of its folder: short, since a socket path holds it
   */
  manufacture(
    name: string,
    options?: {
      /** Without any, a TPM as many real ones are. */
      readonly ekCertificates?: boolean
      readonly pcrBanks?: readonly HashName[]
    },
  ): Promise<LabTpm>
}

/**
 * Opens a lab in a folder of its own, or in `directory`.
 *
 * Closing it stops every TPM in order and removes the folder that it made. Two labs never share anything. Should the
 * process end without closing it, the TPMs end with it.
 */
export async function createLab(options: { readonly directory?: string } = {}): Promise<Lab> {
  const own = options.directory === undefined
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), 'sgl-')))
  await mkdir(directory, { recursive: true, mode: 0o700 })
  await chmod(directory, 0o700)
  const removeAtExit = (): void => rmSync(directory, { recursive: true, force: true })
  if (own) process.once('exit', removeAtExit)

  const root = await createAuthority({
    commonName: 'Sigillo lab root',
    keyType: 'p384',
    validityDays: CA_DAYS,
    now: Date.now(),
  })
  const issuer = await createAuthority({
    commonName: 'Sigillo lab TPM issuer',
    keyType: 'p256',
    validityDays: CA_DAYS,
    now: Date.now(),
    parent: root,
  })
  const ca = join(directory, 'ca')
  await writeAuthority(ca, issuer)
  const tpms: LabTpm[] = []

  return {
    directory,
    anchorsPem: root.certificatePem + issuer.certificatePem,
    async manufacture(name, { ekCertificates = true, pcrBanks = DEFAULT_BANKS } = {}) {
      const folder = join(directory, name)
      const socket = join(folder, 's')
      if (`${socket}.ctrl`.length > MAX_SOCKET_PATH) {
        throw new PlatformError(
          'LAB_PATH',
          `expected a socket path of at most ${MAX_SOCKET_PATH} characters, found ${socket}.ctrl`,
        )
      }
      await mkdir(folder, { mode: 0o700 })
      await manufacture({ folder, name, ca: ekCertificates ? ca : undefined, pcrBanks })
      const tpm = createLabTpm({ folder, socket, banks: pcrBanks })
      tpms.push(tpm)
      return tpm
    },
    async [Symbol.asyncDispose]() {
      for (const tpm of tpms) await tpm[Symbol.asyncDispose]()
      process.off('exit', removeAtExit)
      if (own) await rm(directory, { recursive: true, force: true })
    },
  }
}

async function writeAuthority(folder: string, issuer: Authority): Promise<void> {
  await mkdir(folder, { mode: 0o700 })
  await writeFile(join(folder, 'issuer.pem'), issuer.certificatePem, { mode: 0o600 })
  await writeFile(join(folder, 'issuer.key'), await issuer.privateKeyPem(), { mode: 0o600 })
}
