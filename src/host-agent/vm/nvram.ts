import { hkdfSync } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, lstat, open, readFile } from 'node:fs/promises'
import { utf8 } from '../../core/bytes.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import { newUuid } from '../../core/random.js'
import { Secret } from '../../core/secret.js'
import { fillDisk, verifyDisk } from './disk.js'
import { copyDisk, type OpenDisk } from './disk-copy.js'
import { checkDiskFile, isEncrypted } from './disk-file.js'
import { syncPath, writePrivateFile } from './files.js'
import type { VmPaths } from './layout.js'
import type { Programs } from './programs.js'
import type { Home } from './records.js'
import { makeDisk, verifyCopy } from './verified-copy.js'
import type { VmKeys } from './vm-keys.js'

const KEY_OCTETS = 32
/** Flash of a machine is made of blocks of this. */
const BLOCK_OCTETS = 4096
const MAX_OCTETS = 64 * 1024 * 1024

/** The variables of the firmware (NVRAM) of a VM, with the key that opens them if they are encrypted. */
export interface OpenNvram extends OpenDisk, Disposable {}

interface Place {
  readonly vmId: string
  readonly paths: VmPaths
}

/**
 * The variables of a stopped VM. They are encrypted, in a LUKS1 volume as disks are, whenever the home was sealed to say so:
 * neither a plain file nor another volume can be put in their place. LUKS has no integrity of its own.
 *
 * @param keys that of the home, unless that is plain
 * @throws PlatformError `VM_NVRAM_CORRUPT`
 */
export async function openNvram(
  { vmId, paths, home }: Place & { readonly home: Home },
  keys: VmKeys,
): Promise<OpenNvram> {
  if (!home.nvram) {
    return opened({ path: paths.plainNvram, sizeOctets: await plainOctets(paths.plainNvram) })
  }
  const file = { path: paths.nvram, ...home.nvram }
  await checkDiskFile(file).catch((error: unknown) => {
    throw isPlatformError(error, 'VM_DISK_CORRUPT') ? corrupt(error.message, error) : error
  })
  return opened(file, nvramKey(vmId, keys.of('home')))
}

/**
 * Where new variables of a VM are to be, before there is a file: encrypted under the key of the home, if it has one.
 *
 * @returns with what the home is to say of them
 */
export function newNvram(
  { vmId, paths }: Place,
  sizeOctets: number,
  homeKey: Secret | undefined,
): OpenNvram & { readonly home: Pick<Home, 'nvram'> } {
  if (!homeKey) return { ...opened({ path: paths.plainNvram, sizeOctets }), home: {} }
  const nvram = { sizeOctets, volumeId: newUuid() }
  const file = { path: paths.nvram, ...nvram }
  return { ...opened(file, nvramKey(vmId, homeKey)), home: { nvram } }
}

/**
 * Makes the variables of a new machine, of a file that is plain. They are on the disk then.
 *
 * @throws PlatformError `VM_DISK_FULL`, `VM_IMAGE`, `VM_PROCESS`
 */
export async function writeNvram(
  programs: Programs,
  template: string,
  { file, key }: OpenNvram,
): Promise<void> {
  if (!key) return writePrivateFile(file.path, await readFile(template))
  await makeDisk(programs, { file, key })
  await using source = await openTemplate(template)
  const image = { descriptor: source.fd, format: 'raw' } as const
  await fillDisk(programs, file, key, image, () => undefined)
  await syncPath(file.path)
}

/** Size of a file with variables. @throws PlatformError `VM_NVRAM_CORRUPT` for one that is none */
export async function nvramOctets(template: string): Promise<number> {
  await using file = await openTemplate(template)
  const stat = await file.stat()
  return checked(template, stat.isFile(), stat.size)
}

/**
 * Checks that the variables of a VM which is not used yet open with its key, and brings them to the disk.
 *
 * @throws PlatformError `VM_NVRAM_CORRUPT`
 */
export async function verifyNvram(
  programs: Programs,
  place: Place & { readonly home: Home },
  keys: VmKeys,
): Promise<void> {
  using nvram = await openNvram(place, keys)
  const { file, key } = nvram
  if (isEncrypted(file) && key) {
    await verifyDisk(programs, file, key).catch((error: unknown) => {
      throw isPlatformError(error, 'VM_KEY_WRONG') ? doesNotOpen(nvram, error) : error
    })
  }
  await syncPath(file.path)
}

/**
 * Copies variables into a new file, verified and on the disk.
 *
 * @throws PlatformError `VM_NVRAM_CORRUPT` where the old ones do not open, `VM_COPY_DIFFERS`, `VM_DISK_FULL`, `VM_PROCESS`, or
 *   the reason of the signal
 */
export async function copyNvram(
  programs: Programs,
  from: OpenNvram,
  to: OpenNvram,
  signal: AbortSignal | undefined,
): Promise<void> {
  await makeDisk(programs, to)
  await copyDisk(programs, from, to, {
    onCopied: () => undefined,
    ...(signal ? { signal } : {}),
  }).catch((error: unknown) => {
    const isOld = isEncrypted(from.file) && /invalid password/i.test(messageOf(error))
    throw isOld ? doesNotOpen(from, error) : error
  })
  await verifyCopy(programs, from, to, 'all', signal)
}

/**
 * The passphrase of the volume with the variables: they are of the home, so that its key is theirs too, and who has this one
 * does not have that one.
 *
 * @see RFC 5869; identifiers have one length, so that no two VMs have the same info
 */
export function nvramKey(vmId: string, homeKey: Secret): Secret {
  const info = utf8(`sigillo nvram v1 ${vmId}`)
  return new Secret(
    homeKey.use(
      (octets) => new Uint8Array(hkdfSync('sha256', octets, new Uint8Array(), info, KEY_OCTETS)),
    ),
  )
}

/** The key of the home opens the home, and not these variables: they are of something else. */
export function doesNotOpen({ file }: OpenDisk, cause: unknown): PlatformError {
  return corrupt(`${file.path} does not open with the key of its VM`, cause)
}

/** A link to it is followed: it is named by settings, or by the domain that is adopted. A pipe is not waited for. */
async function openTemplate(path: string): Promise<FileHandle> {
  return open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((cause: unknown) => {
    throw corrupt(`${path}: ${messageOf(cause)}`, cause)
  })
}

async function plainOctets(path: string): Promise<number> {
  const stat = await lstat(path).catch((cause: unknown) => {
    throw corrupt(`${path}: ${messageOf(cause)}`, cause)
  })
  return checked(path, stat.isFile(), stat.size)
}

function checked(path: string, isFile: boolean, octets: number): number {
  if (isFile && octets > 0 && octets <= MAX_OCTETS && octets % BLOCK_OCTETS === 0) return octets
  throw corrupt(
    `expected ${path} to be a file of whole blocks of ${BLOCK_OCTETS} octets, at most ${MAX_OCTETS}, found ${octets} octets`,
  )
}

function opened(file: OpenNvram['file'], key?: Secret): OpenNvram {
  return { file, key, [Symbol.dispose]: () => key?.dispose() }
}

function corrupt(message: string, cause?: unknown): PlatformError {
  return new PlatformError('VM_NVRAM_CORRUPT', message, { cause })
}
