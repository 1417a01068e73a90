import { readdir, stat } from 'node:fs/promises'
import { PlatformError } from '../../core/errors.js'
import { isErrno } from './errno.js'
import type { Descriptor, Home } from './records.js'

/** @see stat(2), `st_blocks` */
const STAT_BLOCK_OCTETS = 512

interface FileSize {
  readonly file: string
  readonly octets: number
}

/** Files that a stopped, encrypted VM has, by their names in its directory. Certificates are beside them. */
export function requiredFiles({ vtpm, nvram, disks }: Descriptor): readonly string[] {
  return [
    ...['vm.json', 'keys.json', 'home.enc', nvramName(nvram)],
    ...(vtpm ? ['vtpm.json', 'vtpm/tpm2-00.permall'] : []),
    ...disks.map(({ name, plain }) => `disk-${name}.${plain ? 'raw' : 'luks'}`),
  ]
}

/** Name of the file with the variables of the firmware. */
export function nvramName(nvram: Descriptor['nvram'] | Home['nvram']): 'nvram.luks' | 'nvram.fd' {
  return nvram ? 'nvram.luks' : 'nvram.fd'
}

/** Files of a VM that a snapshot keeps: not its wrapped keys, which are those of all its snapshots. */
export function snapshotParts(descriptor: Descriptor): readonly string[] {
  const others = ['keys.json', 'home.enc', 'vtpm.json']
  return [
    ...requiredFiles(descriptor).filter((file) => !others.includes(file)),
    descriptor.provider === undefined ? 'home.json' : 'home.enc',
  ]
}

/** A certificate of the virtual TPM: a VM may have several, or none. */
export function isCertificateFile(file: string): boolean {
  return /^vtpm\/certs\/[a-z-]{1,20}\.pem$/.test(file)
}

/**
 * The files of a VM with their sizes.
 *
 * @throws PlatformError `VM_DESCRIPTOR_CORRUPT` when one is not there
 */
export async function filesOf(root: string, descriptor: Descriptor): Promise<readonly FileSize[]> {
  return withSizes(root, requiredFiles(descriptor), descriptor)
}

/** The files of `snapshotParts`, and certificates, with their sizes. @throws PlatformError `VM_DESCRIPTOR_CORRUPT` */
export async function snapshotFiles(
  root: string,
  descriptor: Descriptor,
): Promise<readonly FileSize[]> {
  return withSizes(root, snapshotParts(descriptor), descriptor)
}

async function withSizes(
  root: string,
  files: readonly string[],
  { vtpm }: Descriptor,
): Promise<readonly FileSize[]> {
  const certificates = vtpm ? await certificateFiles(root) : []
  return Promise.all(
    [...files, ...certificates].map(async (file) => {
      const found = await stat(`${root}/${file}`).catch((cause: unknown) => {
        throw new PlatformError('VM_DESCRIPTOR_CORRUPT', `expected ${file} of the VM`, { cause })
      })
      return { file, octets: found.size }
    }),
  )
}

/** What a file takes on its file system. */
export async function allocatedOctets(path: string): Promise<number> {
  return (await stat(path)).blocks * STAT_BLOCK_OCTETS
}

async function certificateFiles(root: string): Promise<readonly string[]> {
  const names = await readdir(`${root}/vtpm/certs`).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  })
  return names.map((name) => `vtpm/certs/${name}`).filter(isCertificateFile)
}
