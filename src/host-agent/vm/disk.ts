import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { fromHex } from '../../core/bytes.js'
import { isPlatformError, PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import { isErrno } from './errno.js'
import { createPrivateFile, openToErase, overwriteFile, syncPath } from './files.js'
import type { SourceImage } from './image.js'
import {
  expectedLuksHeader,
  LUKS_HEADER_OCTETS,
  LUKS_PAYLOAD_OCTETS,
  type LuksHeader,
  MOST_ROUNDS,
  parseLuksHeader,
} from './luks-header.js'
import { type Programs, programFailed, runChecked, runProgram, SECOND_KEY } from './programs.js'

const TOOL_TIMEOUT_MS = 60_000
/** Filling a disk of many TiB takes hours. */
const FILL_TIMEOUT_MS = 24 * 3600 * 1000
const NO_KEY_OPENS = 2
const KEY_ON_STDIN = ['--object', 'secret,id=key,file=/dev/stdin']

/** A disk of a VM: a LUKS1 volume in a sparse file. The passphrase is the hexadecimal text of the DEK. */
export interface Disk {
  readonly path: string
  /** What the guest sees; the file is 2 MiB larger. */
  readonly sizeOctets: number
  /** UUID in the LUKS header: another volume in its place is seen. */
  readonly volumeId: string
}

/**
 * Makes the volume, empty. What was never written reads as noise, not as zeros.
 *
 * The passphrase has the 256 bits of the DEK, so the least number of PBKDF2 rounds (1000) is enough.
 *
 * @throws PlatformError `VM_DISK_FULL`, `VM_PROCESS`
 */
export async function formatDisk(programs: Programs, disk: Disk, dek: Secret): Promise<void> {
  const file = await createPrivateFile(disk.path)
  try {
    await file.truncate(disk.sizeOctets + LUKS_PAYLOAD_OCTETS)
  } finally {
    await file.close()
  }
  await runChecked(
    programs.cryptsetup,
    [
      ...['luksFormat', '-q', '--type', 'luks1', '--cipher', 'aes-xts-plain64'],
      ...['--key-size', '512', '--hash', 'sha256', '--pbkdf-force-iterations', '1000'],
      ...['--uuid', disk.volumeId, '--key-file', '-', disk.path],
    ],
    { key: dek, timeoutMs: TOOL_TIMEOUT_MS },
  )
}

/**
 * Copies an image into a disk, from its start.
 *
 * @param dek of an encrypted disk
 * @param onPercent called with 0 to 100 as it goes on
 * @throws PlatformError `VM_DISK_FULL`, `VM_IMAGE` with the words of qemu-img, or the reason of the signal
 */
export async function fillDisk(
  programs: Programs,
  disk: { readonly path: string },
  dek: Secret | undefined,
  image: Pick<SourceImage, 'descriptor' | 'format' | 'passphrase'>,
  onPercent: (percent: number) => void,
  signal?: AbortSignal,
): Promise<void> {
  const source = {
    driver: image.format,
    // whatever the header says by now: no other file is opened
    ...(image.format === 'qcow2' ? { backing: null } : {}),
    ...(image.passphrase ? { 'key-secret': 'source' } : {}),
    file: { driver: 'file', filename: '/dev/fd/4' },
  }
  const format = dek ? 'driver=luks,key-secret=key' : 'driver=raw'
  const target = `${format},file.driver=file,file.filename=${disk.path}`
  const { exitCode, words } = await runProgram(
    programs.qemuImg,
    [
      ...['convert', '-n', '-p', ...(dek ? KEY_ON_STDIN : [])],
      ...(image.passphrase ? ['--object', `secret,id=source,file=${SECOND_KEY}`] : []),
      ...['--target-image-opts', `json:${JSON.stringify(source)}`, target],
    ],
    {
      ...(dek ? { key: dek } : {}),
      ...(image.passphrase ? { passphrase: image.passphrase } : {}),
      ...(signal ? { signal } : {}),
      file: image.descriptor,
      timeoutMs: FILL_TIMEOUT_MS,
      onOutput: (text) => {
        const percent = /\((\d+)(?:\.\d+)?\/100%\)\s*$/.exec(text)?.[1]
        if (percent !== undefined) onPercent(Number(percent))
      },
    },
  )
  if (exitCode !== 0) throw new PlatformError('VM_IMAGE', `qemu-img cannot copy: ${words}`)
}

/**
 * Checks that the volume is the one that was made for the VM, that both programs open it with the key, and brings it
 * to the disk. Does not read the data: LUKS1 has no integrity.
 *
 * @throws PlatformError `VM_DISK_CORRUPT`, `VM_KEY_WRONG`
 */
export async function verifyDisk(programs: Programs, disk: Disk, dek: Secret): Promise<void> {
  await checkVolume(disk)
  const test = ['open', '--test-passphrase', '--type', 'luks1', '--key-file', '-', disk.path]
  const { exitCode, words } = await runProgram(programs.cryptsetup, test, {
    key: dek,
    timeoutMs: TOOL_TIMEOUT_MS,
  })
  if (exitCode === NO_KEY_OPENS) throw keyWrong(disk)
  if (exitCode !== 0) throw programFailed(programs.cryptsetup, `ended with ${exitCode}: ${words}`)
  await readDisk(programs, disk, dek, 0, 1)
  await syncPath(disk.path)
}

/**
 * Refuses a file that is not the volume of this disk, before any program sees it: another UUID, or another way of
 * encryption than ours (a null cipher opens with every key; many rounds keep whoever opens it at work for hours).
 *
 * @throws PlatformError `VM_DISK_CORRUPT`
 */
export async function checkVolume(disk: Disk): Promise<void> {
  const head = new Uint8Array(LUKS_HEADER_OCTETS)
  const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants
  const file = await open(disk.path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch((cause) => {
    throw corrupt(disk, 'it cannot be opened', cause)
  })
  let header: LuksHeader
  try {
    const stat = await file.stat()
    const expectedOctets = disk.sizeOctets + LUKS_PAYLOAD_OCTETS
    if (!stat.isFile() || stat.size !== expectedOctets) {
      throw corrupt(disk, `expected a file of ${expectedOctets} octets, found ${stat.size}`)
    }
    const { bytesRead } = await file.read(head, 0, head.length, 0)
    header = parseLuksHeader(head.subarray(0, bytesRead))
  } catch (error) {
    throw isPlatformError(error, 'VM_DISK_CORRUPT')
      ? error
      : corrupt(disk, 'no LUKS1 header', error)
  } finally {
    await file.close()
  }
  const expected = expectedLuksHeader(disk.volumeId)
  for (const member of Object.keys(expected) as (keyof typeof expected)[]) {
    if (header[member] !== expected[member]) {
      throw corrupt(disk, `expected ${member} ${expected[member]}, found ${header[member]}`)
    }
  }
  if (header.rounds > MOST_ROUNDS) {
    throw corrupt(disk, `expected at most ${MOST_ROUNDS} rounds of PBKDF2, found ${header.rounds}`)
  }
}

/**
 * Plain octets of the disk. They are in memory and in a pipe, never in a file.
 *
 * @throws PlatformError `VM_KEY_WRONG`, `VM_PROCESS`
 */
export async function readDisk(
  programs: Programs,
  disk: Disk,
  dek: Secret,
  offset: number,
  length: number,
): Promise<Uint8Array> {
  const image = {
    driver: 'luks',
    'key-secret': 'key',
    file: { driver: 'file', filename: disk.path },
  }
  const { exitCode, stdout, words } = await runProgram(
    programs.qemuIo,
    [
      ...KEY_ON_STDIN,
      ...['-r', '-c', `read -v ${offset} ${length}`, `json:${JSON.stringify(image)}`],
    ],
    { key: dek, timeoutMs: TOOL_TIMEOUT_MS },
  )
  if (exitCode !== 0 && /invalid password/i.test(words)) throw keyWrong(disk)
  if (exitCode !== 0) throw programFailed(programs.qemuIo, `ended with ${exitCode}: ${words}`)
  const data = parseDump(stdout)
  if (data.length !== length) {
    throw programFailed(programs.qemuIo, `gave ${data.length} octets of ${length}`)
  }
  return data
}

/**
 * Erases the key slots, and the header of a volume that was not finished. The data cannot be read again. Nothing is done to a
 * volume that has another name, nor to what a link leads to.
 */
export async function eraseDisk(programs: Programs, path: string): Promise<void> {
  const file = await openToErase(path).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  })
  if (!file) return
  try {
    // a VM that moved while it ran: the other host has it
    if ((await file.stat()).nlink > 1) return
    await runProgram(programs.cryptsetup, ['luksErase', '-q', '/dev/fd/4'], {
      file: file.fd,
      timeoutMs: TOOL_TIMEOUT_MS,
    })
    await overwriteFile(file, LUKS_PAYLOAD_OCTETS)
  } finally {
    await file.close()
  }
}

/** Octets of the lines `0000fff0:  69 6c … 67  il…g` that qemu-io prints. */
function parseDump(text: string): Uint8Array {
  const lines = text.matchAll(/^[0-9a-f]{8,}: {2}((?:[0-9a-f]{2} )*[0-9a-f]{2}) /gm)
  return fromHex([...lines].map(([, octets = '']) => octets.replaceAll(' ', '')).join(''))
}

function keyWrong(disk: Disk): PlatformError {
  return new PlatformError(
    'VM_KEY_WRONG',
    `the unwrapped key does not open volume ${disk.volumeId}`,
  )
}

function corrupt(disk: Disk, what: string, cause?: unknown): PlatformError {
  return new PlatformError('VM_DISK_CORRUPT', `disk ${disk.path}: ${what}`, { cause })
}
