import type { VmAttestation } from '../../api/guest-channel.js'
import { type Clock, isoTime } from '../../core/clock.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import type { Inventory, InventoryVm } from '../vm/index.js'
import type { GuestAnswers } from './answer-guest.js'
import { type GuestChannel, openGuestChannel } from './guest-channel.js'

/** Where the port of a VM is, and what is known of its virtual TPM. */
export interface GuestPlaces {
  /** Unix socket that QEMU listens on while the VM runs. */
  socketOf(vmId: string): string
  /** PEM */
  certificatesOf(vmId: string): Promise<readonly string[]>
}

interface Guest {
  readonly name: string
  readonly channel?: GuestChannel
  last?: NonNullable<VmAttestation['last']>
}

/**
 * Listens to every VM of this host that runs and has a virtual TPM, from when it is known to run until it is known to have
 * stopped.
 */
export function openGuestDoor(deps: {
  readonly answers: GuestAnswers
  readonly places: GuestPlaces
  readonly clock: Clock
  readonly logger: Logger
}) {
  const { answers, places, clock, logger } = deps
  const guests = new Map<string, Guest>()

  const listen = (vmId: string): GuestChannel => {
    const vm = { vmId, certificates: () => places.certificatesOf(vmId) }
    const note = (last: Omit<NonNullable<VmAttestation['last']>, 'at'>) => {
      const guest = guests.get(vmId)
      if (guest) guest.last = { at: isoTime(clock.nowMs()), ...last }
    }
    return openGuestChannel({
      path: places.socketOf(vmId),
      vmId,
      answer: async (request) => {
        try {
          const answer = await answers.answer(vm, request)
          if ('token' in answer) note({ accepted: true, expiresAt: answer.expiresAt })
          return answer
        } catch (error) {
          const code = isPlatformError(error) ? error.code : 'INTERNAL'
          note({ accepted: false, code, message: messageOf(error) })
          throw error
        }
      },
      monotonicMs: () => clock.monotonicMs(),
      logger,
    })
  }

  const update = async ({ vmId, name, state, vtpm }: InventoryVm): Promise<void> => {
    const before = guests.get(vmId)
    const shouldListen = state === 'running' && vtpm
    const last = before?.last ? { last: before.last } : {}
    if (shouldListen) {
      guests.set(vmId, { name, channel: before?.channel ?? listen(vmId), ...last })
      return
    }
    guests.set(vmId, { name, ...last })
    await before?.channel?.[Symbol.asyncDispose]()
  }

  const forget = async (vmId: string): Promise<void> => {
    const guest = guests.get(vmId)
    guests.delete(vmId)
    await guest?.channel?.[Symbol.asyncDispose]()
  }

  return {
    /** The same inventory, which tells this door of VMs too. */
    watching: (inventory: Inventory): Inventory => ({
      ...inventory,
      async report(vm) {
        await update(vm)
        await inventory.report(vm)
      },
      async take(vm, by) {
        await inventory.take(vm, by)
        await update(vm)
      },
      async forget(vmId) {
        await forget(vmId)
        await inventory.forget(vmId)
      },
    }),

    /** @throws PlatformError `VM_NOT_FOUND` */
    statusOf(name: string): VmAttestation {
      for (const [vmId, guest] of guests) {
        if (guest.name !== name) continue
        const { channel, last } = guest
        return { vmId, connected: channel?.isConnected ?? false, ...(last ? { last } : {}) }
      }
      throw new PlatformError('VM_NOT_FOUND', `no VM ${name} is known on this host`)
    },

    async [Symbol.asyncDispose]() {
      for (const vmId of [...guests.keys()]) await forget(vmId)
    },
  }
}

export type GuestDoor = ReturnType<typeof openGuestDoor>
