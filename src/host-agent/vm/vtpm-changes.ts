import type { VmDetails } from '../../api/host-agent.js'
import { PlatformError } from '../../core/errors.js'
import { changeVm, wrapNewKeys } from './change-vm.js'
import { requireSpace } from './disk-space.js'
import type { Following } from './part-by-part.js'
import type { VtpmCertifier } from './ports.js'
import { Progress } from './progress.js'
import { detailsOf } from './vm-details.js'
import type { VmHost } from './vm-host.js'
import { makeKeys, VTPM_KEYS } from './vm-keys.js'
import type { StoredVm } from './vm-store.js'
import { makeVtpm } from './vtpm.js'

/** Room for the state of a virtual TPM, its certificates, and the records of its VM. */
export const VTPM_OVERHEAD_OCTETS = 4 * 1024 * 1024
const ADD_STEPS = 5

/**
 * Virtual TPMs of VMs that exist and are stopped: each change is whole or undone whenever the process ends.
 *
 * Every method throws `VM_NOT_FOUND`, `VM_RUNNING`, `VM_BUSY`, `VM_DISK_FULL`, `VM_PROCESS`, errors of the key provider
 * and the reason of the signal.
 */
export interface VmVtpms {
  /**
   * Every VM of this host has UEFI firmware, which is the other thing that a virtual TPM needs.
   *
   * @throws PlatformError `VTPM_EXISTS`, `VM_HOME_PLAIN`, `VTPM_CERTIFICATE`
   */
  addVtpm(name: string, following?: Following): Promise<VmDetails>
  /** What the guest has sealed to its virtual TPM is lost. @throws PlatformError `VM_PLAIN` where there is none */
  removeVtpm(name: string): Promise<VmDetails>
  /**
   * Makes a state that is refused as an older one the one to start from. The control plane records it first.
   *
   * @throws PlatformError `VM_PLAIN` where there is no virtual TPM; `VTPM_STATE_INTACT`, `VTPM_STATE_…`
   */
  acceptVtpmState(name: string): Promise<VmDetails>
  /**
   * Puts the copy of the recorded state in the place of one that is missing, damaged or older.
   *
   * @throws PlatformError `VM_PLAIN` where there is no virtual TPM; `VTPM_STATE_INTACT`, `VTPM_STATE_…` of the copy
   */
  restoreVtpmState(name: string): Promise<VmDetails>
}

export function createVmVtpms(host: VmHost, deps: { readonly certifier: VtpmCertifier }): VmVtpms {
  const changed = async (vm: StoredVm, event: string): Promise<VmDetails> => {
    const { vmId, name } = vm.descriptor
    host.logger.info({ event, vmId, name }, 'the virtual TPM of a VM was changed')
    const now = await host.store.find(name)
    await host.reports.tell(now)
    return detailsOf(now)
  }

  return {
    addVtpm: (name, { onProgress = () => undefined, signal } = {}) =>
      host.claim(name, 'add-vtpm', async (vm) => {
        const provider = providerForVtpm(vm)
        const { programs } = host
        const { vmId } = vm.descriptor
        await requireSpace(host.store.directory, VTPM_OVERHEAD_OCTETS)
        const progress = new Progress(onProgress, ADD_STEPS)
        const onStep = (step: string) => progress.begin(`vtpm: ${step}`)
        using keys = makeKeys(VTPM_KEYS)
        await host.withKeys(vm, ['home'], (home, opened) =>
          changeVm(host, vm, { onStep, signal }, async (staged) => {
            onStep('keys')
            const request = { provider, objects: VTPM_KEYS, keys }
            const newKeys = await wrapNewKeys(host, vm, staged, request)
            onStep('manufacture')
            await makeVtpm({
              ...{ programs, vmId, paths: staged, jobDirectory: `${vm.paths.change}/job` },
              ...{ dek: keys.of('vtpm'), certifier: deps.certifier, slots: host.vtpmSlots },
              now: () => host.clock.nowMs(),
            })
            return {
              home: { ...home, vtpm: true },
              ...{ homeKey: opened.of('home'), newKeys, goneKeys: [] },
              files: { put: ['vtpm', 'vtpm-backup.permall', 'vtpm.json'] },
            }
          }),
        )
        progress.end()
        return changed(vm, 'vm.vtpm-added')
      }),

    removeVtpm: (name) =>
      host.claim(name, 'remove-vtpm', async (vm) => {
        requireVtpm(vm)
        await host.withKeys(vm, ['home'], (home, opened) =>
          changeVm(host, vm, {}, async () => ({
            home: { ...home, vtpm: false },
            ...{ homeKey: opened.of('home'), newKeys: [], goneKeys: VTPM_KEYS },
            files: { drop: ['vtpm', 'vtpm-backup.permall', 'vtpm.json'] },
          })),
        )
        return changed(vm, 'vm.vtpm-removed')
      }),

    acceptVtpmState: (name) =>
      host.claim(
        name,
        'accept-vtpm-state',
        async (vm) => {
          requireVtpm(vm)
          await host.withKeys(vm, ['vtpm', 'home'], (_, opened) =>
            host.vtpmStates.accept(vm, opened.of('vtpm')),
          )
          return changed(vm, 'vm.vtpm-state-accepted')
        },
        { withSnapshots: true },
      ),

    restoreVtpmState: (name) =>
      host.claim(
        name,
        'restore-vtpm-state',
        async (vm) => {
          requireVtpm(vm)
          await host.withKeys(vm, ['vtpm', 'home'], (_, opened) =>
            host.vtpmStates.restore(vm, opened.of('vtpm')),
          )
          return changed(vm, 'vm.vtpm-state-restored')
        },
        { withSnapshots: true },
      ),
  }
}

/** @throws PlatformError `VTPM_EXISTS`, `VM_HOME_PLAIN` */
function providerForVtpm({ descriptor: { name, provider, vtpm } }: StoredVm): string {
  if (vtpm) throw new PlatformError('VTPM_EXISTS', `VM ${name} has a virtual TPM`)
  if (provider === undefined) {
    throw new PlatformError('VM_HOME_PLAIN', 'a virtual TPM needs an encrypted home')
  }
  return provider
}

/** @throws PlatformError `VM_PLAIN` */
export function requireVtpm({ descriptor: { name, vtpm } }: StoredVm): void {
  if (!vtpm) throw new PlatformError('VM_PLAIN', `VM ${name} has no virtual TPM`)
}
