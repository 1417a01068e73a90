import type { VmCreate, VmDetails } from '../../api/host-agent.js'
import { PlatformError } from '../../core/errors.js'
import { isName } from '../../core/names.js'
import { newUuid } from '../../core/random.js'
import { type ClonedVtpm, cloneVm, vtpmOfClone } from './clone-vm.js'
import { type CreateDeps, createVm } from './create-vm.js'
import { OctetProgress } from './octet-progress.js'
import type { EncryptionOptions, Following } from './part-by-part.js'
import { removeVmDirectory } from './remove-vm.js'
import { detailsOf } from './vm-details.js'
import type { VmHost } from './vm-host.js'
import { allKeys } from './vm-parts.js'
import { checkSpec, requireNoId } from './vm-spec.js'
import type { StoredVm } from './vm-store.js'

/** VMs made and deleted. */
export interface VmLifetime {
  /** @throws PlatformError `REQUEST_INVALID`, `VM_EXISTS`, `VM_IMAGE`, `VM_DISK_FULL`, `VM_PROCESS`, `VTPM_…` */
  create(
    request: VmCreate,
    /** `vmId`: the id that it is to have; else a new one. */
    options?: Following & { readonly vmId?: string | undefined },
  ): Promise<VmDetails>
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
  /** @throws PlatformError `VM_RUNNING` */
  delete(name: string): Promise<void>
}

export function createVmLifetime(host: VmHost, deps: CreateDeps): VmLifetime {
  const { store, logger, releases } = host

  const requireNew = async (name: string): Promise<void> => {
    if (await store.has(name)) throw new PlatformError('VM_EXISTS', `VM ${name} exists`)
  }

  return {
    create: (request, options = {}) => {
      const spec = checkSpec(request)
      return host.onName(spec.name, async () => {
        await store.prepare()
        await requireNew(spec.name)
        const { vmId } = await createVm(deps, spec, options)
        logger.info({ event: 'vm.created', vmId, name: spec.name }, 'a VM was made')
        const vm = await store.find(spec.name)
        await host.reports.tell(vm)
        options.onProgress?.('done', 100)
        return detailsOf(vm, spec)
      })
    },

    clone: (name, request, { onProgress = () => undefined, signal, compare = 'samples' } = {}) => {
      requireName(request.name)
      requireNoId(request.name)
      const make = (vm: StoredVm) =>
        host.onName(request.name, async () => {
          await requireNew(request.name)
          await host.withKeys(vm, allKeys(vm.descriptor), async (home, opened) => {
            const total = home.disks.reduce((sum, { sizeOctets }) => sum + sizeOctets, 0)
            const progress = new OctetProgress(onProgress, total)
            const vtpm = vtpmOfClone(home, request.vtpm)
            if (vtpm === 'copy') await host.vtpmStates.require(vm, opened.of('vtpm'))
            const source = { vm, home, keys: opened }
            const { vmId = newUuid() } = request
            const made = { name: request.name, vmId, vtpm, compare, signal, progress }
            await cloneVm(deps, source, made)
            logger.info(
              { event: 'vm.cloned', vmId, name: request.name, from: name },
              'a VM was cloned',
            )
            progress.end()
          })
          const clone = await store.find(request.name)
          await host.reports.tell(clone)
          return detailsOf(clone)
        })
      return host.claim(name, 'clone', make, { withSnapshots: true })
    },

    delete: (name) =>
      host.onFreeVm(
        name,
        async (vm) => {
          const { vmId } = vm.descriptor
          await host.requireStopped(vm)
          // Of a VM of another host, only what is here of it goes: its keys are those of the other host
          const isOurs = !vm.exported && !(await host.reports.isOfOtherHost(vm))
          if (!isOurs) await releases.keepRecords(vmId, await store.readKeys(vm))
          const root = await store.takeAway(vm)
          if (isOurs) await releases.noteAllOf(vmId, root)
          await removeVmDirectory(host.programs, root)
          void releases.flush()
          logger.info({ event: 'vm.deleted', vmId, name }, 'a VM was deleted')
          if (isOurs) await host.reports.tellGone(vmId)
        },
        { evenExported: true },
      ),
  }
}

function requireName(name: string): void {
  if (!isName(name)) throw new PlatformError('REQUEST_INVALID', `${name} is not a name`)
}
