import type { VmDetails } from '../../api/host-agent.js'
import type { DomainAdopt, LibvirtEvent } from '../../api/libvirt.js'
import type { Firmware } from '../vm/accelerator.js'
import type { VmOrigin } from '../vm/create-vm.js'
import type { Following } from '../vm/part-by-part.js'
import type { Accelerator } from '../vm/records.js'
import type { Grace } from '../vm/run.js'
import type { VmSpec } from '../vm/vm-spec.js'
import type { StoredVm } from '../vm/vm-store.js'
import type { LibvirtOptions } from './options.js'

/**
 * VMs that libvirt runs in the place of the agent. Their files, wrapped keys and records stay with the agent; disks
 * stay where they are, and the state of the virtual TPM goes to where libvirt looks for it.
 *
 * Every method throws `VM_NOT_FOUND`, errors of the key provider as they are, `LIBVIRT_UNREACHABLE` and
 * `LIBVIRT_REFUSED`.
 */
export interface VmLibvirt {
  /** The domain of a VM, whoever runs it. Nothing is secret in it. */
  domainXml(name: string): Promise<string>
  /**
   * Makes an encrypted VM of a domain that is shut off, with the id of the domain, and defines it in the place of it. Disks are
   * copied and encrypted; the files that they are copied from stay as they are.
   *
   * @throws PlatformError `LIBVIRT_DOMAIN` with the reason, `VM_EXISTS`, `VM_RUNNING`, `VM_IMAGE`, `VM_DISK_FULL`,
   *   `VTPM_STATE_…`, and what `defineInLibvirt` throws: then the VM is there, and can be defined again
   */
  adoptDomain(
    request: DomainAdopt & { readonly provider: string },
    following?: Following,
  ): Promise<VmDetails>
  /**
   * Makes a stopped VM a domain of libvirt. From then on the agent refuses to run or change it (`VM_IN_LIBVIRT`). Done
   * again where it was interrupted, it goes on.
   *
   * @throws PlatformError `VM_RUNNING`, `VM_BUSY`, `VM_PLAIN`, `LIBVIRT_DIRECTORY`, `VTPM_STATE_…`
   */
  defineInLibvirt(name: string): Promise<VmDetails>
  /**
   * The way back: the domain is undefined. Done again where it was interrupted, it goes on; it also undoes a definition
   * that was.
   *
   * @throws PlatformError `VM_NOT_IN_LIBVIRT`, `VM_RUNNING`, `VTPM_STATE_…`
   */
  undefineInLibvirt(name: string): Promise<VmDetails>
  /**
   * Has the state of the virtual TPM of a VM that is shut off restored from its copy, or an older one accepted.
   *
   * @throws PlatformError `VM_NOT_IN_LIBVIRT`, `VM_RUNNING`, `VM_PLAIN`, `VTPM_STATE_…`
   */
  mendVtpmInLibvirt(name: string, how: 'restore' | 'accept'): Promise<VmDetails>
  /**
   * Has libvirt start the VM. Its secrets have values while that takes, and are gone when it is done, however it ended.
   *
   * @throws PlatformError `VM_NOT_IN_LIBVIRT`, `VM_RUNNING`, `VM_DISK_CORRUPT`, `VM_NVRAM_CORRUPT`, `VTPM_STATE_…`
   */
  startInLibvirt(name: string): Promise<VmDetails>
  /**
   * As `startInLibvirt`, with the start left to another client of libvirt: the secrets are gone when the VM has started,
   * or after this time.
   */
  admitStart(name: string, seconds: number): Promise<void>
  /** Takes an `admitStart` back. Nothing is done for a VM that has none. */
  endAdmission(name: string): Promise<void>
  /**
   * What the hook of libvirt tells. It is asked before a start, and throws where there is to be none; what comes after
   * is done when the hook has its answer, since libvirt does nothing else for a domain while a hook of it runs.
   *
   * @throws PlatformError `LIBVIRT_NOT_ADMITTED`, `LIBVIRT_DOMAIN`, `VM_NOT_IN_LIBVIRT`, or why the key provider refuses
   */
  onLibvirtEvent(event: LibvirtEvent): Promise<void>
}

export interface LibvirtDeps extends LibvirtOptions {
  readonly firmware: Firmware
  readonly chooseAccelerator: () => Promise<Accelerator>
  readonly create: (
    spec: VmSpec,
    options: Following & { readonly vmId: string; readonly origin: VmOrigin },
  ) => Promise<unknown>
}

/** For the service of all VMs of the host. */
export interface LibvirtInside {
  /** For a VM that is in libvirt, by who has the turn on it. @throws PlatformError as `startInLibvirt` */
  startThere(vm: StoredVm): Promise<VmDetails>
  /** Asks the guest to power off, then has it ended. @throws PlatformError `VM_STOPPED`, `TASK_CANCELLED` as `VmRuns.stop` */
  stopThere(vm: StoredVm, grace: Grace): Promise<VmDetails>
  /** Takes away what an agent that was ended left in libvirt; does not wait for it. */
  recoverLibvirt(): Promise<void>
  endAdmissions(): Promise<void>
}
