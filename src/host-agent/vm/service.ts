import type { KeyView, VmCreate, VmDetails } from '../../api/host-agent.js'
import type { Assurance } from '../../api/key-provider.js'
import type { Clock } from '../../core/clock.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import { isName } from '../../core/names.js'
import { DEFAULT_FIRMWARE, type Firmware, findKvmDefect } from './accelerator.js'
import { type CreateDeps, createVm } from './create-vm.js'
import { checkVolume, readDisk } from './disk.js'
import { KeyedQueue } from './keyed-queue.js'
import type { Inventory, KeyClient, OnProgress, VtpmCertifier } from './ports.js'
import { watchProcess } from './processes.js'
import { DEFAULT_PROGRAMS, type Programs } from './programs.js'
import { Progress } from './progress.js'
import type { Accelerator, Home, KeyRecord, RunRecord } from './records.js'
import { removeVmDirectory } from './remove-vm.js'
import { findRunning, isUnsettled, settleMachine, startMachine, stopMachine } from './run.js'
import { type KeyObject, keyObjects, unwrapKeys, type VmKeys } from './vm-keys.js'
import { checkSpec } from './vm-spec.js'
import { type StoredVm, VmStore } from './vm-store.js'
import { readVtpmCertificates } from './vtpm.js'

const MAX_READ_OCTETS = 1024 * 1024
const DEFAULT_GRACE_SECONDS = 30
const START_STEPS = 6
const STOP_STEPS = 3

type Size = Pick<Home, 'memoryMib' | 'cpus'>

export interface VmServiceOptions {
  /** Absolute; letters, digits, dots and hyphens, at most some 55 of them. It is made if need be. */
  readonly directory: string
  readonly keys: KeyClient
  readonly certifier: VtpmCertifier
  readonly inventory: Inventory
  readonly clock: Clock
  readonly logger: Logger
  /** With which keys are unwrapped to show and start VMs: `session` unless told. */
  readonly assurance?: Assurance
  /** `auto`, the default, takes KVM where a guest really runs under it. */
  readonly accelerator?: Accelerator | 'auto'
  readonly programs?: Partial<Programs>
  readonly firmware?: Firmware
}

/**
 * Encrypted VMs of one host. One service for a directory; operations on one VM go one after another.
 *
 * Every method throws `VM_NOT_FOUND` for a name that no VM has, and errors of the key provider as they are. VMs run on
 * when the service is disposed of.
 */
export interface VmService extends AsyncDisposable {
  /** @throws PlatformError `REQUEST_INVALID`, `VM_EXISTS`, `VM_IMAGE`, `VM_DISK_FULL`, `VM_PROCESS`, `VTPM_…` */
  create(request: VmCreate, onProgress?: OnProgress): Promise<VmDetails>
  /** What is known without keys: no memory, processors or certificates. */
  list(): Promise<readonly VmDetails[]>
  /** @throws PlatformError `VM_HOME_CORRUPT` */
  show(name: string): Promise<VmDetails>
  /** @throws PlatformError `VM_RUNNING`, `VM_KEY_WRONG`, `VM_DISK_CORRUPT`, `VTPM_STATE_…`, `VM_PROCESS` */
  start(name: string, onProgress?: OnProgress): Promise<VmDetails>
  /** @throws PlatformError `VM_STOPPED` */
  stop(
    name: string,
    options?: { readonly graceSeconds?: number | undefined },
    onProgress?: OnProgress,
  ): Promise<VmDetails>
  /** @throws PlatformError `VM_RUNNING` */
  delete(name: string): Promise<void>
  /**
   * Plain octets of a disk of a stopped VM, at most 1 MiB.
   *
   * @throws PlatformError `VM_DISK_NOT_FOUND`, `VM_RUNNING`, `VM_KEY_WRONG`, `VM_DISK_CORRUPT`, `REQUEST_INVALID`
   */
  readDisk(
    name: string,
    disk: string,
    offset: number,
    length: number,
    assurance?: Assurance,
  ): Promise<Uint8Array>
  /** `version` is that of the data key, not of the key that wraps it. */
  listKeys(): Promise<readonly KeyView[]>
  /**
   * To be called once before anything else: removes what an agent left that was ended while it made, started or
   * deleted a VM, takes up VMs that run, and reports all.
   */
  recover(): Promise<void>
}

export function createVmService(options: VmServiceOptions): VmService {
  const { keys, inventory, clock, logger, assurance = 'session' } = options
  const store = new VmStore(options.directory, logger)
  const programs: Programs = { ...DEFAULT_PROGRAMS, ...options.programs }
  const firmware = options.firmware ?? DEFAULT_FIRMWARE
  const queue = new KeyedQueue()
  const watches = new Map<string, Disposable>()
  let accelerator: Promise<Accelerator> | undefined

  const createDeps: CreateDeps = {
    ...{ directory: store.directory, programs, firmware, keys },
    certifier: options.certifier,
    now: () => clock.nowMs(),
  }

  /** Opens the keys of some objects and the home for one operation, and erases them after it. */
  const withKeys = async <T>(
    vm: StoredVm,
    objects: readonly KeyObject[],
    level: Assurance,
    use: (home: Home, keys: VmKeys) => Promise<T>,
  ): Promise<T> => {
    const { vmId, provider } = vm.descriptor
    const records = await store.readKeys(vm)
    const request = { vmId, provider, objects, records, assurance: level }
    using opened = await unwrapKeys(keys, request)
    return await use(await store.readHome(vm, opened, records), opened)
  }

  const chooseAccelerator = (): Promise<Accelerator> => {
    const wanted = options.accelerator ?? 'auto'
    if (wanted !== 'auto') return Promise.resolve(wanted)
    accelerator ??= findKvmDefect(programs, firmware).then((reason) => {
      if (reason === undefined) return 'kvm'
      logger.warn({ event: 'vm.kvm-unusable', reason }, 'KVM does not work: VMs are emulated')
      return 'tcg'
    })
    return accelerator
  }

  const report = async (vm: StoredVm): Promise<void> => {
    const { vmId, name, provider, vtpm, disks } = vm.descriptor
    try {
      const home = (await store.readKeys(vm)).find(({ object }) => object === 'home')
      await inventory.report({
        ...{ vmId, name, provider, vtpm },
        ...(home ? { homeKey: home.wrapped } : {}),
        state: (await findRunning(vm.paths)) ? 'running' : 'stopped',
        disks: disks.map((disk) => ({ ...disk, encrypted: true })),
      })
    } catch (error) {
      const reason = messageOf(error)
      logger.warn({ event: 'vm.report-failed', vmId, reason }, 'a VM could not be reported')
    }
  }

  const settle = async (vm: StoredVm): Promise<void> => {
    watches.get(vm.descriptor.vmId)?.[Symbol.dispose]()
    watches.delete(vm.descriptor.vmId)
    await settleMachine(vm.paths, vm.descriptor.vtpm)
  }

  /** A guest that powered itself off leaves a vTPM state to be recorded. */
  const watch = (vm: StoredVm, { qemu }: RunRecord): void => {
    const { vmId, name } = vm.descriptor
    const settleEnded = async () => {
      if ((await findRunning(vm.paths)) || !(await isUnsettled(vm.paths))) return
      await settle(vm)
      logger.info({ event: 'vm.ended', vmId, name }, 'a VM ended')
      await report(vm)
    }
    const onEnd = () => {
      queue.run(name, settleEnded).catch((error: unknown) => {
        const reason = messageOf(error)
        logger.error({ event: 'vm.settle-failed', vmId, reason }, 'a VM could not be settled')
      })
    }
    watches.set(vmId, watchProcess(qemu, onEnd))
  }

  const requireStopped = async (vm: StoredVm): Promise<void> => {
    const record = await findRunning(vm.paths)
    if (record) {
      const { name } = vm.descriptor
      throw new PlatformError('VM_RUNNING', `VM ${name} runs as process ${record.qemu.pid}`)
    }
    if (await isUnsettled(vm.paths)) await settle(vm)
  }

  const details = async (vm: StoredVm, home?: Size): Promise<VmDetails> => {
    const { vmId, name, provider, vtpm, createdAt } = vm.descriptor
    const record = await findRunning(vm.paths)
    return {
      ...{ vmId, name, provider, vtpm, createdAt, state: record ? 'running' : 'stopped' },
      disks: vm.descriptor.disks.map((disk) => ({ ...disk, format: 'luks1' })),
      ...(home ? { memoryMib: home.memoryMib, cpus: home.cpus } : {}),
      ...(home && vtpm ? { vtpmCertificates: [...(await readVtpmCertificates(vm.paths))] } : {}),
      ...(record ? { accelerator: record.accelerator, pid: record.qemu.pid } : {}),
    }
  }

  /** Runs an operation on a VM when those before it are done. */
  const onVm = <T>(name: string, task: (vm: StoredVm) => Promise<T>): Promise<T> =>
    queue.run(name, async () => task(await store.find(name)))

  const show = (vm: StoredVm): Promise<VmDetails> =>
    withKeys(vm, ['home'], assurance, (home) => details(vm, home))

  return {
    create: (request, onProgress = () => undefined) => {
      const spec = checkSpec(request)
      return queue.run(spec.name, async () => {
        await store.prepare()
        if (await store.has(spec.name)) {
          throw new PlatformError('VM_EXISTS', `VM ${spec.name} exists`)
        }
        const { vmId } = await createVm(createDeps, spec, onProgress)
        logger.info({ event: 'vm.created', vmId, name: spec.name }, 'a VM was made')
        const vm = await store.find(spec.name)
        await report(vm)
        onProgress('done', 100)
        return details(vm, spec)
      })
    },

    list: async () => {
      await store.prepare()
      return Promise.all((await store.list()).map((vm) => details(vm)))
    },

    show: (name) => onVm(name, show),

    start: (name, onProgress = () => undefined) =>
      onVm(name, async (vm) => {
        const { descriptor, paths } = vm
        await requireStopped(vm)
        const progress = new Progress(onProgress, START_STEPS)
        progress.begin('keys')
        const disks = descriptor.disks.map((disk) => disk.name)
        const objects = keyObjects(disks, descriptor.vtpm)
        return withKeys(vm, objects, assurance, async (home, opened) => {
          progress.begin('accelerator')
          const chosen = await chooseAccelerator()
          const record = await startMachine(
            { vmId: descriptor.vmId, paths, home },
            {
              ...{ programs, firmware, accelerator: chosen, keys: opened },
              onStep: (step) => progress.begin(step),
            },
          )
          watch(vm, record)
          logger.info({ event: 'vm.started', vmId: descriptor.vmId, name }, 'a VM was started')
          await report(vm)
          progress.end()
          return details(vm, home)
        })
      }),

    stop: (name, { graceSeconds = DEFAULT_GRACE_SECONDS } = {}, onProgress = () => undefined) =>
      onVm(name, async (vm) => {
        const { descriptor, paths } = vm
        const record = await findRunning(paths)
        if (!record) {
          await requireStopped(vm)
          throw new PlatformError('VM_STOPPED', `VM ${name} does not run`)
        }
        const progress = new Progress(onProgress, STOP_STEPS)
        await stopMachine(paths, record, {
          graceSeconds,
          onStep: (step) => progress.begin(step),
        })
        progress.begin('settle')
        await settle(vm)
        logger.info({ event: 'vm.stopped', vmId: descriptor.vmId, name }, 'a VM was stopped')
        await report(vm)
        progress.end()
        return details(vm)
      }),

    delete: (name) =>
      onVm(name, async (vm) => {
        const { vmId } = vm.descriptor
        await requireStopped(vm)
        await removeVmDirectory(programs, await store.takeAway(vm))
        logger.info({ event: 'vm.deleted', vmId, name }, 'a VM was deleted')
        await inventory.forget(vmId).catch((error: unknown) => {
          const reason = messageOf(error)
          logger.warn({ event: 'vm.report-failed', vmId, reason }, 'a VM could not be forgotten')
        })
      }),

    readDisk: (name, diskName, offset, length, level = assurance) =>
      onVm(name, async (vm) => {
        checkRange(offset, length)
        if (!isName(diskName) || !vm.descriptor.disks.some((disk) => disk.name === diskName)) {
          throw new PlatformError('VM_DISK_NOT_FOUND', `VM ${name} has no such disk`)
        }
        await requireStopped(vm)
        const objects: readonly KeyObject[] = ['home', `disk-${diskName}`]
        return withKeys(vm, objects, level, async (home, opened) => {
          const disk = home.disks.find((candidate) => candidate.name === diskName)
          if (!disk || offset + length > disk.sizeOctets) {
            throw new PlatformError(
              'REQUEST_INVALID',
              `expected octets within the ${disk?.sizeOctets} of disk ${diskName}`,
            )
          }
          const volume = { ...disk, path: vm.paths.disk(diskName) }
          await checkVolume(volume)
          return readDisk(programs, volume, opened.of(`disk-${diskName}`), offset, length)
        })
      }),

    listKeys: async () => {
      await store.prepare()
      const views = (vm: StoredVm, records: readonly KeyRecord[]): readonly KeyView[] =>
        records.map(({ object, purpose, provider, generation }) => ({
          ...{ vmId: vm.descriptor.vmId, object, purpose, provider, version: generation },
        }))
      const vms = await store.list()
      return (await Promise.all(vms.map(async (vm) => views(vm, await store.readKeys(vm))))).flat()
    },

    recover: async () => {
      await store.prepare()
      for (const root of await store.leftovers()) {
        await removeVmDirectory(programs, root)
        logger.warn({ event: 'vm.leftover-removed', root }, 'an unfinished VM was removed')
      }
      for (const vm of await store.list()) {
        await queue.run(vm.descriptor.name, async () => {
          const record = await findRunning(vm.paths)
          if (record) watch(vm, record)
          else if (await isUnsettled(vm.paths)) await settle(vm)
          await report(vm)
        })
      }
    },

    [Symbol.asyncDispose]: async () => {
      for (const one of watches.values()) one[Symbol.dispose]()
      watches.clear()
    },
  }
}

function checkRange(offset: number, length: number): void {
  const isRange = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0
  if (!isRange || length < 1 || length > MAX_READ_OCTETS) {
    throw new PlatformError('REQUEST_INVALID', `expected 1 to ${MAX_READ_OCTETS} octets`)
  }
}
