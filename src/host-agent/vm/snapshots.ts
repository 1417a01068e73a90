import type { VmDetails } from '../../api/host-agent.js'
import type { SnapshotView } from '../../api/vm-snapshots.js'
import { isoTime } from '../../core/clock.js'
import { isPlatformError, PlatformError } from '../../core/errors.js'
import { isName } from '../../core/names.js'
import { newUuid } from '../../core/random.js'
import type { Secret } from '../../core/secret.js'
import { isErrno } from './errno.js'
import { exportedName } from './export-manifest.js'
import { makeSnapshot, sizeOf } from './make-snapshot.js'
import { OctetProgress } from './octet-progress.js'
import type { Following } from './part-by-part.js'
import { revertVm } from './revert-vm.js'
import { findRunning } from './run.js'
import {
  type FoundSnapshot,
  listSnapshots,
  removeSnapshot,
  removeUnfinishedSnapshots,
} from './snapshot-files.js'
import { runFromMemory, type Starting } from './snapshot-memory.js'
import { MEMORY_FILE } from './snapshot-record.js'
import { detailsOf } from './vm-details.js'
import { allocatedOctets } from './vm-files.js'
import type { VmHost } from './vm-host.js'
import { homeGeneration, type KeyObject } from './vm-keys.js'
import { allKeys, homeKey } from './vm-parts.js'
import type { StoredVm } from './vm-store.js'

const MAX_SNAPSHOTS = 32

/**
 * Snapshots of VMs: all parts as they are, encrypted under the keys that the VM has, so that its wrapped keys are those of
 * its snapshots too, and are wrapped anew with it. Of one that runs, its memory of the same moment is kept unless told.
 *
 * Every method throws `VM_NOT_FOUND`, `VM_BUSY`, `VM_EXPORTED`.
 */
export interface VmSnapshots {
  /** The oldest first. @throws PlatformError `VM_SNAPSHOT_CORRUPT` */
  listSnapshots(vm: string): Promise<readonly SnapshotView[]>
  /**
   * The guest of a VM that runs stands still for a moment, and goes on whatever becomes of the snapshot.
   *
   * @throws PlatformError `VM_SNAPSHOT_EXISTS`, `VM_DISK_FULL`, `VTPM_STATE_…`, of the key provider; `VM_HOME_PLAIN` for the memory of
   *   a plain VM, which there is no key for; `VM_IN_LIBVIRT`
   */
  createSnapshot(
    vm: string,
    request: {
      readonly name: string
      readonly description?: string | undefined
      readonly memory?: boolean | undefined
    },
    following?: Following,
  ): Promise<VmDetails>
  /**
   * Makes a stopped VM what it was; what it is now is lost. The snapshot stays. The state of the virtual TPM that comes back
   * is from then on the one to start from. From a snapshot with memory the guest goes on where it was, unless told.
   *
   * @throws PlatformError `VM_RUNNING`, `VM_SNAPSHOT_NOT_FOUND`, `VM_SNAPSHOT_CORRUPT`, `VM_SNAPSHOT_MEMORY`, `VM_DISK_FULL`, of the key
   *   provider; of the control plane when it cannot be told of the state, though all else was done, but that the guest does
   *   not run: it can be asked for again
   */
  revertSnapshot(
    vm: string,
    snapshot: string,
    following?: Following,
    options?: { readonly memory?: boolean | undefined },
  ): Promise<VmDetails>
  /** Key slots are erased first. The VM may run. @throws PlatformError `VM_SNAPSHOT_NOT_FOUND` */
  removeSnapshot(vm: string, snapshot: string, following?: Following): Promise<VmDetails>
}

export function createVmSnapshots(host: VmHost, starting: Starting): VmSnapshots {
  const { store, programs, logger } = host
  const event = (vm: StoredVm, type: string, { snapshotId }: { readonly snapshotId: string }) => {
    const { vmId, name } = vm.descriptor
    logger.info({ event: `vm.snapshot-${type}`, vmId, name, snapshotId }, `a snapshot was ${type}`)
  }

  return {
    listSnapshots: (name) =>
      host.onVm(name, async (vm) =>
        Promise.all((await listSnapshots(vm.paths)).map((snapshot) => viewOf(snapshot))),
      ),

    createSnapshot: (name, { name: wanted, description, memory = true }, following = {}) =>
      host.claim(
        name,
        'create-snapshot',
        async (vm) => {
          const { paths, descriptor } = vm
          const machine = await findRunning(paths)
          const withMemory = machine !== undefined && memory
          if (withMemory && descriptor.provider === undefined) {
            const message = `VM ${name} is plain, and has no key that its memory is kept under`
            throw new PlatformError('VM_HOME_PLAIN', message)
          }
          if (!isName(wanted)) throw new PlatformError('REQUEST_INVALID', `${wanted} is no name`)
          await removeUnfinishedSnapshots(programs, paths)
          const existing = await listSnapshots(paths)
          if (existing.some(({ sealed }) => sealed.snapshot.name === wanted)) {
            throw new PlatformError('VM_SNAPSHOT_EXISTS', `VM ${name} has a snapshot ${wanted}`)
          }
          if (existing.length >= MAX_SNAPSHOTS) {
            const message = `expected at most ${MAX_SNAPSHOTS} snapshots of a VM`
            throw new PlatformError('REQUEST_INVALID', message)
          }
          await host.withKeys(vm, keysFor(vm), async (home, opened) => {
            const keys = await store.readKeys(vm)
            const plan = {
              ...{ snapshotId: newUuid(), name: wanted },
              ...(description === undefined ? {} : { description }),
              createdAt: isoTime(host.clock.nowMs()),
              generation: homeGeneration(keys),
            }
            const options = { home, opened, machine, withMemory, following }
            const snapshot = await makeSnapshot(host, vm, plan, options)
            event(vm, 'created', snapshot)
          })
          await host.reports.tell(vm)
          return detailsOf(vm)
        },
        { withSnapshots: true, mayRun: true },
      ),

    revertSnapshot: (
      name,
      wanted,
      { onProgress = () => undefined, signal } = {},
      { memory: withMemory = true } = {},
    ) =>
      host.claim(
        name,
        'revert-snapshot',
        async (vm) => {
          const found = await findSnapshot(vm, wanted)
          const { snapshot } = found.sealed
          const memory = withMemory ? snapshot.memory : undefined
          const objects = memory ? allKeys(vm.descriptor) : keysFor(vm)
          await host.withKeys(vm, objects, async (_, opened) => {
            // it is read twice: before anything is changed, and by QEMU
            const total = sizeOf(snapshot.parts) + (memory ? 2 * memory.octets : 0)
            const progress = new OctetProgress(onProgress, total)
            const accelerator = memory ? await starting.chooseAccelerator() : undefined
            await revertVm(host, vm, found, { opened, accelerator, progress, signal })
            event(vm, 'reverted', snapshot)
            // where the control plane knows of later states, this one is the newest from now on
            if (vm.descriptor.vtpm) await acceptOlderState(host, vm, opened.of('vtpm'))
            if (memory) {
              const put = await store.find(name)
              const home = await store.readHome(put, opened, await store.readKeys(put))
              await runFromMemory(host, put, home, found, { keys: opened, starting, progress })
              event(vm, 'resumed', snapshot)
            }
            progress.end()
          })
          const reverted = await store.find(name)
          await host.reports.tell(reverted)
          return detailsOf(reverted)
        },
        { withSnapshots: true },
      ),

    removeSnapshot: (name, wanted, { onProgress = () => undefined } = {}) =>
      host.onFreeVm(name, async (vm) => {
        const { snapshot } = (await findSnapshot(vm, wanted)).sealed
        const onStep = (step: string) => onProgress(step, 0)
        await removeSnapshot(programs, vm.paths, snapshot.snapshotId, onStep)
        event(vm, 'removed', snapshot)
        await host.reports.tell(vm)
        onProgress('done', 100)
        return detailsOf(vm)
      }),
  }
}

async function acceptOlderState(host: VmHost, vm: StoredVm, dek: Secret): Promise<void> {
  await host.vtpmStates.accept(vm, dek).catch((error: unknown) => {
    if (!isPlatformError(error, 'VTPM_STATE_INTACT')) throw error
  })
}

/** @throws PlatformError `VM_SNAPSHOT_NOT_FOUND` */
async function findSnapshot(vm: StoredVm, wanted: string): Promise<FoundSnapshot> {
  const all = await listSnapshots(vm.paths)
  const found = all.find(
    ({ sealed: { snapshot } }) => snapshot.name === wanted || snapshot.snapshotId === wanted,
  )
  if (found) return found
  const message = `VM ${vm.descriptor.name} has no snapshot ${wanted}`
  throw new PlatformError('VM_SNAPSHOT_NOT_FOUND', message)
}

async function viewOf({ root, sealed: { snapshot } }: FoundSnapshot): Promise<SnapshotView> {
  const { snapshotId, name, description, createdAt, parts, running = false, memory } = snapshot
  const files = [...parts.map(({ file }) => exportedName(file)), ...(memory ? [MEMORY_FILE] : [])]
  // one that is not there is told of by whoever needs it
  const sizes = files.map((file) => allocatedOctets(`${root}/${file}`).catch(unlessMissing))
  return {
    ...{ snapshotId, name, createdAt, running, memory: memory !== undefined },
    ...(description === undefined ? {} : { description }),
    allocatedOctets: (await Promise.all(sizes)).reduce((sum, octets) => sum + octets, 0),
  }
}

function keysFor({ descriptor }: StoredVm): readonly KeyObject[] {
  return [...homeKey(descriptor), ...(descriptor.vtpm ? (['vtpm'] as const) : [])]
}

function unlessMissing(error: unknown): number {
  if (!isErrno(error, 'ENOENT')) throw error
  return 0
}
