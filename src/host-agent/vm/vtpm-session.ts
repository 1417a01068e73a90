import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { concat, parseUtf8 } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { ByteReader, ByteWriter } from '../../core/reader.js'
import type { Secret } from '../../core/secret.js'
import { isListening } from './listening-socket.js'
import { type Programs, programFailed, type Ran, runProgram } from './programs.js'

const TIMEOUT_MS = 60_000
const POLL_MS = 5
const TPM_HEADER_OCTETS = 10
const MAX_RESPONSE_OCTETS = 4096

/** A virtual TPM of a stopped VM that was started for commands of ours, without QEMU. */
export interface VtpmSession {
  /** Sends one command and returns the whole response. Commands go one after another. */
  transmit(command: Uint8Array): Promise<Uint8Array>
  /** What swtpm says of itself, as in certificates: JSON text. */
  information(): Promise<string>
}

/**
 * Starts swtpm on a state that was checked, after TPM2_Startup(CLEAR), for as long as `use` takes. The TPM counts it as a
 * reset. swtpm ends with the call, and with this process.
 *
 * @param options.stateDirectory with the state; swtpm writes it there at each change, and does not bring it to the disk
 * @param options.socketDirectory private; two sockets are made there and removed
 * @throws PlatformError `VM_PROCESS`
 */
export async function withVtpm<T>(
  options: {
    readonly programs: Programs
    readonly stateDirectory: string
    readonly socketDirectory: string
    readonly dek: Secret
  },
  use: (session: VtpmSession) => Promise<T>,
): Promise<T> {
  const { programs, stateDirectory, socketDirectory, dek } = options
  const dataPath = `${socketDirectory}/t`
  const controlPath = `${socketDirectory}/c`
  const controller = new AbortController()
  const { signal } = controller
  const args = sessionArguments(stateDirectory, dataPath, controlPath)
  const run = { key: dek, keyAt: 'descriptor-3', timeoutMs: TIMEOUT_MS, signal } as const
  const ended = runProgram(programs.swtpm, args, run)
  // awaited below; not to be taken for unhandled until then
  ended.catch(() => undefined)
  try {
    await untilListening([dataPath, controlPath], ended, programs.swtpm)
    const control = await open(controlPath)
    const data = await open(dataPath)
    try {
      const result = await use({
        transmit: (command) => exchange(data, command, tpmResponseOctets),
        information: () => informationFrom(control),
      })
      // swtpm ends when its client is gone
      data.destroy()
      control.destroy()
      await ended
      return result
    } finally {
      data.destroy()
      control.destroy()
    }
  } finally {
    controller.abort(new PlatformError('VM_PROCESS', 'swtpm was ended'))
    await ended.catch(() => undefined)
  }
}

function sessionArguments(state: string, data: string, control: string): readonly string[] {
  return [
    ...['socket', '--tpm2', '--tpmstate', `dir=${state},mode=0600`],
    ...['--server', `type=unixio,path=${data},mode=0600`],
    ...['--ctrl', `type=unixio,path=${control},mode=0600`],
    ...['--flags', 'not-need-init,startup-clear', '--terminate'],
    ...['--key', 'fd=3,mode=aes-256-cbc,format=hex'],
  ]
}

async function untilListening(
  paths: readonly string[],
  ended: Promise<Ran>,
  program: string,
): Promise<void> {
  let end: Ran | undefined
  let failure: unknown
  ended.then(
    (ran) => {
      end = ran
    },
    (error: unknown) => {
      failure = error
    },
  )
  for (;;) {
    if (failure !== undefined) throw failure
    if (end) throw programFailed(program, `ended with ${end.exitCode}: ${end.words}`)
    const listening = await Promise.all(paths.map(isListening))
    if (listening.every((one) => one)) return
    await delay(POLL_MS)
  }
}

function open(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.off('error', reject)
      // the read that goes on tells of it
      socket.on('error', () => undefined)
      resolve(socket)
    })
    socket.once('error', reject)
  })
}

/** Writes a message and reads until `lengthOf` says that the answer is whole. */
function exchange(
  socket: Socket,
  message: Uint8Array,
  lengthOf: (octets: Uint8Array) => number | undefined,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    let answer = new Uint8Array()
    const settle = () => {
      socket.off('data', onData)
      socket.off('close', onClose)
    }
    const onData = (chunk: Buffer) => {
      answer = concat(answer, chunk) as typeof answer
      const length = lengthOf(answer)
      if (answer.length > MAX_RESPONSE_OCTETS || (length ?? 0) > MAX_RESPONSE_OCTETS) {
        settle()
        reject(programFailed('swtpm', `answered more than ${MAX_RESPONSE_OCTETS} octets`))
      } else if (length !== undefined && answer.length >= length) {
        settle()
        resolve(answer.subarray(0, length))
      }
    }
    const onClose = () => {
      settle()
      reject(programFailed('swtpm', 'ended in the middle of a command'))
    }
    if (socket.destroyed) return onClose()
    socket.on('data', onData)
    socket.on('close', onClose)
    socket.write(message)
  })
}

/** @see TPM 2.0 Library, Part 1, clause 18.3 (response header: tag, size, code) */
function tpmResponseOctets(octets: Uint8Array): number | undefined {
  if (octets.length < TPM_HEADER_OCTETS) return undefined
  return new ByteReader(octets.subarray(2, 6), 'big').u32()
}

/** `CMD_GET_INFO` of the control channel of swtpm. @see swtpm, man page swtpm_ioctls(3), PTM_GET_INFO */
async function informationFrom(control: Socket): Promise<string> {
  const GET_INFO = 18
  const TPM_SPECIFICATION = 1
  const TPM_ATTRIBUTES = 2
  const wanted = TPM_SPECIFICATION | TPM_ATTRIBUTES
  const request = new ByteWriter('big').u32(GET_INFO).u32(0).u32(wanted).u32(0).u32(0)
  const headerOctets = 12
  const answer = await exchange(control, request.finish(), (octets) =>
    octets.length < headerOctets
      ? undefined
      : headerOctets + new ByteReader(octets.subarray(8, 12), 'big').u32(),
  )
  const reader = new ByteReader(answer, 'big')
  const result = reader.u32()
  if (result !== 0) throw programFailed('swtpm', `refused to say what it is: ${result}`)
  reader.u32()
  const text = reader.take(reader.u32())
  const end = text.indexOf(0)
  return parseUtf8(end < 0 ? text : text.subarray(0, end))
}
