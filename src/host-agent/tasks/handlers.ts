import type { VmDetails } from '../../api/host-agent.js'
import type { VmTaskKind, VmTaskRequest } from '../../api/vm-tasks.js'
import { defaultProviderOf, withProvider } from '../host-keys/default-provider.js'
import type { KeyKeeper } from '../host-keys/keeper.js'
import type { EncryptionOptions, VmFacts, VmService } from '../vm/index.js'
import { partsLeft } from './parts-left.js'

/** What tasks are done with. */
export interface TaskServices {
  readonly vms: VmService
  readonly keeper: Pick<KeyKeeper, 'ready' | 'defaultProvider'>
}

/** One operation, asked for at the socket or by the control plane. */
export interface TaskCall<K extends VmTaskKind> {
  /** Name or id of the VM that it is about. Kinds on a host have none. */
  readonly vm?: string | undefined
  readonly request: VmTaskRequest<K>
  /** For kinds that make a VM: the id that it gets; without it, a new one. */
  readonly makes?: string | undefined
  readonly taskId?: string
}

type Following = Required<Pick<EncryptionOptions, 'onProgress' | 'signal'>>

/** How one kind of task is done on a host. */
export interface TaskHandler<K extends VmTaskKind> {
  /** @returns the VM, where the operation leaves one */
  run(
    services: TaskServices,
    call: TaskCall<K>,
    following: Following,
  ): Promise<VmDetails | undefined>
  /**
   * What is left of a task that was begun when an agent ended, now that the VM was settled, so that nothing is done twice.
   *
   * @param before the VM as it was when the task was begun: for kinds that make or bring one, the VM that they make or bring
   * @param now the same now; undefined where there is no such VM
   * @returns a request for the rest; undefined where all of it was done
   */
  rest(
    request: VmTaskRequest<K>,
    before: VmFacts | undefined,
    now: VmFacts | undefined,
  ): VmTaskRequest<K> | undefined
}

/** The one place that says which call of the VM service an operation is; for the socket and for the control plane. */
export const TASK_HANDLERS: { readonly [K in VmTaskKind]: TaskHandler<K> } = {
  'vm.create': {
    run: async ({ vms, keeper }, { request, makes }, following) =>
      vms.create(await withProvider(keeper, request), { ...following, vmId: makes }),
    rest: (request, _, now) => (now ? undefined : request),
  },
  'vm.start': {
    run: ({ vms }, call, { onProgress }) => vms.start(vmOf(call), onProgress),
    rest: (request, _, now) => (now?.isRunning ? undefined : request),
  },
  'vm.stop': {
    run: ({ vms }, call, following) => vms.stop(vmOf(call), call.request, following),
    rest: (request, before, now) => (before?.isRunning && !now?.isRunning ? undefined : request),
  },
  'vm.unlock': {
    run: ({ vms }, call) => vms.unlock(vmOf(call)),
    rest: (request) => request,
  },
  'vm.delete': {
    run: async ({ vms }, call) => {
      await vms.delete(vmOf(call))
      return undefined
    },
    rest: (request, before, now) => (before && !now ? undefined : request),
  },
  'vm.encrypt': {
    run: async ({ vms, keeper }, call, following) => {
      const { compare = 'samples', ...parts } = call.request
      const defaultProvider =
        parts.provider === undefined ? await defaultProviderOf(keeper) : undefined
      return vms.encrypt(vmOf(call), { ...parts, defaultProvider }, { ...following, compare })
    },
    rest: (request, before, now) =>
      partsLeft(request, before, now, {
        isConcerned: (facts, part) => !isEncrypted(facts, part) && part !== 'vtpm',
        isDone: (facts, part) => isEncrypted(facts, part),
      }),
  },
  'vm.decrypt': {
    run: ({ vms }, call, following) => {
      const { compare = 'samples', ...parts } = call.request
      return vms.decrypt(vmOf(call), parts, { ...following, compare })
    },
    rest: (request, before, now) =>
      partsLeft(request, before, now, {
        isConcerned: (facts, part) => isEncrypted(facts, part) && part !== 'vtpm',
        isDone: (facts, part) => !isEncrypted(facts, part),
      }),
  },
  'vm.recrypt': {
    run: ({ vms }, call, following) => {
      const { compare = 'samples', ...parts } = call.request
      return vms.recrypt(vmOf(call), parts, { ...following, compare })
    },
    rest: (request, before, now) =>
      partsLeft(request, before, now, {
        isConcerned: isEncrypted,
        isDone: (facts, part, earlier) =>
          (facts.generations[part] ?? 0) > (earlier.generations[part] ?? 0),
      }),
  },
  'vm.rewrap': {
    run: ({ vms }, call, following) => vms.rewrap(vmOf(call), call.request, following),
    // What is wrapped with the newest version, or by the other provider, stays as it is
    rest: (request) => request,
  },
  'vm.apply-policy': {
    run: async ({ vms, keeper }, call, following) => {
      const { compare = 'samples', ...wanted } = call.request
      const request = { ...wanted, defaultProvider: await defaultProviderOf(keeper) }
      return vms.applyPolicy(vmOf(call), request, { ...following, compare })
    },
    // It does what is left by itself
    rest: (request) => request,
  },
  'vm.clone': {
    run: ({ vms }, call, following) => {
      const { compare = 'samples', ...clone } = call.request
      const request = { ...clone, vmId: call.makes }
      return vms.clone(vmOf(call), request, { ...following, compare })
    },
    rest: (request, _, now) => (now ? undefined : request),
  },
  'vm.add-disk': {
    run: ({ vms }, call, following) => vms.addDisk(vmOf(call), call.request, following),
    rest: (request, before, now) =>
      !diskOf(before, request.name) && diskOf(now, request.name) ? undefined : request,
  },
  'vm.grow-disk': {
    run: ({ vms }, call) => vms.growDisk(vmOf(call), call.request.disk, call.request.sizeOctets),
    rest: (request, before, now) => {
      const { disk, sizeOctets } = request
      const wasSmaller = (diskOf(before, disk)?.sizeOctets ?? sizeOctets) < sizeOctets
      return wasSmaller && diskOf(now, disk)?.sizeOctets === sizeOctets ? undefined : request
    },
  },
  'vm.remove-disk': {
    run: ({ vms }, call) => vms.removeDisk(vmOf(call), call.request.disk),
    rest: (request, before, now) =>
      diskOf(before, request.disk) && now && !diskOf(now, request.disk) ? undefined : request,
  },
  'vm.attach-disk': {
    run: ({ vms }, call, following) => vms.attachDisk(vmOf(call), call.request, following),
    rest: (request, before, now) =>
      !diskOf(before, request.name) && diskOf(now, request.name) ? undefined : request,
  },
  'vm.detach-disk': {
    run: async ({ vms }, call) => (await vms.detachDisk(vmOf(call), call.request.disk)).vm,
    rest: (request, before, now) =>
      diskOf(before, request.disk) && now && !diskOf(now, request.disk) ? undefined : request,
  },
  'vm.add-vtpm': {
    run: ({ vms }, call, following) => vms.addVtpm(vmOf(call), following),
    rest: (request, before, now) => (before?.vtpm === false && now?.vtpm ? undefined : request),
  },
  'vm.remove-vtpm': {
    run: ({ vms }, call) => vms.removeVtpm(vmOf(call)),
    rest: (request, before, now) => (before?.vtpm && now?.vtpm === false ? undefined : request),
  },
  'vm.export': {
    run: ({ vms }, call, following) => vms.export(vmOf(call), call.request, following),
    // It sees by itself whether the VM was handed over by this export
    rest: (request) => request,
  },
  'vm.import': {
    run: ({ vms }, { request, taskId }, following) => vms.import({ ...request, taskId }, following),
    rest: (request, _, now) => (now ? undefined : request),
  },
  'vm.send': {
    run: ({ vms }, call, following) => vms.send(vmOf(call), call.request, following),
    // The other host listens no more
    rest: (request) => request,
  },
  'vm.receive': {
    run: ({ vms }, { request, taskId }, following) =>
      vms.receive({ ...request, taskId }, following),
    rest: (request, _, now) => (now ? undefined : request),
  },
  'vm.take-back': {
    run: ({ vms }, call) => vms.takeBack(vmOf(call)),
    rest: (request) => request,
  },
  'vm.replace-vtpm-certificates': {
    run: ({ vms }, call, following) => vms.replaceVtpmCertificates(vmOf(call), following),
    // They are whole either way: issued once more, they are as good
    rest: (request) => request,
  },
  'vm.import-vtpm-certificate': {
    run: ({ vms }, call, following) =>
      vms.importVtpmCertificate(vmOf(call), call.request, following),
    rest: (request) => request,
  },
  'vm.accept-vtpm-state': {
    run: ({ vms }, call) => vms.acceptVtpmState(vmOf(call)),
    // A state that was accepted is not accepted again: that it needs no help is said
    rest: (request) => request,
  },
  'vm.restore-vtpm-state': {
    run: ({ vms }, call) => vms.restoreVtpmState(vmOf(call)),
    rest: (request) => request,
  },
  'vm.create-snapshot': {
    run: ({ vms }, call, following) => vms.createSnapshot(vmOf(call), call.request, following),
    rest: (request, before, now) =>
      !hasSnapshot(before, request.name) && hasSnapshot(now, request.name) ? undefined : request,
  },
  'vm.revert-snapshot': {
    run: ({ vms }, call, following) =>
      vms.revertSnapshot(vmOf(call), call.request.snapshot, following, call.request),
    // To go back twice is to go back once; a guest that goes on from the memory is not stopped for it
    rest: (request, before, now) =>
      before?.isRunning === false && now?.resumedFrom?.includes(request.snapshot)
        ? undefined
        : request,
  },
  'vm.remove-snapshot': {
    run: ({ vms }, call, following) =>
      vms.removeSnapshot(vmOf(call), call.request.snapshot, following),
    rest: (request, before, now) =>
      hasSnapshot(before, request.snapshot) && now && !hasSnapshot(now, request.snapshot)
        ? undefined
        : request,
  },
  'keys.rewrap': {
    run: async ({ vms }, { request }, { onProgress }) => {
      await vms.rewrapKeys(request.provider, onProgress)
      return undefined
    },
    // What is wrapped with the newest version stays as it is
    rest: (request) => request,
  },
}

function vmOf({ vm }: { readonly vm?: string | undefined }): string {
  if (vm === undefined) throw new TypeError('expected the VM of a task')
  return vm
}

function diskOf(facts: VmFacts | undefined, name: string): VmFacts['disks'][number] | undefined {
  return facts?.disks.find((disk) => disk.name === name)
}

function hasSnapshot(facts: VmFacts | undefined, ref: string): boolean {
  return facts?.snapshots.includes(ref) === true
}

function isEncrypted(facts: VmFacts, part: string): boolean {
  if (part === 'home') return facts.isHomeEncrypted
  if (part === 'vtpm') return facts.vtpm
  return facts.disks.some(({ name, isEncrypted }) => `disk-${name}` === part && isEncrypted)
}
