import { isThere } from './files.js'
import { pathsOf } from './layout.js'
import { resumeStopped } from './machine-state.js'
import { settleReceived } from './receive-vm.js'
import { removeVmDirectory } from './remove-vm.js'
import { findRunning, isUnsettled } from './run.js'
import { removeUnfinishedSnapshots } from './snapshot-files.js'
import type { VmHost } from './vm-host.js'

const UUID_CHARACTERS = 36

/**
 * Removes what an agent left that was ended while it made, started, moved or deleted a VM, completes or undoes changes that it
 * left, takes up VMs that run, and reports all.
 */
export async function recoverVms(host: VmHost): Promise<void> {
  const { store, programs, releases, logger } = host
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
        await resumeStopped(found, logger)
      } else if (await isUnsettled(found.paths)) await host.settle(found)
      await host.reports.tell(found)
    })
  }
}
