import type { VmDetails } from '../../api/host-agent.js'
import type { ApplyPolicy } from '../../api/vm-policy.js'
import { ERROR_CODES } from '../../core/error-codes.js'
import { isPlatformError, PlatformError } from '../../core/errors.js'
import {
  nameOfPart,
  type PolicyStep,
  partsToOpen,
  planPolicyChange,
  type VmProtection,
  type WantedParts,
} from '../../storage-policies/index.js'
import { changeDisk, changeHome, changeProvider, type Work } from './change-part.js'
import { doSteps, type EncryptionOptions } from './part-by-part.js'
import type { Descriptor } from './records.js'
import { detailsOf } from './vm-details.js'
import type { VmHost } from './vm-host.js'
import { type KeyObject, unwrapKeys } from './vm-keys.js'
import { allKeys } from './vm-parts.js'
import type { StoredVm } from './vm-store.js'

const UNAVAILABLE = 503

export interface VmPolicies {
  /**
   * Brings a VM to what storage policies ask of its parts: the home is encrypted first and decrypted last, disks between,
   * each wholly or not at all. After an interruption, the same request does what is left. Nothing is done, and the VM may
   * run, where it is as wanted.
   *
   * Every key that a step opens is opened before the first one is taken, so that nothing is begun that cannot be ended.
   *
   * @throws PlatformError `REQUEST_INVALID`, what `planPolicyChange` refuses, `VM_RUNNING`, `VM_SNAPSHOTS`, `VM_BUSY`,
   *   `VM_KEYS_NEEDED`, and what encryption and decryption of parts throw
   */
  applyPolicy(
    name: string,
    request: Omit<ApplyPolicy, 'compare'> & {
      /** Where neither the request nor the VM names one. */
      readonly defaultProvider?: string | undefined
    },
    options?: EncryptionOptions,
  ): Promise<VmDetails>
}

export function createVmPolicies(host: VmHost): VmPolicies {
  return {
    applyPolicy: async (name, request, options = {}) => {
      const wanted = wantedOf(request)
      const plan = ({ descriptor }: StoredVm): readonly PolicyStep[] =>
        planPolicyChange(protectionOf(descriptor), wanted, request.defaultProvider)
      const asWanted = await host.onFreeVm(name, async (vm) =>
        plan(vm).length === 0 ? detailsOf(vm) : undefined,
      )
      if (asWanted) {
        options.onProgress?.('done', 100)
        return asWanted
      }
      return host.claim(name, 'apply-policy', async (vm) => {
        const steps = plan(vm)
        await requireKeys(host, vm, steps)
        return doSteps(host, vm, { operation: 'apply-policy', options, steps }, takeStep(host))
      })
    },
  }
}

/** How a VM is encrypted, as rules about storage policies see it. */
export function protectionOf({ name, provider, vtpm, disks }: Descriptor): VmProtection {
  return {
    ...{ name, vtpm },
    ...(provider === undefined ? {} : { provider }),
    disks: disks.map(({ name, plain }) => ({ name, encrypted: !plain })),
  }
}

/** @throws PlatformError `REQUEST_INVALID` */
function wantedOf({ home, disks = [] }: ApplyPolicy): WantedParts {
  const named = new Map(disks.map(({ name, ...wanted }) => [name, wanted]))
  if (named.size < disks.length) throw invalid('expected each disk once')
  for (const { encrypted, provider } of [...(home ? [home] : []), ...disks]) {
    if (encrypted || provider === undefined) continue
    throw invalid(`expected no key provider for a part that is to be plain, found ${provider}`)
  }
  return { home, disks: named }
}

function takeStep(host: VmHost) {
  return (vm: StoredVm, step: PolicyStep, work: Work): Promise<void> => {
    const { part } = step
    if (step.do === 'change-provider') return changeProvider(host, vm, step.provider, work)
    if (part === 'home') {
      return changeHome(host, vm, step.do === 'encrypt' ? step.provider : undefined, work)
    }
    const to = step.do === 'encrypt' ? 'encrypted' : 'plain'
    return changeDisk(host, vm, part.slice('disk-'.length), to, work)
  }
}

/** @throws PlatformError `VM_KEYS_NEEDED`; as the key provider said where it cannot be asked now */
async function requireKeys(
  host: VmHost,
  vm: StoredVm,
  steps: readonly PolicyStep[],
): Promise<void> {
  const { vmId, name, provider } = vm.descriptor
  if (provider === undefined) return
  const objects = keysToOpen(vm, steps)
  const records = await host.store.readKeys(vm)
  const open = async (wanted: readonly KeyObject[]): Promise<void> => {
    const { keys, assurance } = host
    using _ = await unwrapKeys(keys, { vmId, provider, objects: wanted, records, assurance })
  }
  try {
    await open(objects)
  } catch (cause) {
    await host.lock(vm, cause)
    if (!isPlatformError(cause) || ERROR_CODES[cause.code].status === UNAVAILABLE) throw cause
    const closed: string[] = []
    for (const object of objects) {
      await open([object]).catch(() => closed.push(wordsFor(object)))
    }
    const which = closed.join(', ') || 'all parts'
    const expected = `expected every key that the change of VM ${name} needs, found none for ${which} (${cause.code}): ${cause.message}`
    throw new PlatformError('VM_KEYS_NEEDED', expected, { cause })
  }
}

/** Of the keys that the VM has now. Those of its virtual TPM are wrapped anew with the others. */
function keysToOpen({ descriptor }: StoredVm, steps: readonly PolicyStep[]): readonly KeyObject[] {
  const all = allKeys(descriptor)
  if (steps.some((step) => step.do === 'change-provider')) return all
  const vm = protectionOf(descriptor)
  const wanted = new Set<string>(steps.flatMap((step) => partsToOpen(vm, step)))
  return all.filter((object) => wanted.has(object))
}

function wordsFor(object: KeyObject): string {
  return object === 'vtpm' || object === 'vtpm-migration' ? object : nameOfPart(object)
}

function invalid(message: string): PlatformError {
  return new PlatformError('REQUEST_INVALID', message)
}
