import { messageOf } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import { lockReasonOf, readLock } from './lock.js'
import type { VmHost } from './vm-host.js'
import { allKeys } from './vm-parts.js'
import type { StoredVm } from './vm-store.js'

/** Pauses between attempts: doubling from the first to the longest, each between half and the whole of it. */
export interface UnlockPauses {
  readonly firstMs: number
  readonly longestMs: number
}

export const DEFAULT_UNLOCK_PAUSES: UnlockPauses = { firstMs: 5_000, longestMs: 10 * 60_000 }

/** Tries again to have the keys of locked VMs, until each is unlocked. */
export interface UnlockLoop extends AsyncDisposable {
  /** A VM was locked: tries soon, with short pauses again. */
  wake(): void
  /** Tries all locked VMs once; resolves when that is done. Never throws. */
  tryNow(): Promise<void>
}

/**
 * One pass over all locked VMs at a time. A provider that cannot be reached, or refuses, is asked once in a pass, not once
 * for each of its VMs. While no VM is locked there is no timer.
 */
export function createUnlockLoop(
  host: VmHost,
  options: {
    readonly pauses: UnlockPauses
    readonly random: () => number
    readonly logger: Logger
  },
): UnlockLoop {
  const { pauses, random, logger } = options
  let passes = 0
  let timer: NodeJS.Timeout | undefined
  let underWay: Promise<void> | undefined
  let isAgain = false
  let isWoken = false
  let isClosed = false

  const pass = async (): Promise<void> => {
    clearTimeout(timer)
    timer = undefined
    const silent = new Set<string>()
    let left = 0
    for (const vm of await lockedVms(host)) {
      const { name, provider = '' } = vm.descriptor
      if (silent.has(provider)) left += 1
      else {
        try {
          await tryKeys(host, name)
        } catch (error) {
          left += 1
          if (lockReasonOf(error) !== 'missing') silent.add(provider)
        }
      }
    }
    passes += 1
    if (left > 0 || isWoken) schedule()
    isWoken = false
  }

  const schedule = (): void => {
    clearTimeout(timer)
    if (isClosed) return
    const doubled = pauses.firstMs * 2 ** Math.min(passes - 1, 20)
    const pauseMs = Math.min(pauses.longestMs, doubled) * (0.5 + random() / 2)
    timer = setTimeout(() => void tryNow(), pauseMs)
    timer.unref()
  }

  const tryNow = async (): Promise<void> => {
    if (isClosed) return
    if (underWay !== undefined) {
      // what it waits for may have come after it began
      isAgain = true
      return underWay
    }
    underWay = (async () => {
      do {
        isAgain = false
        await pass().catch((error: unknown) => {
          const reason = messageOf(error)
          logger.error({ event: 'vm.unlock-failed', reason }, 'locked VMs could not be tried')
        })
      } while (isAgain && !isClosed)
    })()
    try {
      await underWay
    } finally {
      underWay = undefined
    }
  }

  return {
    wake() {
      // a pass that locks a VM goes on with its pauses
      if (underWay !== undefined) {
        isWoken = true
        return
      }
      passes = 1
      schedule()
    },
    tryNow() {
      passes = 0
      return tryNow()
    },
    async [Symbol.asyncDispose]() {
      isClosed = true
      clearTimeout(timer)
      await underWay
    },
  }
}

/**
 * Opens all keys of a VM and closes them again. It is unlocked if that works, and locked if it does not.
 *
 * @throws PlatformError of the key provider, `VM_BUSY`, `VM_HOME_CORRUPT`
 */
export function tryKeys(host: VmHost, name: string): Promise<StoredVm> {
  return host.onFreeVm(name, (vm) => host.withKeys(vm, allKeys(vm.descriptor), async () => vm))
}

async function lockedVms(host: VmHost): Promise<readonly StoredVm[]> {
  const vms = await host.store.list()
  const locks = await Promise.all(vms.map((vm) => readLock(vm.paths)))
  return vms.filter(({ exported }, index) => !exported && locks[index] !== undefined)
}
