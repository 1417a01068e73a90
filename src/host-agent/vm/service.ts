import type { Assurance } from '../../api/key-provider.js'
import type { Clock } from '../../core/clock.js'
import type { Logger } from '../../core/logger.js'
import { DEFAULT_LIBVIRT, type LibvirtOptions } from '../libvirt/options.js'
import { createVmLibvirt } from '../libvirt/service.js'
import type { VmLibvirt } from '../libvirt/vm-libvirt.js'
import { createAcceleratorChoice, DEFAULT_FIRMWARE, type Firmware } from './accelerator.js'
import { createVmPolicies, type VmPolicies } from './apply-policy.js'
import { createVmAttachments, type VmAttachments } from './attachments.js'
import { type CreateDeps, createVm } from './create-vm.js'
import { createVmDisks, type VmDisks } from './disk-changes.js'
import { createVmEncryption, type VmEncryption } from './encryption.js'
import { createLockedVms, type LockedVms } from './locked-vms.js'
import type { Inventory, KeyClient, VtpmCertifier, VtpmWitness } from './ports.js'
import { DEFAULT_PROGRAMS, type Programs } from './programs.js'
import type { Accelerator } from './records.js'
import { recoverVms } from './recover.js'
import { createVmNvram, type VmNvram } from './reset-nvram.js'
import { createVmSnapshots, type VmSnapshots } from './snapshots.js'
import { createUnlockLoop, DEFAULT_UNLOCK_PAUSES, type UnlockPauses } from './unlock-loop.js'
import { VmHost } from './vm-host.js'
import { createVmLifetime, type VmLifetime } from './vm-lifetime.js'
import { createVmLive, type VmLive } from './vm-live.js'
import { createVmMoves, type VmMoves } from './vm-moves.js'
import { createVmRewrap, type VmRewrap } from './vm-rewrap.js'
import { createVmRuns, type VmRuns } from './vm-runs.js'
import { createVmViews, type VmViews } from './vm-views.js'
import { createVtpmCertificates, type VmVtpmCertificates } from './vtpm-certificate-changes.js'
import { createVmVtpms, type VmVtpms } from './vtpm-changes.js'
import type { RollbackPolicy } from './vtpm-states.js'

export interface VmServiceOptions {
  /** Absolute; letters, digits, dots and hyphens, at most some 55 of them. It is made if need be. */
  readonly directory: string
  readonly keys: KeyClient
  readonly certifier: VtpmCertifier
  readonly inventory: Inventory
  readonly clock: Clock
  readonly logger: Logger
  /** Beside that of the VMs: nothing is exported there, and no door of a VM that moves is there. */
  readonly closedDirectories?: readonly string[]
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
  extends VmLifetime,
    VmViews,
    VmRuns,
    VmEncryption,
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
    VmNvram,
    AsyncDisposable {
  /** Tells the inventory what it could not be told before. Never throws. */
  reportUntold(): Promise<void>
  /** Tells key providers of wrapped keys that are not needed any more, as far as they can be told now. */
  settleReleases(): Promise<void>
  /**
   * To be called once before anything else: removes what an agent left that was ended while it made, started or
   * deleted a VM, completes or undoes a change that it left, takes up VMs that run, and reports all.
   */
  recover(): Promise<void>
}

export function createVmService(options: VmServiceOptions): VmService {
  const { directory, keys, certifier, inventory, clock, logger, lockMemory = false } = options
  const programs: Programs = { ...DEFAULT_PROGRAMS, ...options.programs }
  const firmware = options.firmware ?? DEFAULT_FIRMWARE
  const host = new VmHost({
    ...{ directory, programs, keys, inventory, clock, logger },
    closedDirectories: options.closedDirectories ?? [],
    assurance: options.assurance ?? 'session',
    vtpmRollback: options.vtpmRollback ?? 'refuse',
    vtpmWitness: options.vtpmWitness,
    onLocked: () => unlocking.wake(),
  })
  const { releases } = host
  const unlocking = createUnlockLoop(host, {
    pauses: options.unlockPauses ?? DEFAULT_UNLOCK_PAUSES,
    random: options.random ?? Math.random,
    logger,
  })
  const chooseAccelerator = createAcceleratorChoice(options.accelerator ?? 'auto', {
    ...{ programs, firmware, logger },
  })
  const createDeps: CreateDeps = {
    ...{ directory: host.store.directory, programs, firmware, keys, certifier },
    vtpmSlots: host.vtpmSlots,
    now: () => clock.nowMs(),
    dropKeys: (vmId, root) => releases.noteAllOf(vmId, root),
  }
  const { startThere, stopThere, recoverLibvirt, endAdmissions, ...libvirt } = createVmLibvirt(
    host,
    {
      ...(options.libvirt ?? DEFAULT_LIBVIRT),
      ...{ firmware, chooseAccelerator },
      create: (spec, options) => createVm(createDeps, spec, options),
    },
  )
  const starting = { firmware, chooseAccelerator, lockMemory }
  const runs = createVmRuns(host, { ...starting, libvirt: { startThere, stopThere } })
  const disks = createVmDisks(host)

  return {
    ...createVmLifetime(host, createDeps),
    ...createVmViews(host),
    ...runs,
    ...createVmEncryption(host),
    ...createVmPolicies(host),
    ...disks,
    ...createVmVtpms(host, options),
    ...createVtpmCertificates(host, options),
    ...createLockedVms(host, unlocking, runs.stop),
    ...createVmMoves(host),
    ...createVmSnapshots(host, starting),
    ...libvirt,
    ...createVmRewrap(host),
    ...createVmAttachments(host, {
      importDirectories: options.importDirectories ?? [],
      addDisk: disks.addDisk,
    }),
    ...createVmLive(host, starting),
    ...createVmNvram(host, firmware),

    reportUntold: () => host.reports.tellUntold((name, task) => host.onVm(name, task)),

    settleReleases: () => releases.flush(),

    recover: async () => {
      await recoverVms(host)
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
