import { rm } from 'node:fs/promises'
import { writePrivateFile } from '../vm/files.js'
import { nvramKey } from '../vm/nvram.js'
import type { VmKeys } from '../vm/vm-keys.js'
import type { StoredVm } from '../vm/vm-store.js'
import { domainSecrets } from './domain-xml.js'
import { encodeSecret, type LibvirtSecret } from './secrets.js'
import type { Virsh } from './virsh.js'

/**
 * Gives the secrets of a VM their values, in memory of libvirt. One that fails leaves none.
 *
 * @throws PlatformError `LIBVIRT_UNREACHABLE`, `LIBVIRT_REFUSED`
 */
export async function setSecrets(virsh: Virsh, vm: StoredVm, keys: VmKeys): Promise<void> {
  try {
    for (const secret of domainSecrets(vm)) {
      // one of an earlier agent, or of somebody else, might be of another kind: kept, or not private
      await virsh.undefineSecret(secret)
      await defineSecret(virsh, vm, secret)
      await setValue(virsh, vm, secret, keys)
    }
  } catch (error) {
    await clearSecrets(virsh, vm).catch(() => undefined)
    throw error
  }
}

/**
 * Takes secrets and values away. Each is tried; QEMU and swtpm of a domain that runs have what they need.
 *
 * @throws PlatformError the first failure, when all were tried
 */
export async function clearSecrets(virsh: Virsh, vm: StoredVm): Promise<void> {
  const failed: unknown[] = []
  for (const secret of domainSecrets(vm)) {
    await virsh.undefineSecret(secret).catch((error: unknown) => failed.push(error))
  }
  if (failed.length > 0) throw failed[0]
}

async function setValue(
  virsh: Virsh,
  vm: StoredVm,
  secret: LibvirtSecret,
  keys: VmKeys,
): Promise<void> {
  if (secret.object !== 'nvram') return virsh.setSecret(secret, keys.of(secret.object))
  using key = nvramKey(vm.descriptor.vmId, keys.of('home'))
  await virsh.setSecret(secret, key)
}

async function defineSecret(virsh: Virsh, vm: StoredVm, secret: LibvirtSecret): Promise<void> {
  const file = `${vm.paths.root}/libvirt-secret.xml`
  await rm(file, { force: true })
  try {
    await writePrivateFile(file, encodeSecret(secret))
    await virsh.defineSecret(file)
  } finally {
    await rm(file, { force: true })
  }
}
