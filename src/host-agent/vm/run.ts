import type { ChildProcess } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import { isPlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import type { Firmware } from './accelerator.js'
import { checkDiskFile, diskFileOf } from './disk-file.js'
import { isThere, makePrivateDirectory, readPrivateFile, replacePrivateFile } from './files.js'
import type { VmPaths } from './layout.js'
import { isListening } from './listening-socket.js'
import type { MachineShape } from './machine-shape.js'
import { openNvram } from './nvram.js'
import { openDisk } from './open-disk.js'
import { removeTree } from './own-directory.js'
import {
  endProcess,
  identify,
  identifyByPidFile,
  isAlive,
  isAliveWith,
  waitForEnd,
} from './processes.js'
import { launchProgram, type Programs, programFailed, shorten } from './programs.js'
import { qemuArguments, swtpmArguments } from './qemu-arguments.js'
import { checkNoSecretLeft, plugDisk, plugNvram } from './qemu-disks.js'
import { Qmp } from './qmp.js'
import {
  type Accelerator,
  encodeRecord,
  type Home,
  type ProcessIdentity,
  RunRecord,
  readRecord,
} from './records.js'
import type { VmKeys } from './vm-keys.js'
import { checkVtpm, markVtpmRunning, markVtpmStopped } from './vtpm-record.js'

const POLL_MS = 10
const LISTEN_TIMEOUT_MS = 20_000
const QUIT_TIMEOUT_MS = 10_000
/** How long a QEMU that closed its socket may take to be gone. */
const ENDING_MS = 1_000
const KILL_TIMEOUT_MS = 5_000
const MAX_LOG_OCTETS = 1024 * 1024

export interface Machine {
  readonly vmId: string
  readonly paths: VmPaths
  readonly home: Home
}

interface Program {
  readonly path: string
  readonly args: readonly string[]
  readonly logFile: string
  /** It has started when it listens there. */
  readonly socket: string
  readonly keys?: readonly Secret[]
}

/**
 * Starts the programs of a VM that is stopped. They outlive the agent.
 *
 * The guest runs only when every key has been taken out of QEMU's reach again. On failure all programs are ended and
 * the VM is as before.
 *
 * @param options.onStep called before each of the steps `vtpm`, `qemu`, `disks`, `run`
 * @throws PlatformError `VTPM_STATE_…`, `VM_DISK_CORRUPT`, `VM_NVRAM_CORRUPT`, `VM_KEY_WRONG`, `VM_PROCESS`
 */
export async function startMachine(
  machine: Machine,
  options: {
    readonly programs: Programs
    readonly firmware: Firmware
    readonly accelerator: Accelerator
    readonly lockMemory?: boolean
    readonly keys: VmKeys
    readonly onStep: (step: string) => void
    /**
     * What the QEMU was like whose state comes, with that of the virtual TPM: the guest is not run yet, and there is no run
     * record. Else the newest machine is taken, and the guest sees its disks in their order.
     */
    readonly incoming?: MachineShape
  },
): Promise<RunRecord> {
  const { paths, home } = machine
  const { programs, firmware, accelerator, lockMemory = false, keys, onStep } = options
  const { incoming } = options
  for (const disk of home.disks) await checkDiskFile(diskFileOf(paths, disk))
  if (home.vtpm && !incoming) await checkVtpm(paths, keys.of('vtpm'))
  using nvram = await openNvram(machine, keys)
  await makePrivateDirectory(paths.run)
  const started: ProcessIdentity[] = []
  const launch = async (program: Program): Promise<ProcessIdentity> => {
    const child = await launchProgram(program.path, program.args, program)
    child.unref()
    const identity = child.pid === undefined ? undefined : await identify(child.pid)
    if (identity) started.push(identity)
    await untilListening(child, program)
    if (!identity) throw programFailed(program.path, `ended: ${await wordsOf(program.logFile)}`)
    return identity
  }
  try {
    let swtpm: ProcessIdentity | undefined
    if (home.vtpm) {
      onStep('vtpm')
      await markVtpmRunning(paths)
      swtpm = await launch({
        path: programs.swtpm,
        args: swtpmArguments(paths),
        logFile: paths.swtpmLog,
        socket: paths.tpmSocket,
        keys: [keys.of('vtpm'), keys.of('vtpm-migration')],
      })
    }
    onStep('qemu')
    const qemu = await launch({
      path: programs.qemuSystem,
      args: qemuArguments({
        ...{ ...machine, accelerator, firmware, lockMemory },
        ...(incoming ? { incoming: incoming.machine } : {}),
      }),
      logFile: paths.qemuLog,
      socket: paths.qmpSocket,
    })
    const explain = async (cause: unknown): Promise<never> => {
      // It listens before it reads all of its arguments and makes the machine: what it says at its end is the reason.
      if (isPlatformError(cause, 'VM_NVRAM_CORRUPT')) throw cause
      await waitForEnd(qemu, ENDING_MS)
      if (await isAlive(qemu)) throw cause
      throw programFailed(programs.qemuSystem, `ended: ${await wordsOf(paths.qemuLog)}`)
    }
    await using qmp = await Qmp.connect(paths.qmpSocket).catch(explain)
    await plugNvram(qmp, nvram).catch(explain)
    onStep('disks')
    const placeOf = (name: string) => incoming?.disks.find((disk) => disk.name === name)?.index
    for (const [index, disk] of home.disks.entries()) {
      await plugDisk(qmp, placeOf(disk.name) ?? index, disk.name, openDisk(paths, disk, keys))
    }
    await checkNoSecretLeft(qmp)
    const record: RunRecord = { format: 1, accelerator, qemu, ...(swtpm ? { swtpm } : {}) }
    if (incoming) return record
    onStep('run')
    await qmp.execute('cont')
    await replacePrivateFile(paths.run, 'run.json', encodeRecord(record))
    return record
  } catch (error) {
    for (const identity of started.reverse()) await endProcess(identity, KILL_TIMEOUT_MS)
    await settleMachine(paths, home.vtpm, { wasSeen: true })
    throw error
  }
}

/** How long a guest may take to power off. */
export interface Grace {
  readonly seconds: number
  /** Ends the waiting: the VM runs on, unless its guest does what it was asked to. */
  readonly signal?: AbortSignal | undefined
}

/**
 * Asks the guest to power off, then ends QEMU in order. Whatever runs on is for `settleMachine`, to be called next.
 *
 * @param onStep called before each of the steps `shutdown`, `power-off`
 * @throws the reason of the signal while the guest has time
 */
export async function stopMachine(
  paths: VmPaths,
  record: RunRecord,
  { seconds, signal }: Grace,
  onStep: (step: string) => void = () => undefined,
): Promise<void> {
  onStep('shutdown')
  if (seconds > 0) {
    await tell(paths, 'system_powerdown')
    await waitForEnd(record.qemu, seconds * 1000, signal)
  }
  onStep('power-off')
  if (await isAlive(record.qemu)) {
    await tell(paths, 'quit')
    await waitForEnd(record.qemu, QUIT_TIMEOUT_MS)
  }
}

/** The run record of a VM whose start was finished and whose QEMU is alive. */
export async function findRunning(paths: VmPaths): Promise<RunRecord | undefined> {
  const record = await readRunRecord(paths)
  if (!record || (await isAliveWith(record.qemu, paths.run))) return record
  return findPrograms(paths)
}

/** Whether a run was begun and not settled: by a VM that runs, or by a crash. */
export function isUnsettled(paths: VmPaths): Promise<boolean> {
  return isThere(paths.run)
}

/**
 * Ends what still runs of a VM, records the state of its vTPM and removes what belongs to the run.
 *
 * Only processes that were started for this VM are ended: by their recorded identity or a pid file of theirs, with the
 * directory of the VM on their command line.
 *
 * @param run.wasSeen whether this process saw all of the run, so that the state which is there is the one it left
 * @throws PlatformError `VM_PROCESS` when one does not end
 */
export async function settleMachine(
  paths: VmPaths,
  hasVtpm: boolean,
  run: { readonly wasSeen: boolean },
): Promise<void> {
  const record = await readRunRecord(paths)
  const ofVm = async (recorded: ProcessIdentity | undefined, pidFile: string) =>
    recorded && (await isAliveWith(recorded, paths.run))
      ? recorded
      : identifyByPidFile(pidFile, paths.run)
  const qemu = await ofVm(record?.qemu, paths.qemuPid)
  const swtpm = await ofVm(record?.swtpm, paths.swtpmPid)
  if (qemu && !(await endProcess(qemu, KILL_TIMEOUT_MS))) {
    throw programFailed('qemu', `(process ${qemu.pid}) does not end`)
  }
  if (swtpm) {
    // it ends by itself when QEMU has closed the connection
    if (qemu || record) await waitForEnd(swtpm, KILL_TIMEOUT_MS)
    if (!(await endProcess(swtpm, KILL_TIMEOUT_MS))) {
      throw programFailed('swtpm', `(process ${swtpm.pid}) does not end`)
    }
  }
  if (hasVtpm) await markVtpmStopped(paths, run.wasSeen)
  await removeTree(paths.run)
}

/** A QEMU that does not answer is ended by `settleMachine`. */
async function tell(paths: VmPaths, command: 'system_powerdown' | 'quit'): Promise<void> {
  try {
    await using qmp = await Qmp.connect(paths.qmpSocket)
    await qmp.execute(command)
  } catch (error) {
    if (!isPlatformError(error, 'VM_PROCESS')) throw error
  }
}

async function untilListening(child: ChildProcess, program: Program): Promise<void> {
  const end = performance.now() + LISTEN_TIMEOUT_MS
  for (; performance.now() < end; await delay(POLL_MS)) {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) break
    if (await isListening(program.socket)) return
  }
  throw programFailed(program.path, `does not listen: ${await wordsOf(program.logFile)}`)
}

/** The last that a program said of itself, shortened. */
export async function wordsOf(logFile: string): Promise<string> {
  const log = await readPrivateFile(logFile, MAX_LOG_OCTETS).catch(() => undefined)
  return shorten(Buffer.from(log ?? []).toString('latin1'))
}

/** The record, or where it cannot be read what the programs that run say of themselves: a start was finished either way. */
async function readRunRecord(paths: VmPaths): Promise<RunRecord | undefined> {
  if (!(await isThere(paths.runRecord))) return undefined
  return readRecord(paths.runRecord, RunRecord, 'run.json').catch(() => findPrograms(paths))
}

async function findPrograms(paths: VmPaths): Promise<RunRecord | undefined> {
  const qemu = await identifyByPidFile(paths.qemuPid, paths.run)
  if (!qemu) return undefined
  const swtpm = await identifyByPidFile(paths.swtpmPid, paths.run)
  const isKvm = (await identifyByPidFile(paths.qemuPid, 'accel=kvm')) !== undefined
  return { format: 1, accelerator: isKvm ? 'kvm' : 'tcg', qemu, ...(swtpm ? { swtpm } : {}) }
}
