import { rm } from 'node:fs/promises'
import type { Socket } from 'node:net'
import type { VmDetails } from '../../api/host-agent.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import { isClosed } from './closed-directories.js'
import {
  acceptOne,
  connectTo,
  type LiveAddress,
  listenAt,
  parseLiveAddress,
} from './live-address.js'
import { LiveChannel } from './live-channel.js'
import { openOffer } from './live-handshake.js'
import type { Following } from './part-by-part.js'
import type { OnProgress } from './ports.js'
import { receiveVm } from './receive-vm.js'
import { removeVmDirectory } from './remove-vm.js'
import { findRunning } from './run.js'
import { sendVm } from './send-vm.js'
import type { Starting } from './snapshot-memory.js'
import { detailsOf } from './vm-details.js'
import type { VmHost } from './vm-host.js'
import { homeKey } from './vm-parts.js'

const ACCEPT_TIMEOUT_MS = 10 * 60_000

/** VMs that move to another host of the cluster while they run. */
export interface VmLive {
  /**
   * Moves a VM to the host that listens there. It is locked here then.
   *
   * @throws PlatformError `VM_STOPPED`, `VM_HOME_PLAIN`, `VM_LIVE`; the guest goes on here after any of them
   */
  send(name: string, request: { readonly to: string }, following?: Following): Promise<VmDetails>
  /**
   * Listens for one VM, ten minutes at most, and takes it.
   *
   * @param request.taskId remembered with the VM, for `factsOfBrought`
   * @throws PlatformError `REQUEST_INVALID`, `VM_EXISTS`, `VM_HAND_OVER`, `VM_LIVE`, of the key provider
   */
  receive(
    request: { readonly listen: string; readonly taskId?: string | undefined },
    following?: Following,
  ): Promise<VmDetails>
}

export function createVmLive(host: VmHost, deps: Starting): VmLive {
  const { store, logger } = host

  return {
    send: async (name, { to }, { onProgress = () => undefined, signal } = {}) => {
      const address = parseLiveAddress(to)
      await requireOpen(address, host.closedDirectories)
      return host.claim(
        name,
        'send',
        async (vm) => {
          const { vmId, provider } = vm.descriptor
          const record = await findRunning(vm.paths)
          if (!record) throw new PlatformError('VM_STOPPED', `VM ${name} does not run: export it`)
          if (provider === undefined) {
            throw new PlatformError('VM_HOME_PLAIN', `VM ${name} has no key to move under`)
          }
          await host.withKeys(vm, homeKey(vm.descriptor), async (_, opened) => {
            const socket = await connectTo(address)
            await sendVm(host, vm, {
              ...{ record, homeKey: opened.of('home'), socket, onProgress, signal },
            })
          })
          logger.info({ event: 'vm.sent', vmId, name, to }, 'a VM moved away while it ran')
          onProgress('done', 100)
          return detailsOf(await store.find(name))
        },
        { mayRun: true, withSnapshots: true },
      )
    },

    receive: async ({ listen, taskId }, { onProgress = () => undefined, signal } = {}) => {
      await store.prepare()
      const address = parseLiveAddress(listen)
      await requireOpen(address, host.closedDirectories)
      const socket = await acceptAt(address, onProgress, signal)
      using channel = new LiveChannel(socket)
      try {
        onProgress('keys', 0)
        using offer = await openOffer(host, channel, signal)
        const { name, vmId } = offer.descriptor
        return await host.onName(name, async () => {
          await makePlace(host, name, vmId)
          const accelerator = await deps.chooseAccelerator()
          const { firmware, lockMemory } = deps
          await receiveVm(host, offer, {
            channel,
            ...{ firmware, lockMemory, taskId },
            accelerator,
            onProgress,
          })
          logger.info({ event: 'vm.received', vmId, name }, 'a VM moved here while it ran')
          const vm = await store.find(name)
          await host.reports.tell(vm)
          onProgress('done', 100)
          return detailsOf(vm)
        })
      } catch (error) {
        await channel.fail(error)
        throw error
      }
    },
  }
}

/** @throws PlatformError `REQUEST_INVALID` for a socket in the directories of the agent */
async function requireOpen(address: LiveAddress, closed: readonly string[]): Promise<void> {
  if (!('path' in address) || !(await isClosed(address.path, closed))) return
  const expected = `expected a socket outside of the directories of the agent, found ${address.path}`
  throw new PlatformError('REQUEST_INVALID', expected)
}

/** The first connection that comes to an address. */
async function acceptAt(
  address: LiveAddress,
  onProgress: OnProgress,
  signal: AbortSignal | undefined,
): Promise<Socket> {
  const server = await listenAt(address)
  try {
    onProgress('listen', 0)
    return await acceptOne(server, { timeoutMs: ACCEPT_TIMEOUT_MS, signal })
  } finally {
    if ('path' in address) await rm(address.path, { force: true })
  }
}

/**
 * Makes place for a VM: what is left here of it, from before it moved away, goes when the control plane says that it is of
 * another host.
 *
 * @throws PlatformError `VM_EXISTS`
 */
async function makePlace(host: VmHost, name: string, vmId: string): Promise<void> {
  const { store, inventory, releases, programs } = host
  const found = (await store.list()).find(
    ({ descriptor }) => descriptor.name === name || descriptor.vmId === vmId,
  )
  if (!found) return
  const exists = new PlatformError('VM_EXISTS', `VM ${name} or another with its id exists`)
  if (!found.exported || found.descriptor.vmId !== vmId) throw exists
  try {
    await inventory.withdraw(vmId)
  } catch (error) {
    if (!isPlatformError(error, 'VM_HAND_OVER')) throw error
    const reason = messageOf(error)
    host.logger.info({ event: 'vm.leftover-removed', vmId, reason }, 'it is of another host')
    await releases.keepRecords(vmId, await store.readKeys(found))
    await removeVmDirectory(programs, await store.takeAway(found))
    return
  }
  throw exists
}
