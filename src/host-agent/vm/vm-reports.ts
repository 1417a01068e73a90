import { isPlatformError, messageOf } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import type { VmLock } from './lock.js'
import type { Inventory, InventoryVm } from './ports.js'
import { countSnapshots } from './snapshot-files.js'
import { stateOf } from './vm-details.js'
import type { StoredVm, VmStore } from './vm-store.js'
import { vtpmIdentityOf } from './vtpm.js'
import type { VtpmStates } from './vtpm-states.js'

/** Tells the inventory of VMs, and remembers what it could not be told. Failures are logged and fail no operation. */
export class VmReports {
  readonly #store: VmStore
  readonly #inventory: Inventory
  readonly #vtpmStates: VtpmStates
  readonly #logger: Logger
  /** VMs that the inventory has not been told the newest of: names by id; undefined once they are gone. */
  readonly #untold = new Map<string, string | undefined>()

  constructor(deps: {
    readonly store: VmStore
    readonly inventory: Inventory
    readonly vtpmStates: VtpmStates
    readonly logger: Logger
  }) {
    this.#store = deps.store
    this.#inventory = deps.inventory
    this.#vtpmStates = deps.vtpmStates
    this.#logger = deps.logger
  }

  /** What the inventory is told of a VM. */
  async describe(vm: StoredVm): Promise<InventoryVm> {
    const { vmId, name, provider, vtpm, disks } = vm.descriptor
    const { state, lock } = await stateOf(vm)
    const keys = await this.#store.readKeys(vm)
    const vtpmIdentity = vtpm ? await this.#vtpmIdentityOf(vm) : undefined
    return {
      ...{ vmId, name, vtpm },
      ...(vtpmIdentity ? { vtpmIdentity } : {}),
      ...(provider === undefined ? {} : { provider }),
      keys: keys.map(({ object, wrapped }) => ({ object, wrapped })),
      ...{ state, ...(lock ? { lock: withoutMessage(lock) } : {}) },
      snapshots: await countSnapshots(vm.paths),
      disks: disks.map(({ name, sizeOctets, plain }) => ({
        ...{ name, sizeOctets, encrypted: !plain },
      })),
    }
  }

  /** Nothing is told of a VM that was handed over: it is not this host's. */
  async tell(vm: StoredVm): Promise<void> {
    const { vmId } = vm.descriptor
    if (vm.exported) {
      this.#untold.delete(vmId)
      return
    }
    try {
      await this.#inventory.report(await this.describe(vm))
      if (await this.#vtpmStates.tell(vm)) this.#untold.delete(vmId)
      else this.tellLater(vm)
    } catch (error) {
      this.tellLater(vm)
      const reason = messageOf(error)
      this.#logger.warn({ event: 'vm.report-failed', vmId, reason }, 'a VM could not be reported')
    }
  }

  /** Whether the inventory knows a VM as one of another host: the files here are a copy. Not where it cannot be asked now. */
  async isOfOtherHost(vm: StoredVm): Promise<boolean> {
    try {
      await this.#inventory.report(await this.describe(vm))
      return false
    } catch (error) {
      return isPlatformError(error, 'VM_HAND_OVER')
    }
  }

  async tellGone(vmId: string): Promise<void> {
    this.#untold.delete(vmId)
    await this.#inventory.forget(vmId).catch((error: unknown) => {
      this.#untold.set(vmId, undefined)
      const reason = messageOf(error)
      this.#logger.warn({ event: 'vm.report-failed', vmId, reason }, 'a VM could not be forgotten')
    })
  }

  tellLater({ descriptor: { vmId, name } }: StoredVm): void {
    this.#untold.set(vmId, name)
  }

  isUntold({ descriptor: { vmId } }: StoredVm): boolean {
    return this.#untold.has(vmId)
  }

  /**
   * Tells what could not be told before. Never throws.
   *
   * @param onVm gives the newest of the VM with this name, when it is its turn
   */
  async tellUntold(
    onVm: (name: string, task: (vm: StoredVm) => Promise<void>) => Promise<void>,
  ): Promise<void> {
    for (const [vmId, name] of [...this.#untold]) {
      if (name === undefined) await this.tellGone(vmId)
      else {
        await onVm(name, (vm) => this.tell(vm)).catch((error: unknown) => {
          // deleted meanwhile, and told as that
          const reason = messageOf(error)
          this.#logger.info({ event: 'vm.report-failed', vmId, reason }, 'a VM is not reported')
        })
      }
    }
  }

  /** A certificate that cannot be read keeps nobody from being told of the VM. */
  async #vtpmIdentityOf({ paths, descriptor: { vmId } }: StoredVm) {
    try {
      return await vtpmIdentityOf(paths)
    } catch (error) {
      if (!isPlatformError(error)) throw error
      this.#logger.warn(
        { event: 'vm.vtpm-certificates-unreadable', vmId, err: error },
        'certificates of a virtual TPM cannot be read',
      )
      return undefined
    }
  }
}

function withoutMessage({ message: _, ...lock }: VmLock): Omit<VmLock, 'message'> {
  return lock
}
