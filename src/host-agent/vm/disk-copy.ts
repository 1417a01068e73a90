import { randomInt } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import { type DiskFile, isEncrypted } from './disk-file.js'
import {
  type Programs,
  programFailed,
  type RunOptions,
  runProgram,
  SECOND_KEY,
} from './programs.js'

const MIB = 1024 * 1024
/** Copying a disk of many TiB takes hours. */
const COPY_TIMEOUT_MS = 7 * 24 * 3600 * 1000
/** A part that is copied beside others: the cipher of QEMU keeps one processor busy. */
const LEAST_PART_OCTETS = 64 * MIB
const MOST_PARTS = 8
/** Parts begin at multiples of this, so that no two write into one block of a file system. */
const PART_ALIGNMENT = 2 * MIB
/** How much is read of each sample, and how many there are beside the first and the last one. */
const SAMPLE_OCTETS = MIB
const RANDOM_SAMPLES = 2
const DIFFERENT = 1

/** A disk with its key, if it has one. */
export interface OpenDisk {
  readonly file: DiskFile
  readonly key: Secret | undefined
}

interface Range {
  readonly offset: number
  readonly octets: number
}

/**
 * Copies all that a guest sees of one disk into another of the same size, decrypted from the one, encrypted to the
 * other. Several parts are copied at once, each by a program of its own. What is copied is not yet on the disk.
 *
 * A plain target must be new: zeros are not written to it.
 *
 * @param options.onCopied called with how many octets are done so far
 * @throws PlatformError `VM_DISK_FULL`, `VM_PROCESS`, or the reason of the signal; no program runs on after that
 */
export async function copyDisk(
  programs: Programs,
  from: OpenDisk,
  to: OpenDisk,
  options: { readonly onCopied: (octets: number) => void; readonly signal?: AbortSignal },
): Promise<void> {
  const parts = partsOf(from.file.sizeOctets)
  const copied = parts.map(() => 0)
  const stop = new AbortController()
  const signals = [stop.signal, ...(options.signal ? [options.signal] : [])]
  const copies = parts.map(async (part, index) => {
    const onOutput = (text: string) => {
      const percent = /\((\d+(?:\.\d+)?)\/100%\)\s*$/.exec(text)?.[1]
      if (percent === undefined) return
      copied[index] = Math.floor((part.octets * Number(percent)) / 100)
      options.onCopied(copied.reduce((sum, octets) => sum + octets, 0))
    }
    try {
      await copyPart(programs, from, to, part, { onOutput, signal: AbortSignal.any(signals) })
    } catch (error) {
      stop.abort(error)
      throw error
    }
  })
  // all programs have ended before the first failure is told
  await Promise.allSettled(copies)
  await Promise.all(copies)
}

/**
 * Compares two disks as a guest sees them: all of them, or their first and last MiB and two more that nobody can
 * foresee.
 *
 * @throws PlatformError `VM_COPY_DIFFERS`, `VM_PROCESS`
 */
export async function compareDisks(
  programs: Programs,
  one: OpenDisk,
  other: OpenDisk,
  options: { readonly extent: 'all' | 'samples'; readonly signal?: AbortSignal },
): Promise<void> {
  const { sizeOctets } = one.file
  const ranges = options.extent === 'all' ? partsOf(sizeOctets) : samplesOf(sizeOctets)
  const run = options.signal ? { signal: options.signal } : {}
  const comparisons = ranges.map((range) => compareRange(programs, one, other, range, run))
  await Promise.allSettled(comparisons)
  await Promise.all(comparisons)
}

async function copyPart(
  programs: Programs,
  from: OpenDisk,
  to: OpenDisk,
  range: Range,
  options: Pick<RunOptions, 'onOutput' | 'signal'>,
): Promise<void> {
  const { secrets, keys, names } = secretsOf(from, to)
  const { exitCode, words } = await runProgram(
    programs.qemuImg,
    [
      ...['convert', '-n', '-p', ...(isEncrypted(to.file) ? [] : ['--target-is-zero']), ...secrets],
      ...['--image-opts', '--target-image-opts', imageOptions(from, range, names.from)],
      imageOptions(to, range, names.to, 'off'),
    ],
    { ...options, ...keys, timeoutMs: COPY_TIMEOUT_MS },
  )
  if (exitCode !== 0) throw programFailed(programs.qemuImg, `cannot copy: ${words}`)
}

async function compareRange(
  programs: Programs,
  one: OpenDisk,
  other: OpenDisk,
  range: Range,
  options: Pick<RunOptions, 'signal'>,
): Promise<void> {
  const { secrets, keys, names } = secretsOf(one, other)
  const images = [imageOptions(one, range, names.from), imageOptions(other, range, names.to)]
  const { exitCode, words } = await runProgram(
    programs.qemuImg,
    ['compare', ...secrets, '--image-opts', ...images],
    { ...options, ...keys, timeoutMs: COPY_TIMEOUT_MS },
  )
  if (exitCode === DIFFERENT) {
    throw new PlatformError(
      'VM_COPY_DIFFERS',
      `${other.file.path} differs from ${one.file.path} within ${range.octets} octets at ${range.offset}: ${words}`,
    )
  }
  if (exitCode !== 0) throw programFailed(programs.qemuImg, `cannot compare: ${words}`)
}

/** Options that hand a program the keys of two disks, and what the secrets are called there. */
function secretsOf(from: OpenDisk, to: OpenDisk) {
  const secret = (id: string, file: string) => ['--object', `secret,id=${id},file=${file}`]
  const names = { from: 'from', to: 'to' }
  if (from.key && to.key) {
    return {
      secrets: [...secret('from', SECOND_KEY), ...secret('to', '/dev/stdin')],
      keys: { key: to.key, secondKey: from.key },
      names,
    }
  }
  const key = from.key ?? to.key
  return {
    secrets: key ? secret(from.key ? 'from' : 'to', '/dev/stdin') : [],
    keys: key ? { key } : {},
    names,
  }
}

/** A window of what a guest sees. Programs that write into windows of one file need no locks among them. */
function imageOptions(
  { file }: OpenDisk,
  range: Range,
  secret: string,
  locking: 'auto' | 'off' = 'auto',
): string {
  const { offset, octets } = range
  const volume = isEncrypted(file)
    ? [...['file.driver=luks', `file.key-secret=${secret}`], ...storage('file.file')]
    : storage('file')
  return ['driver=raw', `offset=${offset}`, `size=${octets}`, ...volume].join(',')

  // paths of VMs have no comma in them, see `VmStore`
  function storage(node: string): readonly string[] {
    return [`${node}.driver=file`, `${node}.filename=${file.path}`, `${node}.locking=${locking}`]
  }
}

function partsOf(sizeOctets: number): readonly Range[] {
  const most = Math.min(MOST_PARTS, availableParallelism())
  const count = Math.max(1, Math.min(most, Math.floor(sizeOctets / LEAST_PART_OCTETS)))
  const step = Math.ceil(sizeOctets / count / PART_ALIGNMENT) * PART_ALIGNMENT
  return Array.from({ length: count }, (_, index) => {
    const offset = index * step
    return { offset, octets: Math.min(step, sizeOctets - offset) }
  })
}

function samplesOf(sizeOctets: number): readonly Range[] {
  const sample = (offset: number) => ({ offset, octets: SAMPLE_OCTETS })
  const samples = Math.floor(sizeOctets / SAMPLE_OCTETS)
  if (samples <= 2 + RANDOM_SAMPLES) return [{ offset: 0, octets: sizeOctets }]
  const random = Array.from({ length: RANDOM_SAMPLES }, () =>
    sample(randomInt(samples) * SAMPLE_OCTETS),
  )
  return [sample(0), ...random, sample(sizeOctets - SAMPLE_OCTETS)]
}
