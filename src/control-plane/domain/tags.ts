import type { VmView } from '../../api/control-plane.js'
import { PlatformError } from '../../core/errors.js'
import { SITE } from '../../people/index.js'
import type { ControlPlaneStore, ControlPlaneTransaction, StoredVm } from '../ports.js'
import type { Act } from './inventory.js'
import { vmViews } from './vm-views.js'

const MAX_TAGS = 64

/** Tags of VMs. Permissions can be granted on them: who sets a tag decides who may what with the VM. */
export function createTags(store: ControlPlaneStore) {
  return {
    /** @throws PlatformError `FORBIDDEN`, `VM_NOT_FOUND`, `REQUEST_INVALID` */
    change: (
      act: Act,
      vmId: string,
      {
        add = [],
        remove = [],
      }: { readonly add?: readonly string[]; readonly remove?: readonly string[] },
    ): Promise<VmView> =>
      store.transaction(async (tx) => {
        const { cluster } = (await tx.findVm(vmId)) ?? {}
        const rights = await tx.rightsOf(act)
        // of its cluster: a permission on a tag does not hand out other tags
        const place = cluster === undefined ? SITE : ({ kind: 'cluster', name: cluster } as const)
        rights.require(['Host.Inventory.EditCluster'], place, `the cluster of VM ${vmId}`)
        const vm = await requireVm(tx, vmId)
        if (add.length === 0 && remove.length === 0) {
          throw new PlatformError('REQUEST_INVALID', 'expected tags to add or remove, found none')
        }
        for (const tag of remove) await tx.removeTag(vmId, tag)
        for (const tag of add) await tx.addTag(vmId, tag)
        const tags = (await tx.listTags([vmId])).get(vmId) ?? []
        if (tags.length > MAX_TAGS) {
          const expected = `expected at most ${MAX_TAGS} tags, found ${tags.length}`
          throw new PlatformError('REQUEST_INVALID', expected)
        }
        const detail = { add: [...add], remove: [...remove] }
        const message = `tags of VM ${vm.report.name}: ${tags.join(', ') || 'none'}`
        const subject = `vm:${vmId}`
        const common = { atMs: act.nowMs, subject, detail }
        await tx.addEvent({ ...common, severity: 'info', type: 'vm.tags-changed', message })
        await tx.audit({ ...common, actor: act.actor, action: 'vm.tags-change', outcome: 'done' })
        return viewOf(tx, vm)
      }),
  }
}

export type TagActs = ReturnType<typeof createTags>

/**
 * To be asked once the caller was found to have a privilege at its place: of a VM that they may do nothing with, nobody says
 * whether it exists.
 *
 * @throws PlatformError `VM_NOT_FOUND`
 */
export async function requireVm(tx: ControlPlaneTransaction, vmId: string): Promise<StoredVm> {
  const vm = await tx.findVm(vmId)
  if (!vm) throw new PlatformError('VM_NOT_FOUND', `no host reported a VM ${vmId}`)
  return vm
}

/** One VM as people see it. */
export async function viewOf(tx: ControlPlaneTransaction, vm: StoredVm): Promise<VmView> {
  const [view] = await vmViews(tx, [vm])
  if (!view) throw new TypeError('one VM has one view')
  return view
}
