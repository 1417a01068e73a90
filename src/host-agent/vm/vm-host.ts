import type { Assurance } from '../../api/key-provider.js'
import { type Clock, isoTime } from '../../core/clock.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import { isUuid } from '../../core/names.js'
import { readLibvirtRecord } from '../libvirt/record.js'
import { readBundle } from './disk-bundle.js'
import { KeyReleases } from './key-releases.js'
import { KeyedQueue } from './keyed-queue.js'
import { lockReasonOf, removeLock, writeLock } from './lock.js'
import { settleChange } from './pending-change.js'
import type { Inventory, KeyClient, VtpmWitness } from './ports.js'
import { isAlive, watchProcess } from './processes.js'
import type { Programs } from './programs.js'
import type { Home, RunRecord } from './records.js'
import { findRunning, isUnsettled, settleMachine } from './run.js'
import { isRunning } from './running.js'
import { unplugOthersIfRunning } from './running-disks.js'
import { Slots } from './slots.js'
import { countSnapshots } from './snapshot-files.js'
import { type KeyObject, unwrapKeys, VmKeys } from './vm-keys.js'
import { allKeys } from './vm-parts.js'
import { VmReports } from './vm-reports.js'
import { type StoredVm, VmStore } from './vm-store.js'
import { type RollbackPolicy, VtpmStates } from './vtpm-states.js'

/** Most of the time of a manufacture is waiting: more than processors, and not so many that each takes long. */
const VTPMS_AT_ONCE = 8

/** Which VMs an operation is for that others are not for. */
interface AlsoFor {
  /** Those that were handed over to another host. */
  readonly evenExported?: boolean
  /** Those that have snapshots, which are of the same keys and parts as their VM. */
  readonly withSnapshots?: boolean
}

export interface VmHostOptions {
  readonly directory: string
  /** Others of the agent: nothing that is asked for by its path may be there. */
  readonly closedDirectories: readonly string[]
  readonly programs: Programs
  readonly keys: KeyClient
  readonly inventory: Inventory
  readonly clock: Clock
  readonly logger: Logger
  /** With which keys are unwrapped. */
  readonly assurance: Assurance
  /** A VM was locked: somebody should try again. */
  readonly onLocked: () => void
  readonly vtpmRollback: RollbackPolicy
  readonly vtpmWitness: VtpmWitness | undefined
}

/** What all operations on the VMs of one host have in common: who may do what when, and keys for one operation. */
export class VmHost implements Disposable {
  readonly store: VmStore
  readonly closedDirectories: readonly string[]
  readonly programs: Programs
  readonly keys: KeyClient
  readonly assurance: Assurance
  readonly clock: Clock
  readonly logger: Logger
  readonly releases: KeyReleases
  readonly inventory: Inventory
  readonly reports: VmReports
  readonly vtpmStates: VtpmStates
  /** For the manufacture of virtual TPMs. */
  readonly vtpmSlots = new Slots(VTPMS_AT_ONCE)
  readonly #onLocked: () => void
  readonly #queue = new KeyedQueue()
  readonly #watches = new Map<string, Disposable>()
  readonly #settling = new Map<string, Promise<void>>()
  /** By id: the long operation on a VM that is under way. */
  readonly #claims = new Map<string, string>()

  constructor(options: VmHostOptions) {
    this.store = new VmStore(options.directory, options.logger)
    this.closedDirectories = [options.directory, ...options.closedDirectories]
    this.programs = options.programs
    this.keys = options.keys
    this.assurance = options.assurance
    this.clock = options.clock
    this.logger = options.logger
    this.releases = new KeyReleases(options.directory, options.keys, options.logger)
    this.vtpmStates = new VtpmStates({
      ...{ store: this.store, logger: options.logger },
      ...{ rollback: options.vtpmRollback, witness: options.vtpmWitness },
    })
    this.inventory = options.inventory
    this.reports = new VmReports(this)
    this.#onLocked = options.onLocked
  }

  /** Runs what makes a VM of this name when operations on it that came before are done. */
  onName<T>(name: string, task: () => Promise<T>): Promise<T> {
    return this.#queue.run(name, task)
  }

  /**
   * As `onName`, with the VM, by its name or its id. A change that was not ended is ended first. It may be in a long
   * operation.
   */
  async onVm<T>(ref: string, task: (vm: StoredVm) => Promise<T>): Promise<T> {
    // No VM has the name of an id
    const name = isUuid(ref) ? (await this.store.find(ref)).descriptor.name : ref
    return this.#queue.run(name, async () => {
      const vm = await this.store.find(ref)
      if (this.#claims.has(vm.descriptor.vmId)) return task(vm)
      return task((await this.settleChange(vm)) === 'none' ? vm : await this.store.find(ref))
    })
  }

  /** As `onVm`, for operations that need the VM for themselves. @throws PlatformError `VM_BUSY`, `VM_EXPORTED` */
  onFreeVm<T>(
    name: string,
    task: (vm: StoredVm) => Promise<T>,
    { evenExported = false }: AlsoFor = {},
  ): Promise<T> {
    return this.onVm(name, (vm) => {
      this.#requireFree(vm)
      if (vm.exported && !evenExported) {
        throw new PlatformError('VM_EXPORTED', `VM ${name} was handed over to another host`)
      }
      return task(vm)
    })
  }

  /**
   * Runs a long operation on a VM, which is stopped unless the operation is one for which it may run. It can be listed and
   * shown meanwhile; all else is refused with `VM_BUSY`. Wrapped keys that it drops are released.
   *
   * @throws PlatformError `VM_BUSY`, `VM_RUNNING`, `VM_EXPORTED`, `VM_SNAPSHOTS`, `VM_HAND_OVER`
   */
  async claim<T>(
    name: string,
    operation: string,
    task: (vm: StoredVm) => Promise<T>,
    alsoFor: AlsoFor & { readonly mayRun?: boolean } = {},
  ): Promise<T> {
    const check = async (vm: StoredVm): Promise<void> => {
      if (!alsoFor.mayRun || !(await findRunning(vm.paths))) await this.requireStopped(vm)
      if (!alsoFor.withSnapshots && (await countSnapshots(vm.paths)) > 0) {
        throw new PlatformError('VM_SNAPSHOTS', `remove the snapshots of VM ${name} first`)
      }
      await this.requireOurs(vm)
    }
    const work = async (vm: StoredVm): Promise<T> => {
      const before = await this.store.readKeys(vm)
      try {
        return await task(vm)
      } finally {
        // Those that are still in its records are kept.
        await this.releases.noteRecords(vm.descriptor.vmId, before)
        void this.releases.flush()
      }
    }
    return this.hold(name, operation, work, { ...alsoFor, check })
  }

  /**
   * A copy of the files of a VM of another host is not started, since that VM may run, and not changed, since it needs the
   * keys that would be replaced here. Where the inventory cannot be asked, what is here counts.
   *
   * @throws PlatformError `VM_HAND_OVER`
   */
  async requireOurs(vm: StoredVm): Promise<void> {
    if (vm.exported || !(await this.reports.isOfOtherHost(vm))) return
    throw new PlatformError(
      'VM_HAND_OVER',
      `VM ${vm.descriptor.name} is of another host, and this is a copy of its files: delete it, or export it there and import it here`,
    )
  }

  /**
   * As `claim`, of a VM in any state that passes a check, for an operation that drops no keys.
   *
   * @param options.check done when it is the turn of the operation, with what it throws
   * @throws PlatformError `VM_BUSY`, `VM_EXPORTED`
   */
  async hold<T>(
    name: string,
    operation: string,
    task: (vm: StoredVm) => Promise<T>,
    options: AlsoFor & { readonly check?: (vm: StoredVm) => Promise<void> } = {},
  ): Promise<T> {
    const take = async (free: StoredVm) => {
      await options.check?.(free)
      this.#claims.set(free.descriptor.vmId, operation)
      return free
    }
    const vm = await this.onFreeVm(name, take, options)
    try {
      return await task(vm)
    } finally {
      this.#claims.delete(vm.descriptor.vmId)
    }
  }

  /**
   * Opens the keys of some objects and the home for one operation, and erases them after it. A stopped VM is locked when
   * its keys cannot be had, and unlocked when all of them can.
   */
  async withKeys<T>(
    vm: StoredVm,
    objects: readonly KeyObject[],
    use: (home: Home, keys: VmKeys) => Promise<T>,
    assurance: Assurance = this.assurance,
  ): Promise<T> {
    const { vmId, provider } = vm.descriptor
    const records = await this.store.readKeys(vm)
    const request = { vmId, objects, records, assurance }
    using opened =
      provider === undefined
        ? new VmKeys(new Map())
        : await unwrapKeys(this.keys, { ...request, provider }).catch(async (error: unknown) => {
            await this.lock(vm, error)
            throw error
          })
    if (allKeys(vm.descriptor).every((object) => objects.includes(object))) await this.#unlock(vm)
    return await use(await this.store.readHome(vm, opened, records), opened)
  }

  /** Locks a VM whose keys cannot be had for this error. One that runs, or is plain, is not locked. */
  async lock(vm: StoredVm, error: unknown): Promise<void> {
    const { vmId, name, provider } = vm.descriptor
    const reason = lockReasonOf(error)
    if (reason === undefined || provider === undefined || vm.exported) return
    if (await isRunning(vm.paths)) return
    if (!(await writeLock(vm.paths, error, reason, isoTime(this.clock.nowMs())))) return
    this.logger.warn({ event: 'vm.locked', vmId, name, reason, err: error }, 'a VM is locked')
    // whom the authority does not hear, or does not believe, tells it later
    const isHeard = reason !== 'refused' && !isPlatformError(error, 'AUTHORITY_UNREACHABLE')
    if (isHeard) await this.reports.tell(vm)
    else this.reports.tellLater(vm)
    this.#onLocked()
  }

  /** The end of a run that was watched was seen, whoever ended it. Whoever comes while it is settled waits for that. */
  settle(vm: StoredVm): Promise<void> {
    const { vmId, vtpm } = vm.descriptor
    const underWay = this.#settling.get(vmId)
    if (underWay !== undefined) return underWay
    const watch = this.#watches.get(vmId)
    watch?.[Symbol.dispose]()
    this.#watches.delete(vmId)
    const settled = settleMachine(vm.paths, vtpm, { wasSeen: watch !== undefined }).finally(() =>
      this.#settling.delete(vmId),
    )
    this.#settling.set(vmId, settled)
    return settled
  }

  /** A guest that powered itself off leaves a vTPM state to be recorded. */
  watch(vm: StoredVm, { qemu, swtpm }: RunRecord): void {
    const { vmId, name } = vm.descriptor
    const settleEnded = async () => {
      if ((await findRunning(vm.paths)) || !(await isUnsettled(vm.paths))) return
      // it may have been given disks, or another provider, while it ran
      const ended = await this.store.find(vmId)
      await this.settle(ended)
      this.logger.info({ event: 'vm.ended', vmId, name }, 'a VM ended')
      await this.reports.tell(ended)
    }
    const onEnd = () => {
      this.#queue.run(name, settleEnded).catch((error: unknown) => {
        const reason = messageOf(error)
        this.logger.error({ event: 'vm.settle-failed', vmId, reason }, 'a VM could not be settled')
      })
    }
    const onVtpmEnd = async () => {
      if (!(await isAlive(qemu))) return
      const message =
        'the virtual TPM of a VM ended before it: the VM has to be stopped and started'
      this.logger.error({ event: 'vm.vtpm-ended', vmId, name }, message)
    }
    const watches = [
      watchProcess(qemu, onEnd),
      ...(swtpm ? [watchProcess(swtpm, () => void onVtpmEnd())] : []),
    ]
    this.#watches.set(vmId, {
      [Symbol.dispose]: () => {
        for (const watch of watches) watch[Symbol.dispose]()
      },
    })
  }

  /** @throws PlatformError `VM_RUNNING`; `VM_IN_LIBVIRT` where not the agent runs the VM, stopped or not */
  async requireStopped(vm: StoredVm): Promise<void> {
    if (await readLibvirtRecord(vm.paths)) {
      const { name } = vm.descriptor
      throw new PlatformError('VM_IN_LIBVIRT', `libvirt runs VM ${name}: undefine it there first`)
    }
    const record = await findRunning(vm.paths)
    if (record) {
      const { name } = vm.descriptor
      throw new PlatformError('VM_RUNNING', `VM ${name} runs as process ${record.qemu.pid}`)
    }
    if (await isUnsettled(vm.paths)) await this.settle(vm)
  }

  /** Ends a change that was begun and not ended; wrapped keys that are of no use then are released. */
  async settleChange(vm: StoredVm): Promise<'none' | 'completed' | 'undone'> {
    const { vmId, name } = vm.descriptor
    const records = await this.store.readKeysOfChange(vm)
    const taken = await readBundle(`${vm.paths.change}/take`).catch(() => undefined)
    const outcome = await settleChange(this.programs, vm.paths)
    if (outcome === 'none') return outcome
    await this.releases.noteRecords(vmId, records)
    if (outcome === 'completed' && taken) await this.releases.noteBundle(taken)
    await this.#unplugOthers(vm).catch((error: unknown) => {
      const reason = messageOf(error)
      this.logger.error({ event: 'vm.unplug-failed', vmId, reason }, 'a VM has a disk too many')
    })
    this.logger.warn(
      { event: `vm.change-${outcome}`, vmId, name },
      `an unfinished change of a VM was ${outcome}`,
    )
    return outcome
  }

  [Symbol.dispose](): void {
    for (const watch of this.#watches.values()) watch[Symbol.dispose]()
    this.#watches.clear()
  }

  async #unlock(vm: StoredVm): Promise<void> {
    const { vmId, name } = vm.descriptor
    // an alarm that could not be told is told before its end
    if (this.reports.isUntold(vm)) await this.reports.tell(vm)
    if (!(await removeLock(vm.paths))) return
    this.logger.info({ event: 'vm.unlocked', vmId, name }, 'a VM is unlocked')
    await this.reports.tell(vm)
  }

  /** Takes away the disks that a VM which runs was given and which did not become disks of it after all. */
  async #unplugOthers({ descriptor, paths }: StoredVm): Promise<void> {
    const { disks } = (await this.store.find(descriptor.name)).descriptor
    await unplugOthersIfRunning(
      paths,
      disks.map(({ name }) => name),
    )
  }

  #requireFree({ descriptor: { vmId, name } }: StoredVm): void {
    const operation = this.#claims.get(vmId)
    if (operation !== undefined) {
      throw new PlatformError(
        'VM_BUSY',
        `VM ${name} is in the operation ${operation}: wait for its end, or cancel its task`,
      )
    }
  }
}
