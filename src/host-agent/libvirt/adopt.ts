import { realpath } from 'node:fs/promises'
import type { DomainAdopt } from '../../api/libvirt.js'
import { PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import { readSecretFile } from '../../core/secret-file.js'
import type { VmOrigin } from '../vm/create-vm.js'
import { isThere } from '../vm/files.js'
import { checkSpec, type VmSpec } from '../vm/vm-spec.js'
import { importVtpm } from './import-vtpm.js'
import { type Adoption, planAdoption } from './plan-adoption.js'
import type { Virsh } from './virsh.js'

/** The domain that a VM was adopted from, in its directory: `editDomain` makes of it the one that it is. */
const ORIGIN_FILE = 'libvirt-origin.xml'

/** A VM that is to be made of a domain. Secrets are in it: dispose of it. */
export interface AdoptedVm extends Disposable {
  readonly vmId: string
  readonly spec: VmSpec
  readonly origin: VmOrigin
}

/**
 * Reads a domain and what it takes to make a VM of it. Nothing is changed.
 *
 * @throws PlatformError `LIBVIRT_DOMAIN`, `VM_RUNNING`, `REQUEST_INVALID`; `FILE_MODE` or `CONFIG_UNREADABLE` of a passphrase
 */
export async function openDomain(
  request: DomainAdopt & { readonly provider: string },
  deps: { readonly virsh: Virsh; readonly swtpmDirectory: string },
): Promise<AdoptedVm> {
  const plan = planAdoption(request)
  await requireAtRest(deps.virsh, plan)
  const secrets: Secret[] = []
  const dispose = () => {
    for (const secret of secrets) secret.dispose()
  }
  const passphraseOf = (file: string | undefined): Secret | undefined => {
    if (file === undefined) return undefined
    const secret = readSecretFile(file)
    secrets.push(secret)
    return secret
  }
  try {
    const vtpmPassphrase = passphraseOf(request.vtpmPassphraseFile)
    const { name, memoryMib, cpus, nvram } = plan
    const disks = await Promise.all(
      plan.disks.map(async (disk) => ({ ...disk, from: await pathOf(disk.file) })),
    )
    const spec = checkSpec({
      ...{ name, provider: request.provider, memoryMib, cpus, vtpm: plan.vtpm !== 'none' },
      disks: disks.map(({ name, from }) => ({ name, from })),
    })
    const passphrases = disks.map(({ passphraseFile }) => passphraseOf(passphraseFile))
    const stateFile = `${deps.swtpmDirectory}/${plan.vmId}/tpm2/tpm2-00.permall`
    // a TPM that was never started has no state yet
    const isImported = plan.vtpm === 'keep' && (await isThere(stateFile))
    return {
      vmId: plan.vmId,
      spec: {
        ...spec,
        disks: spec.disks.map((disk, index) => ({ ...disk, passphrase: passphrases[index] })),
      },
      origin: {
        files: { [ORIGIN_FILE]: request.xml },
        nvram: nvram !== undefined && (await isThere(nvram)) ? nvram : undefined,
        vtpm: isImported
          ? (paths, dek) => importVtpm(stateFile, vtpmPassphrase, paths, dek)
          : undefined,
      },
      [Symbol.dispose]: dispose,
    }
  } catch (error) {
    dispose()
    throw error
  }
}

/** @throws PlatformError `VM_RUNNING`, `LIBVIRT_DOMAIN` where libvirt has more of the domain than its disks */
async function requireAtRest(virsh: Virsh, { vmId, name }: Adoption): Promise<void> {
  const state = await virsh.domainState(vmId)
  if (state === undefined) return
  if (state !== 'shut off') {
    throw new PlatformError('VM_RUNNING', `libvirt says that domain ${name} is ${state}`)
  }
  const kept = await virsh.keptOf(vmId)
  if (kept !== undefined) throw new PlatformError('LIBVIRT_DOMAIN', `domain ${name} has ${kept}`)
}

/** Links that lead to a disk are libvirt's to follow, and are followed here, once. */
function pathOf(file: string): Promise<string> {
  return realpath(file).catch((cause) => {
    throw new PlatformError('LIBVIRT_DOMAIN', `there is no disk ${file}`, { cause })
  })
}
