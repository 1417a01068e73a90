import { timingSafeEqual } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import { explainFull } from './disk-space.js'
import { replacePrivateFile, writePrivateFile } from './files.js'
import { sealHome } from './home.js'
import type { VmPaths } from './layout.js'
import { commitChange, type FileChange, stageChange } from './pending-change.js'
import { descriptorOf, encodeRecord, type Home, type KeyRecord } from './records.js'
import type { VmHost } from './vm-host.js'
import { type KeyObject, unwrapKeys, type VmKeys, wrapKeys } from './vm-keys.js'
import type { StoredVm } from './vm-store.js'

/** What becomes of a VM, beside files that were made for it. */
export interface VmChange {
  readonly home: Home
  /** Seals the home; undefined where the home is to be plain. */
  readonly homeKey: Secret | undefined
  /** In the place of those of the same objects. */
  readonly newKeys: readonly KeyRecord[]
  readonly goneKeys: readonly KeyObject[]
  /** Beside the records of the VM. */
  readonly files: FileChange
}

/**
 * Changes a VM that this operation has claimed: what `make` put into the staged files and what it returns become the VM
 * in one moment. When `make` fails or the signal comes before that moment, the VM is as it was.
 *
 * @param options.onStep called before each of the steps `commit`, `place`, `erase`
 * @param options.hasTurn the operation has not claimed the VM, but its turn on it
 */
export async function changeVm(
  host: VmHost,
  vm: StoredVm,
  options: {
    readonly onStep?: (step: string) => void
    readonly signal?: AbortSignal | undefined
    readonly hasTurn?: boolean
  },
  make: (staged: VmPaths) => Promise<VmChange>,
): Promise<void> {
  const { programs, store } = host
  try {
    const staged = await stageChange(vm.paths)
    const change = await make(staged)
    options.signal?.throwIfAborted()
    const commit = async (): Promise<void> => {
      const before = await store.readKeys(vm)
      const files = await writeRecords(host, vm, staged, change)
      await commitChange(programs, vm.paths, files, options.onStep ?? (() => undefined))
      await host.releases.noteRecords(vm.descriptor.vmId, before)
    }
    await (options.hasTurn ? commit() : host.onVm(vm.descriptor.name, commit))
  } catch (error) {
    const reason = await explainFull(store.directory, error)
    if ((await host.settleChange(vm)) !== 'completed') throw reason
  }
}

/**
 * Has keys of a VM wrapped, new ones unless told, and unwrapped again: nothing is thrown away for keys that cannot come back. They are in
 * the staged records from the first moment, so that they are released when the change is undone.
 *
 * @throws PlatformError of the key provider; `VM_KEY_WRONG`
 */
export async function wrapNewKeys(
  host: VmHost,
  vm: StoredVm,
  staged: VmPaths,
  options: {
    readonly provider: string
    readonly objects: readonly KeyObject[]
    readonly keys: VmKeys
    /** They are the keys that the VM has, and keep their generation. */
    readonly areSame?: boolean
  },
): Promise<readonly KeyRecord[]> {
  const { provider, objects, keys, areSame = false } = options
  if (objects.length === 0) return []
  const { vmId } = vm.descriptor
  const wrapped = await wrapKeys(host.keys, { vmId, ...options })
  await writePrivateFile(staged.keys, encodeRecord({ format: 1, keys: wrapped }))
  const request = { vmId, provider, objects, records: wrapped, assurance: host.assurance }
  using back = await unwrapKeys(host.keys, request)
  for (const object of objects) {
    if (!keys.of(object).use((one) => back.of(object).use((two) => timingSafeEqual(one, two)))) {
      throw new PlatformError('VM_KEY_WRONG', `the wrapped key of ${object} unwraps to another key`)
    }
  }
  const before = await host.store.readKeys(vm)
  return wrapped.map((record) => ({
    ...record,
    generation: generationOf(before, record.object) + (areSame ? 0 : 1),
  }))
}

function generationOf(records: readonly KeyRecord[], object: string): number {
  return records.find((record) => record.object === object)?.generation ?? 0
}

async function writeRecords(
  host: VmHost,
  vm: StoredVm,
  staged: VmPaths,
  change: VmChange,
): Promise<FileChange> {
  const { home, homeKey, newKeys, goneKeys, files } = change
  const { vmId } = vm.descriptor
  // read now: meanwhile keys of other objects may have been wrapped anew
  const kept = (await host.store.readKeys(vm)).filter(
    ({ object }) =>
      !newKeys.some((record) => record.object === object) &&
      !goneKeys.some((gone) => gone === object),
  )
  const keys = [...kept, ...newKeys]
  await replacePrivateFile(staged.root, 'keys.json', encodeRecord({ format: 1, keys }))
  const descriptor = descriptorOf(home, vm.descriptor)
  await writePrivateFile(staged.descriptor, encodeRecord(descriptor))
  if (homeKey) {
    const generation = generationOf(keys, 'home')
    await writePrivateFile(staged.home, sealHome(home, vmId, generation, homeKey))
  } else {
    await writePrivateFile(staged.plainHome, encodeRecord(home))
  }
  const isHomeOther = (vm.descriptor.provider === undefined) !== (homeKey === undefined)
  const [homeFile, otherFile] = homeKey ? ['home.enc', 'home.json'] : ['home.json', 'home.enc']
  return {
    ...files,
    put: [...(files.put ?? []), 'keys.json', homeFile, 'vm.json'],
    drop: [...(files.drop ?? []), ...(isHomeOther ? [otherFile] : [])],
  }
}
