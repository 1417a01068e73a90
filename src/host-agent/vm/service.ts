import type { KeyView, VmCreate, VmDetails } from '../../api/host-agent.js'
import type { Assurance } from '../../api/key-provider.js'
import type { Clock } from '../../core/clock.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import { isName } from '../../core/names.js'
import { newUuid } from '../../core/random.js'
import { DEFAULT_LIBVIRT, type LibvirtOptions } from '../libvirt/options.js'
import { readLibvirtRecord } from '../libvirt/record.js'
import { createVmLibvirt } from '../libvirt/service.js'
import type { VmLibvirt } from '../libvirt/vm-libvirt.js'
import { DEFAULT_FIRMWARE, type Firmware, findKvmDefect } from './accelerator.js'
import { createVmPolicies, type VmPolicies } from './apply-policy.js'
import { createVmAttachments, type VmAttachments } from './attachments.js'
import { type ClonedVtpm, cloneVm, vtpmOfClone } from './clone-vm.js'
import { type CreateDeps, createVm } from './create-vm.js'
import { createVmDisks, type VmDisks } from './disk-changes.js'
import { diskFileOf, readDiskFile } from './disk-file.js'
import { createVmEncryption, type VmEncryption } from './encryption.js'
import { isThere } from './files.js'
import { pathsOf } from './layout.js'
import { lockReasonOf } from './lock.js'
import { createLockedVms, type LockedVms } from './locked-vms.js'
import { OctetProgress } from './octet-progress.js'
import type { EncryptionOptions } from './part-by-part.js'
import type { Inventory, KeyClient, OnProgress, VtpmCertifier, VtpmWitness } from './ports.js'
import { DEFAULT_PROGRAMS, type Programs } from './programs.js'
import { Progress } from './progress.js'
import { settleReceived } from './receive-vm.js'
import type { Accelerator, Home, KeyRecord } from './records.js'
import { removeVmDirectory } from './remove-vm.js'
import { rewrapVm } from './rewrap.js'
import { findRunning, isUnsettled, startMachine, stopMachine } from './run.js'
import { isRunning } from './running.js'
import { resumeUnsent } from './send-vm.js'
import { removeUnfinishedSnapshots, snapshotNames } from './snapshot-files.js'
import { createVmSnapshots, type VmSnapshots } from './snapshots.js'
import { createUnlockLoop, DEFAULT_UNLOCK_PAUSES, type UnlockPauses } from './unlock-loop.js'
import { factsOf, type VmFacts } from './vm-facts.js'
import { VmHost } from './vm-host.js'
import type { KeyObject, VmKeys } from './vm-keys.js'
import { createVmLive, type VmLive } from './vm-live.js'
import { createVmMoves, type VmMoves } from './vm-moves.js'
import { allKeys, findDisk, homeKey } from './vm-parts.js'
import { createVmRewrap, type VmRewrap } from './vm-rewrap.js'
import { checkSpec, requireNoId } from './vm-spec.js'
import type { StoredVm } from './vm-store.js'
import { createVtpmCertificates, type VmVtpmCertificates } from './vtpm-certificate-changes.js'
import { createVmVtpms, type VmVtpms } from './vtpm-changes.js'
import type { RollbackPolicy } from './vtpm-states.js'

const MAX_READ_OCTETS = 1024 * 1024
const DEFAULT_GRACE_SECONDS = 30
const START_STEPS = 6
const STOP_STEPS = 3
const UUID_CHARACTERS = 36

export interface VmServiceOptions {
  /** Absolute; letters, digits, dots and hyphens, at most some 55 of them. It is made if need be. */
  readonly directory: string
  readonly keys: KeyClient
  readonly certifier: VtpmCertifier
  readonly inventory: Inventory
  readonly clock: Clock
  readonly logger: Logger
  /** That disks are attached from, beside those that were detached here. */
  readonly importDirectories?: readonly string[]
  /** Whether memory of VMs is kept from swap. */
  readonly lockMemory?: boolean
  /** With which keys are unwrapped to show and start VMs: `session` unless told. */
  readonly assurance?: Assurance
  /** `auto`, the default, takes KVM where a guest really runs under it. */
  readonly accelerator?: Accelerator | 'auto'
  /** What becomes of an older state of a virtual TPM that was put back: `refuse` unless told. */
  readonly vtpmRollback?: RollbackPolicy
  /** Without one, only the records beside the states say which is the newest. */
  readonly vtpmWitness?: VtpmWitness
  readonly programs?: Partial<Programs>
  readonly firmware?: Firmware
  /** Between attempts to have the keys of locked VMs; the defaults are for hosts. */
  readonly unlockPauses?: UnlockPauses
  /** From 0 to below 1, for pauses. */
  readonly random?: () => number
  readonly libvirt?: LibvirtOptions
}

/**
 * VMs of one host, encrypted or not. One service for a directory; operations on one VM go one after another.
 *
 * VMs are named by their names or their ids. Every method throws `VM_NOT_FOUND` for one that no VM has, and errors of the key provider as they are. VMs run on
 * when the service is disposed of.
 */
export interface VmService
  extends VmEncryption,
    VmPolicies,
    VmDisks,
    VmVtpms,
    VmVtpmCertificates,
    LockedVms,
    VmMoves,
    VmSnapshots,
    VmLibvirt,
    VmAttachments,
    VmRewrap,
    VmLive,
    AsyncDisposable {
  /** @throws PlatformError `REQUEST_INVALID`, `VM_EXISTS`, `VM_IMAGE`, `VM_DISK_FULL`, `VM_PROCESS`, `VTPM_…` */
  create(request: VmCreate, onProgress?: OnProgress, vmId?: string): Promise<VmDetails>
  /**
   * Makes a VM like a stopped one, with an id and keys of its own. Its virtual TPM is a new one unless told.
   *
   * @throws PlatformError `VM_EXISTS`, `VM_RUNNING`, `VM_BUSY`, `VM_HOME_PLAIN`, and what `encrypt` throws of copies
   */
  clone(
    name: string,
    request: {
      readonly name: string
      readonly vtpm?: ClonedVtpm | undefined
      /** The id that it is to have; else a new one. */
      readonly vmId?: string | undefined
    },
    options?: EncryptionOptions,
  ): Promise<VmDetails>
  /** What is known without keys: no memory, processors or certificates. */
  list(): Promise<readonly VmDetails[]>
  /**
   * A VM whose keys cannot be had now is shown as far as it is known without them.
   *
   * @throws PlatformError `VM_HOME_CORRUPT`
   */
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
  /**
   * Has the keys of all VMs wrapped anew, or of those of one provider, one VM after the other. Ended anywhere, it can be
   * called again and goes on. What a VM keeps from it does not keep it from the others.
   *
   * @throws PlatformError the first of the key provider, or `VM_BUSY`, when all were tried
   */
  rewrapKeys(provider: string | undefined, onProgress?: OnProgress): Promise<void>
  /** Tells the inventory what it could not be told before. Never throws. */
  reportUntold(): Promise<void>
  /** Tells key providers of wrapped keys that are not needed any more, as far as they can be told now. */
  settleReleases(): Promise<void>
  /** What can be seen of a VM without its keys, by name or id; undefined where there is none. */
  facts(vm: string): Promise<VmFacts | undefined>
  /** `version` is that of the data key, not of the key that wraps it. */
  listKeys(): Promise<readonly KeyView[]>
  /**
   * To be called once before anything else: removes what an agent left that was ended while it made, started or
   * deleted a VM, completes or undoes a change that it left, takes up VMs that run, and reports all.
   */
  recover(): Promise<void>
}

export function createVmService(options: VmServiceOptions): VmService {
  const { keys, inventory, clock, logger, assurance = 'session' } = options
  const programs: Programs = { ...DEFAULT_PROGRAMS, ...options.programs }
  const firmware = options.firmware ?? DEFAULT_FIRMWARE
  const host = new VmHost({
    directory: options.directory,
    ...{ programs, keys, inventory, clock, logger, assurance },
    vtpmRollback: options.vtpmRollback ?? 'refuse',
    vtpmWitness: options.vtpmWitness,
    onLocked: () => unlocking.wake(),
  })
  const unlocking = createUnlockLoop(host, {
    pauses: options.unlockPauses ?? DEFAULT_UNLOCK_PAUSES,
    random: options.random ?? Math.random,
    logger,
  })
  const { store, releases } = host
  let accelerator: Promise<Accelerator> | undefined

  const createDeps: CreateDeps = {
    ...{ directory: store.directory, programs, firmware, keys },
    certifier: options.certifier,
    vtpmSlots: host.vtpmSlots,
    now: () => clock.nowMs(),
    dropKeys: (vmId, root) => releases.noteAllOf(vmId, root),
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

  const { startThere, stopThere, recoverLibvirt, endAdmissions, ...libvirt } = createVmLibvirt(
    host,
    {
      ...(options.libvirt ?? DEFAULT_LIBVIRT),
      ...{ firmware, chooseAccelerator },
      create: (spec, onProgress, vmId, origin) =>
        createVm(createDeps, spec, onProgress, vmId, origin),
    },
  )
  const disks = createVmDisks(host)

  const stop: VmService['stop'] = (
    name,
    { graceSeconds = DEFAULT_GRACE_SECONDS } = {},
    onProgress = () => undefined,
  ) =>
    host.onFreeVm(
      name,
      async (vm) => {
        const { descriptor, paths } = vm
        if (await readLibvirtRecord(paths)) return stopThere(vm, graceSeconds)
        const record = await findRunning(paths)
        if (!record) {
          await host.requireStopped(vm)
          throw new PlatformError('VM_STOPPED', `VM ${name} does not run`)
        }
        const progress = new Progress(onProgress, STOP_STEPS)
        await stopMachine(paths, record, {
          graceSeconds,
          onStep: (step) => progress.begin(step),
        })
        progress.begin('settle')
        await host.settle(vm)
        logger.info({ event: 'vm.stopped', vmId: descriptor.vmId, name }, 'a VM was stopped')
        await host.report(vm)
        progress.end()
        return host.details(vm)
      },
      { evenExported: true },
    )

  return {
    ...createVmEncryption(host),
    ...createVmPolicies(host),
    ...disks,
    ...createVmVtpms(host, options),
    ...createVtpmCertificates(host, options),
    ...createLockedVms(host, unlocking, stop),
    ...createVmMoves(host),
    ...createVmSnapshots(host),
    ...libvirt,
    ...createVmRewrap(host),
    ...createVmAttachments(host, {
      importDirectories: options.importDirectories ?? [],
      addDisk: disks.addDisk,
    }),
    ...createVmLive(host, {
      firmware,
      accelerator: chooseAccelerator,
      lockMemory: options.lockMemory ?? false,
    }),

    create: (request, onProgress = () => undefined, wantedId = newUuid()) => {
      const spec = checkSpec(request)
      return host.onName(spec.name, async () => {
        await store.prepare()
        if (await store.has(spec.name)) {
          throw new PlatformError('VM_EXISTS', `VM ${spec.name} exists`)
        }
        const { vmId } = await createVm(createDeps, spec, onProgress, wantedId)
        logger.info({ event: 'vm.created', vmId, name: spec.name }, 'a VM was made')
        const vm = await store.find(spec.name)
        await host.report(vm)
        onProgress('done', 100)
        return host.details(vm, spec)
      })
    },

    clone: (name, request, { onProgress = () => undefined, signal, compare = 'samples' } = {}) => {
      requireName(request.name)
      requireNoId(request.name)
      const make = (vm: StoredVm) =>
        host.onName(request.name, async () => {
          if (await store.has(request.name)) {
            throw new PlatformError('VM_EXISTS', `VM ${request.name} exists`)
          }
          await host.withKeys(vm, allKeys(vm.descriptor), async (home, opened) => {
            const total = home.disks.reduce((sum, { sizeOctets }) => sum + sizeOctets, 0)
            const progress = new OctetProgress(onProgress, total)
            const vtpm = vtpmOfClone(home, request.vtpm)
            if (vtpm === 'copy') await host.vtpmStates.require(vm, opened.of('vtpm'))
            const source = { vm, home, keys: opened }
            const { vmId = newUuid() } = request
            const made = { name: request.name, vmId, vtpm, compare, signal, progress }
            await cloneVm(createDeps, source, made)
            logger.info(
              { event: 'vm.cloned', vmId, name: request.name, from: name },
              'a VM was cloned',
            )
            progress.end()
          })
          const clone = await store.find(request.name)
          await host.report(clone)
          return host.details(clone)
        })
      return host.claim(name, 'clone', make, { withSnapshots: true })
    },

    list: async () => {
      await store.prepare()
      return Promise.all((await store.list()).map((vm) => host.details(vm)))
    },

    show: (name) =>
      host.onVm(name, (vm) =>
        host
          .withKeys(vm, homeKey(vm.descriptor), (home) => host.details(vm, home))
          .catch((error: unknown) => {
            if (lockReasonOf(error) === undefined) throw error
            return host.details(vm)
          }),
      ),

    start: (name, onProgress = () => undefined) =>
      host.onFreeVm(name, async (vm) => {
        const { descriptor, paths } = vm
        if (await readLibvirtRecord(paths)) return startThere(vm)
        await host.requireStopped(vm)
        const progress = new Progress(onProgress, START_STEPS)
        progress.begin('keys')
        return host.withKeys(vm, allKeys(descriptor), async (home, opened) => {
          progress.begin('accelerator')
          const chosen = await chooseAccelerator()
          if (home.vtpm) await host.vtpmStates.require(vm, opened.of('vtpm'))
          const record = await startMachine(
            { vmId: descriptor.vmId, paths, home },
            {
              ...{ programs, firmware, accelerator: chosen, keys: opened },
              lockMemory: options.lockMemory ?? false,
              onStep: (step) => progress.begin(step),
            },
          )
          host.watch(vm, record)
          logger.info({ event: 'vm.started', vmId: descriptor.vmId, name }, 'a VM was started')
          await host.report(vm)
          progress.end()
          return host.details(vm, home)
        })
      }),

    stop,

    delete: (name) =>
      host.onFreeVm(
        name,
        async (vm) => {
          const { vmId } = vm.descriptor
          await host.requireStopped(vm)
          // Of a VM that was handed over, only what is left here goes: its keys are those of the other host
          if (vm.exported) await releases.keepRecords(vmId, await store.readKeys(vm))
          const root = await store.takeAway(vm)
          if (!vm.exported) await releases.noteAllOf(vmId, root)
          await removeVmDirectory(programs, root)
          void releases.flush()
          logger.info({ event: 'vm.deleted', vmId, name }, 'a VM was deleted')
          if (!vm.exported) await host.reportGone(vmId)
        },
        { evenExported: true },
      ),

    readDisk: (name, diskName, offset, length, level = assurance) =>
      host.onFreeVm(name, async (vm) => {
        checkRange(offset, length)
        const stored = findDisk(vm.descriptor, diskName)
        await host.requireStopped(vm)
        const object: KeyObject = `disk-${diskName}`
        const objects = stored.plain ? homeKey(vm.descriptor) : [...homeKey(vm.descriptor), object]
        const read = async (home: Home, opened: VmKeys) => {
          const disk = home.disks.find((candidate) => candidate.name === diskName)
          if (!disk || offset + length > disk.sizeOctets) {
            throw new PlatformError(
              'REQUEST_INVALID',
              `expected octets within the ${disk?.sizeOctets} of disk ${diskName}`,
            )
          }
          const key = stored.plain ? undefined : opened.of(object)
          return readDiskFile(programs, diskFileOf(vm.paths, disk), key, offset, length)
        }
        return host.withKeys(vm, objects, read, level)
      }),

    facts: async (ref) => {
      await store.prepare()
      try {
        return await host.onVm(ref, async (vm) =>
          factsOf(vm, await store.readKeys(vm), {
            isRunning: await isRunning(vm.paths),
            snapshots: [...(await snapshotNames(vm.paths))],
          }),
        )
      } catch (error) {
        if (isPlatformError(error, 'VM_NOT_FOUND')) return undefined
        throw error
      }
    },

    listKeys: async () => {
      await store.prepare()
      const views = (vm: StoredVm, records: readonly KeyRecord[]): readonly KeyView[] =>
        records.map(({ object, purpose, provider, generation }) => ({
          ...{ vmId: vm.descriptor.vmId, object, purpose, provider, version: generation },
        }))
      const vms = await store.list()
      return (await Promise.all(vms.map(async (vm) => views(vm, await store.readKeys(vm))))).flat()
    },

    rewrapKeys: async (provider, onProgress = () => undefined) => {
      await store.prepare()
      const vms = (await store.list()).filter(
        ({ descriptor, exported }) =>
          !exported &&
          descriptor.provider !== undefined &&
          (provider === undefined || descriptor.provider === provider),
      )
      const progress = new Progress(onProgress, vms.length + 1)
      const failed: unknown[] = []
      for (const { descriptor } of vms) {
        const { vmId, name } = descriptor
        progress.begin(name)
        try {
          const count = await host.onFreeVm(name, async (vm) => {
            const renewed = await rewrapVm({ keys, releases }, vm, await store.readKeys(vm))
            if (renewed > 0) await host.report(vm)
            return renewed
          })
          logger.info({ event: 'vm.keys-rewrapped', vmId, name, count }, 'keys were wrapped anew')
        } catch (error) {
          // The others go on; the first failure is what the whole comes to.
          failed.push(error)
          const reason = messageOf(error)
          logger.warn({ event: 'vm.rewrap-failed', vmId, name, reason }, 'keys are as they were')
        }
      }
      progress.begin('release')
      await releases.flush()
      if (failed.length > 0) throw failed[0]
      progress.end()
    },

    reportUntold: () => host.reportUntold(),

    settleReleases: () => releases.flush(),

    recover: async () => {
      await store.prepare()
      for (const root of await store.leftovers()) {
        const isExported = await isThere(pathsOf(root).exported)
        if (!isExported) await releases.noteAllOf(root.slice(-UUID_CHARACTERS), root)
        await removeVmDirectory(programs, root)
        logger.warn({ event: 'vm.leftover-removed', root }, 'an unfinished VM was removed')
      }
      for (const root of await store.receiving()) {
        await settleReceived(host, root)
        logger.warn({ event: 'vm.receive-unfinished', root }, 'a VM was being received')
      }
      for (const root of await store.unfinishedImports()) {
        await removeVmDirectory(programs, root)
        logger.warn({ event: 'vm.leftover-removed', root }, 'an unfinished import was removed')
      }
      for (const vm of await store.list()) {
        await host.onVm(vm.descriptor.name, async (found) => {
          await removeUnfinishedSnapshots(programs, found.paths)
          const record = await findRunning(found.paths)
          if (record) {
            host.watch(found, record)
            await resumeUnsent(host, found)
          } else if (await isUnsettled(found.paths)) await host.settle(found)
          await host.report(found)
        })
      }
      unlocking.wake()
      await recoverLibvirt()
    },

    [Symbol.asyncDispose]: async () => {
      await unlocking[Symbol.asyncDispose]()
      await endAdmissions()
      host[Symbol.dispose]()
      await releases.settled()
    },
  }
}

function requireName(name: string): void {
  if (!isName(name)) throw new PlatformError('REQUEST_INVALID', `${name} is not a name`)
}

function checkRange(offset: number, length: number): void {
  const isRange = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0
  if (!isRange || length < 1 || length > MAX_READ_OCTETS) {
    throw new PlatformError('REQUEST_INVALID', `expected 1 to ${MAX_READ_OCTETS} octets`)
  }
}
