import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process'
import { basename } from 'node:path'
import { type Readable, Writable } from 'node:stream'
import { view } from '../../core/bytes.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import { createPrivateFile } from './files.js'

/** Names or absolute paths of the programs that VMs are made and run with. */
export interface Programs {
  readonly cryptsetup: string
  readonly qemuImg: string
  readonly qemuIo: string
  readonly qemuSystem: string
  readonly swtpm: string
  readonly swtpmSetup: string
  readonly virsh: string
}

export const DEFAULT_PROGRAMS: Programs = {
  cryptsetup: 'cryptsetup',
  qemuImg: 'qemu-img',
  qemuIo: 'qemu-io',
  qemuSystem: 'qemu-system-x86_64',
  swtpm: 'swtpm',
  swtpmSetup: 'swtpm_setup',
  virsh: 'virsh',
}

/** Path of the pipe with `secondKey`. */
export const SECOND_KEY = '/dev/fd/6'

/** Of util-linux, as `unshare`. */
const SETPRIV = 'setpriv'

/** Who is not root makes process namespaces in a user namespace only, in which the user stays who it is. */
const WITHOUT_ROOT = process.getuid?.() === 0 ? [] : ['--user', '--map-current-user']

/** All that programs get of the environment. */
const ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }

/**
 * Files are made private and nothing dumps core: a core has keys in it. The limit is for core files; a program that the
 * kernel pipes cores to gets one without memory.
 *
 * @see core(5), "Controlling which mappings are written to the core dump": the filter is inherited
 */
const PRIVATE = 'umask 077; echo 0 2>/dev/null >/proc/self/coredump_filter'
const LIMITS = `${PRIVATE}; ulimit -c 0`
const RUN = `${LIMITS}; exec "$@"`
/**
 * With a limit of one octet the kernel pipes nothing to a program either. An agent that has a limit of 0 keeps that.
 *
 * @see Linux, fs/coredump.c, `do_coredump`: "RLIMIT_CORE is set to 1"
 */
const LAUNCH = `${PRIVATE}; prlimit --pid $$ --core=1:1 2>/dev/null || ulimit -c 0; exec "$@"`
/** QEMU's tools open the key by path, which takes a pipe; what Node makes are sockets. */
const RUN_WITH_KEY = `${LIMITS}; cat <&3 | exec "$@" 3<&-`

/** The key of what is written on standard input, that of what is read on descriptor 6. */
const RUN_WITH_TWO_KEYS = `${LIMITS}; cat <&5 | { exec 6<&0; cat <&3 | exec "$@" 3<&- 5<&-; }`

const MAX_OUTPUT_OCTETS = 8 * 1024 * 1024
const MAX_WORDS = 500

export interface RunOptions {
  /** Given to the program as hexadecimal text without a line end. */
  readonly key?: Secret
  /** Where: on its standard input, which is a pipe (the default), or on a descriptor, which is a socket. */
  readonly keyAt?: 'stdin' | 'descriptor-3'
  /** A second key, as `key`; the program finds it at `SECOND_KEY`. Only beside a `key` on standard input. */
  readonly secondKey?: Secret
  /** In the place of a second key: text of somebody else, given as it is. */
  readonly passphrase?: Secret
  /** An open file that the program finds as `/dev/fd/4`. */
  readonly file?: number
  readonly timeoutMs: number
  readonly temporaryDirectory?: string
  readonly onOutput?: (text: string) => void
  /** Ends the program when it is aborted; the call then throws the reason. */
  readonly signal?: AbortSignal
}

export interface Ran {
  readonly exitCode: number
  readonly stdout: string
  /** What the program said of itself, shortened, for an error message. */
  readonly words: string
}

/**
 * Runs a program to its end and tells how it ended. Nothing of it outlives the call or the agent.
 *
 * @throws PlatformError `VM_PROCESS` when it cannot be started, is ended by a signal or takes longer than allowed;
 *   `VM_DISK_FULL` when it says so. An exit code other than 0 is the caller's to judge.
 */
export async function runProgram(
  program: string,
  args: readonly string[],
  options: RunOptions,
): Promise<Ran> {
  const { key, secondKey, passphrase, signal } = options
  const hasSecond = secondKey !== undefined || passphrase !== undefined
  signal?.throwIfAborted()
  const script = hasSecond
    ? RUN_WITH_TWO_KEYS
    : key && options.keyAt !== 'descriptor-3'
      ? RUN_WITH_KEY
      : RUN
  const child = spawn(SETPRIV, boundToAgent(script, program, args), {
    env: options.temporaryDirectory
      ? { ...ENVIRONMENT, TMPDIR: options.temporaryDirectory }
      : ENVIRONMENT,
    stdio: [
      ...(['ignore', 'pipe', 'pipe', key ? 'pipe' : 'ignore', options.file ?? 'ignore'] as const),
      ...(hasSecond ? (['pipe'] as const) : []),
    ],
  })
  if (key) sendKey(child, 3, hexText(key))
  if (secondKey) sendKey(child, 5, hexText(secondKey))
  else if (passphrase) {
    sendKey(
      child,
      5,
      passphrase.use((octets) => octets.slice()),
    )
  }
  const { exitCode, stdout, stderr } = await ended(child, program, options)
  const words = shorten(stderr || stdout)
  if (exitCode !== 0 && /no space left|disk quota exceeded/i.test(stderr + stdout)) {
    throw new PlatformError('VM_DISK_FULL', `${basename(program)}: ${words}`)
  }
  return { exitCode, stdout, words }
}

/** As `runProgram`, for programs of which every exit code but 0 is a failure (`VM_PROCESS`). */
export async function runChecked(
  program: string,
  args: readonly string[],
  options: RunOptions,
): Promise<string> {
  const { exitCode, stdout, words } = await runProgram(program, args, options)
  if (exitCode !== 0) throw programFailed(program, `ended with ${exitCode}: ${words}`)
  return stdout
}

/**
 * Starts a program that outlives the agent, in a session of its own, with its messages in a private file.
 *
 * @param keys what it finds on descriptors 3, 4, … as raw octets
 */
export async function launchProgram(
  program: string,
  args: readonly string[],
  options: { readonly logFile: string; readonly keys?: readonly Secret[] },
): Promise<ChildProcess> {
  const keys = options.keys ?? []
  const log = await createPrivateFile(options.logFile)
  try {
    const child = spawn('/bin/sh', ['-c', LAUNCH, 'sh', program, ...args], {
      env: ENVIRONMENT,
      detached: true,
      stdio: ['ignore', log.fd, log.fd, ...keys.map(() => 'pipe' as const)],
    })
    // a failure to start shows as an end without ever having listened
    child.on('error', () => undefined)
    for (const [index, key] of keys.entries()) {
      sendKey(
        child,
        3 + index,
        key.use((octets) => octets.slice()),
      )
    }
    return child
  } finally {
    await log.close()
  }
}

/** The lower-case hexadecimal text of a key, never as a string: strings cannot be erased. The caller erases it. */
export function hexText(key: Secret): Uint8Array {
  const digits = new Uint8Array(key.length * 2)
  key.use((octets) => {
    for (const [index, octet] of octets.entries()) {
      digits[index * 2] = hexDigit(octet >> 4)
      digits[index * 2 + 1] = hexDigit(octet & 15)
    }
  })
  return digits
}

export function programFailed(program: string, what: string, cause?: unknown): PlatformError {
  return new PlatformError('VM_PROCESS', `${basename(program)} ${what}`, { cause })
}

/** Starts a program that ends with the agent, to be talked to on its standard input and output. */
export function startConversation(
  program: string,
  args: readonly string[],
): ChildProcessByStdio<Writable, Readable, null> {
  return spawn(SETPRIV, boundToAgent(RUN, program, args), {
    env: ENVIRONMENT,
    stdio: ['pipe', 'pipe', 'ignore'],
  })
}

/** One line of at most a few hundred characters. */
export function shorten(text: string): string {
  const line = text.trim().replace(/\s+/g, ' ')
  return line.length > MAX_WORDS ? `…${line.slice(-MAX_WORDS)}` : line || 'no message'
}

/** Arguments of `setpriv`. The kernel ends the whole process namespace of the program when the agent ends. */
function boundToAgent(script: string, program: string, args: readonly string[]): readonly string[] {
  return [
    ...['--pdeathsig', 'KILL', '--', 'unshare', ...WITHOUT_ROOT],
    ...['--pid', '--fork', '--kill-child=KILL', '--'],
    ...['/bin/sh', '-c', script, 'sh', program, ...args],
  ]
}

function hexDigit(value: number): number {
  return value < 10 ? 0x30 + value : 0x57 + value
}

/** Writes the key to a descriptor of the child, if it started, closes it, and erases the octets. */
function sendKey(child: ChildProcess, descriptor: number, octets: Uint8Array): void {
  if (child.pid === undefined) {
    octets.fill(0)
    return
  }
  const stream = child.stdio[descriptor]
  if (!(stream instanceof Writable)) throw new TypeError(`descriptor ${descriptor} is no pipe`)
  // a program that ended without reading its key says why itself
  stream.on('error', () => undefined)
  stream.end(view(octets), () => octets.fill(0))
  stream.on('close', () => octets.fill(0))
}

interface Ended {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

function ended(child: ChildProcess, program: string, options: RunOptions): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const stdout: Buffer[] = []
    const stderr: Buffer[] = []
    let octets = 0
    let failure: unknown
    const end = (reason: unknown) => {
      failure ??= reason
      child.kill('SIGKILL')
    }
    const stop = (what: string) => end(programFailed(program, what))
    const onAbort = () => end(options.signal?.reason)
    options.signal?.addEventListener('abort', onAbort, { once: true })
    const timer = setTimeout(
      () => stop(`did not end in ${options.timeoutMs} ms`),
      options.timeoutMs,
    )
    const collect = (into: Buffer[]) => (chunk: Buffer) => {
      octets += chunk.length
      if (octets > MAX_OUTPUT_OCTETS) return stop(`wrote more than ${MAX_OUTPUT_OCTETS} octets`)
      into.push(chunk)
      options.onOutput?.(chunk.toString('latin1'))
    }
    child.stdout?.on('data', collect(stdout))
    child.stderr?.on('data', collect(stderr))
    const settle = () => {
      clearTimeout(timer)
      options.signal?.removeEventListener('abort', onAbort)
    }
    child.on('error', (cause) => {
      settle()
      reject(programFailed(program, `cannot be started: ${messageOf(cause)}`, cause))
    })
    child.on('close', (exitCode, signal) => {
      settle()
      if (failure !== undefined) return reject(failure)
      if (exitCode === null) return reject(programFailed(program, `was ended by ${signal}`))
      resolve({
        exitCode,
        stdout: Buffer.concat(stdout).toString('latin1'),
        stderr: Buffer.concat(stderr).toString('latin1'),
      })
    })
  })
}
