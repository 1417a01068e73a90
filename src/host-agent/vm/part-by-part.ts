import type { VmDetails } from '../../api/host-agent.js'
import type { Work } from './change-part.js'
import { requireSpace } from './disk-space.js'
import { LUKS_PAYLOAD_OCTETS } from './luks-header.js'
import { OctetProgress } from './octet-progress.js'
import type { OnProgress } from './ports.js'
import { detailsOf } from './vm-details.js'
import type { VmHost } from './vm-host.js'
import { type Part, partOf } from './vm-parts.js'
import type { StoredVm } from './vm-store.js'

/** Room for records, and for what a file system needs for itself. */
const OVERHEAD_OCTETS = 4 * 1024 * 1024

/** How a long operation is watched, and ended early. */
export interface Following {
  readonly onProgress?: OnProgress
  /** Before the moment in which a part is changed, that part is left as it was; parts before it stay changed. */
  readonly signal?: AbortSignal
}

export interface EncryptionOptions extends Following {
  /** How much of a copy is compared with its original: some MiB of it, or all. */
  readonly compare?: 'samples' | 'all'
}

/** An operation on parts of a VM: what it is called, which parts it changes, and how it changes one. */
export type PartsOperation = (
  name: string,
  operation: string,
  options: EncryptionOptions,
  plan: (vm: StoredVm) => readonly Part[],
  change: (vm: StoredVm, part: Part, work: Work) => Promise<void>,
) => Promise<VmDetails>

/** Changes parts of a stopped VM one after the other. */
export function changeParts(
  host: VmHost,
  ...[name, operation, options, plan, change]: Parameters<PartsOperation>
): Promise<VmDetails> {
  return host.claim(name, operation, (claimed) => {
    const steps = plan(claimed).map((part) => ({ part }))
    return doSteps(host, claimed, { operation, options, steps }, (vm, { part }, work) =>
      change(vm, part, work),
    )
  })
}

/**
 * Takes steps that change a part each, of a VM that this operation has claimed. The inventory is told after each, so that
 * it sees the order.
 *
 * @throws PlatformError `VM_DISK_FULL` before the first one, where there is no room for the largest
 */
export async function doSteps<Step extends { readonly part: Part }>(
  host: VmHost,
  claimed: StoredVm,
  work: {
    readonly operation: string
    readonly options: EncryptionOptions
    readonly steps: readonly Step[]
  },
  change: (vm: StoredVm, step: Step, work: Work) => Promise<void>,
): Promise<VmDetails> {
  const { operation, options, steps } = work
  const { vmId, name } = claimed.descriptor
  const sizes = steps.map(({ part }) => sizeOf(claimed, part))
  if (sizes.length > 0) await requireSpace(host.store.directory, Math.max(...sizes.map(roomFor)))
  const { onProgress = () => undefined, signal, compare = 'samples' } = options
  const total = sizes.reduce((sum, octets) => sum + octets, 0)
  const progress = new OctetProgress(onProgress, total)
  for (const step of steps) {
    const { part } = step
    signal?.throwIfAborted()
    await change(await host.store.find(name), step, { progress, signal, compare })
    progress.copied(sizeOf(claimed, part))
    host.logger.info({ event: `vm.${operation}`, vmId, name, part }, 'a part of a VM was changed')
    await host.reports.tell(await host.store.find(name))
  }
  progress.end()
  return detailsOf(await host.store.find(name))
}

function sizeOf({ descriptor }: StoredVm, part: Part): number {
  return descriptor.disks.find((disk) => partOf(disk) === part)?.sizeOctets ?? 0
}

function roomFor(sizeOctets: number): number {
  return sizeOctets + LUKS_PAYLOAD_OCTETS + OVERHEAD_OCTETS
}
